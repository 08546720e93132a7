// ServerConnection: pulls requests out of the parser one by one, and sends answers in order.
// Not re-entrant by design: calls from the user only record, the turn's end does the work.
#include "proxy/http1/server_connection.h"

#include <utility>

#include "proxy/base/assert.h"

namespace proxy::http1 {
namespace {

// Pipelined bytes that may wait in memory; behind them the kernel, then the client, waits.
constexpr std::size_t kPipelined = 16 * 1024;

}  // namespace

ServerConnection::ServerConnection(std::unique_ptr<net::Transport> transport,
                                   http::RequestHandler& handler,
                                   http::ServerConnectionOwner& owner,
                                   const ServerConnectionOptions& options)
    : loop_(transport->loop()),
      transport_(std::move(transport)),
      handler_(handler),
      owner_(owner),
      options_(options),
      slot_(*this),
      parser_(options_.limits),
      credit_(options_.credit_bytes),
      timer_(loop_, [this] { on_timer(); }) {}

ServerConnection::~ServerConnection() = default;

void ServerConnection::start() {
  transport_->start(*this);
  wait_for_request();
}

// --- from the transport ------------------------------------------------------------------------

void ServerConnection::on_bytes(Chain bytes) {
  switch (phase_) {
    case Phase::closed:
    case Phase::refused:
      return;
    case Phase::lingering:
      thrown_away_ += bytes.size();
      if (thrown_away_ > options_.linger_bytes) close_now({});
      return;
    case Phase::ended:
      in_.append_compact(loop_.chunks(), std::move(bytes));
      if (in_.size() >= kPipelined) transport_->set_reading(false);
      return;
    default:
      break;
  }
  in_.append(std::move(bytes));
  process();
}

void ServerConnection::on_eof() {
  eof_ = true;
  process();
}

void ServerConnection::on_sent(std::size_t bytes) {
  const std::size_t body = outbox_.sent(bytes);
  if (body > 0 && has_stream()) slot_.user->on_sent(body);
  finish_when_sent();
}

void ServerConnection::on_closed(Error why) {
  fail(make_error(Code::downstream_closed, Side::downstream, why.detail));
}

// --- the request -------------------------------------------------------------------------------

bool ServerConnection::may_parse() const noexcept {
  switch (phase_) {
    case Phase::idle:
    case Phase::head:
    case Phase::discarding:
      return true;
    case Phase::body:
      return credit_.may_read();
    default:
      return false;
  }
}

void ServerConnection::process() {
  while (may_parse()) {
    const std::size_t before = in_.size();
    const Step step = parser_.next(in_);
    received_ += before - in_.size();
    if (!take_step(step)) break;
  }
  if (phase_ == Phase::tunnel) pump_tunnel();
  if (phase_ == Phase::body || phase_ == Phase::tunnel) {
    transport_->set_reading(credit_.may_read());
  } else if (phase_ == Phase::ended) {
    transport_->set_reading(in_.size() < kPipelined);
  }
  if (eof_) check_eof();
}

// False when there is nothing more to take for now.
bool ServerConnection::take_step(Step step) {
  switch (step) {
    case Step::more:
    case Step::informational:
      return false;
    case Step::started:
      begin_request();
      return true;
    case Step::head:
      phase_ = Phase::body;
      head_request_ = parser_.head().method == http::Method::head;
      old_client_ = parser_.head().version == http::Version::http10;
      expects_continue_ = parser_.head().expect_continue;
      client_keeps_alive_ = parser_.keep_alive();
      if (has_stream()) slot_.user->on_head(parser_.head());
      return true;
    case Step::body:
      tell_body(parser_.take_body());
      return true;
    case Step::end:
      tell_end();
      return true;
    case Step::refused:
      tell_refused();
      return false;
  }
  return false;
}

void ServerConnection::begin_request() {
  timer_.stop();
  phase_ = Phase::head;
  answer_ = Answer::none;
  received_ = 0;
  outbox_.reset();
  head_request_ = old_client_ = expects_continue_ = continued_ = body_seen_ = false;
  request_complete_ = cut_by_close_ = owes_end_ = false;
  client_keeps_alive_ = true;
  ++requests_;
  handler_.on_request_started(slot_);
  ASSERT(has_stream() || phase_ == Phase::closed);
}

void ServerConnection::tell_body(Chain body) {
  if (phase_ == Phase::discarding) {
    thrown_away_ += body.size();
    if (thrown_away_ > options_.early_drain_bytes) close_politely();
    return;
  }
  body_seen_ = true;
  credit_.delivered(body.size());
  if (has_stream()) slot_.user->on_data(std::move(body));
}

void ServerConnection::tell_end() {
  request_complete_ = true;
  if (phase_ == Phase::discarding) {
    wait_for_request();
    return;
  }
  phase_ = Phase::ended;
  if (parser_.head_had_upgrade() && answer_ == Answer::none) {
    owes_end_ = true;
    return;
  }
  if (has_stream()) slot_.user->on_end(std::move(parser_.trailers()));
}

// The answer to an Upgrade was no: the request is over like any other.
void ServerConnection::tell_owed_end() {
  if (!std::exchange(owes_end_, false) || tunnel_) return;
  if (has_stream()) slot_.user->on_end({});
}

void ServerConnection::tell_refused() {
  in_.clear();
  must_close_ = true;
  if (phase_ == Phase::discarding) {
    close_politely();
    return;
  }
  phase_ = Phase::refused;
  transport_->set_reading(true);
  if (!has_stream()) return;
  slot_.user->on_refused(
      make_error(parser_.code(), Side::downstream, http::detail_of(parser_.fault())));
}

void ServerConnection::pump_tunnel() {
  if (in_.empty() || !credit_.may_read()) return;
  received_ += in_.size();
  credit_.delivered(in_.size());
  slot_.user->on_data(std::move(in_));
}

// The client has ended its half, and all that came before is dealt with or waits for credit.
void ServerConnection::check_eof() {
  switch (phase_) {
    case Phase::closed:
    case Phase::refused:
      return;
    case Phase::idle:
    case Phase::discarding:
      transport_->shutdown_write();
      close_now({});
      return;
    case Phase::lingering:
      close_now({});
      return;
    case Phase::head:
    case Phase::body:
      // Bytes that wait for credit may hold the rest of the request.
      if (in_.empty()) fail(make_error(Code::downstream_closed, Side::downstream));
      return;
    case Phase::ended:
      if (in_.empty()) must_close_ = true;  // else pipelined requests came before it
      if (!has_stream() || answer_ != Answer::none || timer_.running()) return;
      if (options_.half_close_grace.count() == 0) {
        fail(make_error(Code::downstream_closed, Side::downstream));
      } else {
        timer_.start(options_.half_close_grace);
      }
      return;
    case Phase::tunnel:
      if (!in_.empty() || request_complete_) return;
      request_complete_ = true;
      slot_.user->on_end({});
      finish_when_sent();
      return;
  }
}

// --- the response ------------------------------------------------------------------------------

void ServerConnection::Slot::send_informational(http::ResponseHead& head) {
  ServerConnection& c = connection_;
  if (c.answer_ != Answer::none || c.old_client_ || c.phase_ == Phase::closed) return;
  c.continued_ = c.continued_ || head.status == 100;
  write_informational(c.loop_.chunks(), c.outbox_.heads(), head);
  c.loop_.mark_dirty(c);
}

// What marks the end of this response's body, and whether there is none whatever the user sends.
OutgoingBody ServerConnection::choose_body(const http::ResponseHead& head, bool& discard) {
  const bool bodiless = head_request_ || head.status == 204 || head.status == 304;
  discard = bodiless;
  if (head.status == 204) return {};
  if (bodiless && head.has_declared_length) return {BodyForm::length, head.declared_length};
  switch (head.body.kind) {
    case http::BodyLength::Kind::known:
      return {BodyForm::length, head.body.bytes};
    case http::BodyLength::Kind::none:
      if (bodiless) return {};
      return {BodyForm::length, 0};
    case http::BodyLength::Kind::unknown:
      break;
  }
  if (bodiless) return {};
  if (!old_client_) return {BodyForm::chunked, 0};
  must_close_ = true;
  cut_by_close_ = true;
  return {BodyForm::until_close, 0};
}

void ServerConnection::Slot::send_head(http::ResponseHead& head) {
  ServerConnection& c = connection_;
  ASSERT(c.answer_ == Answer::none);
  if (c.phase_ == Phase::closed) return;
  if (c.phase_ == Phase::ended) c.timer_.stop();  // the grace of a client that half-closed
  c.answer_ = Answer::body;
  ChunkPool& pool = c.loop_.chunks();
  const std::string_view date = c.date_.at(c.loop_.now_us());
  if (head.status == 101) {
    c.tunnel_ = true;
    c.cut_by_close_ = true;
    c.must_close_ = true;
    write_response_head(pool, c.outbox_.heads(), head, {}, Persistence::implied, date);
    c.outbox_.begin_body({BodyForm::until_close, 0}, false);
    if (c.phase_ == Phase::ended) {
      c.phase_ = Phase::tunnel;
      c.request_complete_ = false;
      c.resume();
    }
  } else {
    bool discard = false;
    const OutgoingBody body = c.choose_body(head, discard);
    // Who waits for a 100 that never came may send its body or not: nobody can tell.
    const bool in_doubt =
        c.expects_continue_ && !c.continued_ && !c.body_seen_ && c.phase_ != Phase::ended;
    if (c.draining_ || in_doubt || !c.client_keeps_alive_ || c.phase_ == Phase::head ||
        (c.options_.max_requests != 0 && c.requests_ >= c.options_.max_requests)) {
      c.must_close_ = true;
    }
    Persistence persistence = Persistence::implied;
    if (c.must_close_) {
      persistence = Persistence::close;
    } else if (c.old_client_) {
      persistence = Persistence::keep_alive;
    }
    write_response_head(pool, c.outbox_.heads(), head, body, persistence, date);
    c.outbox_.begin_body(body, discard);
  }
  c.loop_.mark_dirty(c);
}

void ServerConnection::Slot::send_data(Chain body) {
  ServerConnection& c = connection_;
  ASSERT(c.answer_ == Answer::body || c.phase_ == Phase::closed);
  if (c.phase_ == Phase::closed) return;
  // More than Content-Length said: the connection must not live on with it.
  if (!c.outbox_.add(c.loop_.chunks(), std::move(body))) c.cut_by_close_ = c.must_close_ = true;
  c.loop_.mark_dirty(c);
}

void ServerConnection::Slot::send_end(http::HeaderMap trailers) {
  ServerConnection& c = connection_;
  ASSERT(c.answer_ == Answer::body || c.phase_ == Phase::closed);
  if (c.phase_ == Phase::closed) return;
  if (!c.outbox_.end(std::move(trailers))) {
    // Not what Content-Length said: the client must see a cut, and the user hears of it.
    c.broke_promise_ = true;
    c.loop_.mark_dirty(c);
    return;
  }
  c.answer_ = Answer::ended;
  c.loop_.mark_dirty(c);
}

void ServerConnection::Slot::consume(std::size_t bytes) {
  ServerConnection& c = connection_;
  if (c.phase_ == Phase::closed) return;
  const bool could = c.credit_.may_read();
  c.credit_.consumed(bytes);
  if (!could && c.credit_.may_read()) c.resume();
}

void ServerConnection::Slot::reset(Error why) {
  user.cut();
  connection_.fail(why);
}

void ServerConnection::flush() {
  if (phase_ == Phase::closed) return;
  Chain bytes = outbox_.take(loop_.chunks());
  if (!bytes.empty()) transport_->write(std::move(bytes));
  if (tunnel_ && answer_ == Answer::ended && !write_ended_) {
    write_ended_ = true;
    transport_->shutdown_write();
  }
  // A last byte may have left before its end was known; discarded bytes never leave.
  resume();
}

void ServerConnection::run_at_turn_end() {
  if (phase_ == Phase::closed) {
    if (!std::exchange(told_owner_, true)) owner_.on_closed(*this, close_reason_);
    return;
  }
  if (broke_promise_) {
    fail(make_error(Code::system, Side::local));
    return;
  }
  const std::size_t discarded = outbox_.take_discarded();
  if (discarded > 0 && has_stream()) slot_.user->on_sent(discarded);
  if (owes_end_ && answer_ != Answer::none) tell_owed_end();
  finish_when_sent();
  if (phase_ != Phase::closed) process();
}

void ServerConnection::finish_when_sent() {
  if (phase_ == Phase::closed || answer_ != Answer::ended || !outbox_.drained()) return;
  if (tunnel_ && !request_complete_) return;
  if (has_stream()) finish_response();
}

void ServerConnection::finish_response() {
  if (owes_end_) tell_owed_end();
  http::RequestUser* user = slot_.user.get();
  if (user == nullptr) return;
  slot_.user.cut();
  user->on_done(wire(), request_complete_);
  if (phase_ == Phase::closed) return;
  answer_ = Answer::none;
  credit_.clear();
  if (must_close_ || tunnel_) {
    close_politely();
  } else if (request_complete_) {
    wait_for_request();
  } else {
    phase_ = Phase::discarding;
    thrown_away_ = 0;
    if (parser_.body().kind() == BodyReader::Kind::length &&
        parser_.body().left() > options_.early_drain_bytes) {
      close_politely();
      return;
    }
    timer_.start(options_.linger_timeout);
    transport_->set_reading(true);
    resume();
  }
}

// --- between requests, and the end ---------------------------------------------------------------

void ServerConnection::wait_for_request() {
  phase_ = Phase::idle;
  parser_.reset();
  if (must_close_ || (eof_ && in_.empty())) {
    close_politely();
    return;
  }
  transport_->set_reading(true);
  if (draining_) {
    timer_.start(options_.drain_grace);
  } else if (options_.idle_timeout.count() > 0) {
    timer_.start(options_.idle_timeout);
  } else {
    timer_.stop();  // of a body that was thrown away
  }
  if (!in_.empty()) resume();
}

void ServerConnection::begin_drain() {
  if (std::exchange(draining_, true) || !idle()) return;
  // The client was not told: its next request may be in the kernel or on the wire.
  timer_.start(options_.drain_grace);
}

void ServerConnection::abort(Error why) {
  fail(why);
}

// Ends whatever is there; a response that was cut is seen to be cut.
void ServerConnection::fail(Error why) {
  if (phase_ == Phase::closed) return;
  if (cut_by_close_ && answer_ != Answer::none) transport_->abort_on_close();
  http::RequestUser* user = slot_.user.get();
  const http::Wire wire = this->wire();
  slot_.user.cut();
  close_now(why);
  if (user != nullptr) user->on_reset(why, wire);
}

void ServerConnection::close_politely() {
  const bool nothing_comes = eof_ || (!client_keeps_alive_ && request_complete_ && in_.empty());
  in_.clear();
  if (!write_ended_) transport_->shutdown_write();
  write_ended_ = true;
  if (nothing_comes) {
    close_now({});
    return;
  }
  phase_ = Phase::lingering;
  thrown_away_ = 0;
  transport_->set_reading(true);
  timer_.start(options_.linger_timeout);
}

void ServerConnection::close_now(Error why) {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  close_reason_ = why;
  timer_.stop();
  in_.clear();
  credit_.clear();
  outbox_.reset();
  resume();
}

void ServerConnection::on_timer() {
  if (phase_ == Phase::ended) {
    fail(make_error(Code::downstream_closed, Side::downstream));
    return;
  }
  if (phase_ == Phase::idle) transport_->shutdown_write();
  close_now(phase_ == Phase::idle ? make_error(Code::idle, Side::local) : Error{});
}

}  // namespace proxy::http1
