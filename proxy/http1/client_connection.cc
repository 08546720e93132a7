// ClientConnection: one request out, one response in, and strict about everything else that comes.
// Not a retrier: it says what may be replayed, others replay.
#include "proxy/http1/client_connection.h"

#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http/text.h"

namespace proxy::http1 {

ClientConnection::ClientConnection(std::unique_ptr<net::Transport> transport,
                                   http::ClientConnectionOwner& owner,
                                   const ClientConnectionOptions& options)
    : loop_(transport->loop()),
      transport_(std::move(transport)),
      owner_(owner),
      options_(options),
      slot_(*this),
      parser_(options_.limits),
      credit_(options_.credit_bytes),
      linger_(loop_, [this] {
        transport_->abort_on_close();
        close_now(make_error(Code::upstream_closed, Side::upstream));
      }) {}

ClientConnection::~ClientConnection() = default;

void ClientConnection::start() {
  transport_->start(*this);
}

std::size_t ClientConnection::free_slots() const noexcept {
  return phase_ == Phase::idle && !draining_ && !eof_ && !free_again_ ? 1 : 0;
}

http::ClientStream* ClientConnection::open_stream(http::ResponseUser& user) {
  ASSERT(free_slots() == 1);
  phase_ = Phase::open;
  ++streams_;
  received_ = 0;
  head_held_ = head_told_ = upgrade_asked_ = request_done_ = tunnel_ended_ = false;
  outbox_.reset();
  parser_.reset();
  join<http::ClientStream, http::ResponseUser>(slot_, slot_.user, user, user.stream);
  return &slot_;
}

// --- from the transport ------------------------------------------------------------------------

void ClientConnection::on_bytes(Chain bytes) {
  if (phase_ == Phase::closed) return;
  if (phase_ == Phase::idle || outbox_.taken() == 0) {
    // An answer to nothing: it must never be taken for the answer to the next request.
    if (has_stream()) {
      Error why = make_error(Code::upstream_closed, Side::upstream);
      why.replay = Replay::always;
      fail(why);
    } else {
      close_now(make_error(Code::bad_response, Side::upstream,
                           http::detail_of(http::Fault::unasked_response)));
    }
    return;
  }
  if (streams_ > 1 && received_ == 0 && in_.empty() && request_batch_ == loop_.batch()) {
    // The kernel had these bytes before it had the request. They answer nothing, and whether the
    // server will act on the request as well is not known.
    Error why = make_error(Code::upstream_closed, Side::upstream,
                           http::detail_of(http::Fault::unasked_response));
    why.replay = Replay::if_idempotent;
    fail(why);
    return;
  }
  in_.append(std::move(bytes));
  process();
}

void ClientConnection::on_eof() {
  eof_ = true;
  process();
}

void ClientConnection::on_sent(std::size_t bytes) {
  const std::size_t body = outbox_.sent(bytes);
  if (body > 0 && has_stream()) slot_.user->on_sent(body);
  linger_.stop();  // something moved
  release_when_sent();
}

void ClientConnection::on_closed(Error why) {
  if (phase_ == Phase::closed) return;
  eof_ = true;
  if (why.code == Code::tls_handshake) {
    // A TLS 1.3 server refused our certificate, at a time when requests were sent already: it has
    // not looked at them.
    const Error refused = make_error(Code::upstream_tls, Side::upstream, why.detail);
    if (has_stream()) {
      fail(refused);
    } else {
      close_now(refused);
    }
    return;
  }
  if (phase_ == Phase::open && outbox_.taken() == 0) {
    // It never opened, or died before anything was written.
    why.side = Side::upstream;
    why.replay = Replay::always;
    if (why.code == Code::connection_lost) why.code = Code::upstream_closed;
    fail(why);
    return;
  }
  // What was read before still counts: it waits for the user's credit like any other.
  dead_ = true;
  if (phase_ == Phase::idle || phase_ == Phase::ended) {
    const Error lost = make_error(Code::connection_lost, Side::upstream, why.detail);
    if (has_stream()) {
      fail(make_error(Code::upstream_closed, Side::upstream, why.detail));
    } else {
      close_now(lost);
    }
    return;
  }
  process();
}

// --- the response ------------------------------------------------------------------------------

void ClientConnection::process() {
  while (phase_ == Phase::open && (!head_told_ || credit_.may_read())) {
    const std::size_t before = in_.size();
    const Step step = parser_.next(in_);
    received_ += before - in_.size();
    if (!take_step(step)) break;
  }
  if (phase_ == Phase::open) transport_->set_reading(credit_.may_read());
  if (!eof_ || !in_.empty()) return;
  if (phase_ == Phase::idle) close_now({});
  if (phase_ != Phase::open) return;
  if (tunnel_ended_) {
    // The server's half was over before; without a connection the other one is as well.
    if (dead_) fail(make_error(Code::upstream_closed, Side::upstream));
    return;
  }
  // A dead connection ends nothing: only the server's FIN completes an until-close body.
  if (head_told_ && !dead_ && parser_.on_eof() == Step::end) {
    tell_end();
  } else {
    cut_short();
  }
}

bool ClientConnection::take_step(Step step) {
  switch (step) {
    case Step::more:
    case Step::started:
      tell_head();
      return false;
    case Step::informational:
      if (has_stream()) slot_.user->on_informational(parser_.head());
      return true;
    case Step::head:
      head_held_ = true;
      return true;
    case Step::body: {
      Chain body = parser_.take_body();
      if (head_held_ && parser_.refuses_next()) return true;
      if (!tell_head()) return false;
      credit_.delivered(body.size());
      if (has_stream()) slot_.user->on_data(std::move(body));
      return true;
    }
    case Step::end:
      if (tell_head()) tell_end();
      return false;
    case Step::refused:
      fail(make_error(parser_.code(), Side::upstream, http::detail_of(parser_.fault())));
      return false;
  }
  return false;
}

// A head is held until what follows it in the same read was looked at: a malformed body is then
// answered with 502, as a malformed head is. False when the connection is over.
bool ClientConnection::tell_head() {
  if (!std::exchange(head_held_, false)) return true;
  head_told_ = true;
  if (key_made_ && !accept_answer()) return false;
  // The answer to an Upgrade was no: its request ended with its head.
  if (upgrade_asked_ && !parser_.tunnel()) request_done_ = true;
  if (has_stream()) slot_.user->on_head(parser_.head());
  return phase_ == Phase::open;
}

// RFC 6455 4.1: the handshake that was begun here is checked here, and its answer is not the
// user's. In HTTP/2 any 2xx would say that it succeeded (RFC 8441 5), so one that is no 101 has no
// words there.
bool ClientConnection::accept_answer() {
  http::HeaderMap& headers = parser_.head().headers;
  if (!parser_.tunnel() && parser_.head().status >= 300) return true;
  const auto accept = headers.get("sec-websocket-accept");
  if (!accept || *accept != std::string_view(accept_.data(), accept_.size())) {
    head_told_ = false;
    fail(make_error(Code::bad_response, Side::upstream,
                    http::detail_of(http::Fault::websocket_accept)));
    return false;
  }
  headers.remove("sec-websocket-accept");
  return true;
}

// The server's half is complete. Last event when ours is as well.
void ClientConnection::tell_end() {
  if (parser_.tunnel()) {
    tunnel_ended_ = true;
  } else {
    phase_ = Phase::ended;
  }
  http::ResponseUser* user = slot_.user.get();
  if (request_done_) {
    slot_.user.cut();
    credit_.clear();
    phase_ = Phase::ended;
  }
  if (user != nullptr) user->on_end(std::move(parser_.trailers()));
  release_when_sent();
}

void ClientConnection::cut_short() {
  if (head_told_) {
    fail(make_error(Code::upstream_truncated, Side::upstream));
    return;
  }
  Error why = make_error(Code::upstream_closed, Side::upstream);
  if (received_ > 0) why.replay = Replay::never;
  fail(why);
}

// --- the request -------------------------------------------------------------------------------

void ClientConnection::Slot::send_head(const http::RequestHead& head) {
  ClientConnection& c = connection_;
  if (c.phase_ != Phase::open) return;
  OutgoingBody body;
  switch (head.body.kind) {
    case http::BodyLength::Kind::known:
      body = {BodyForm::length, head.body.bytes};
      break;
    case http::BodyLength::Kind::unknown:
      body = {BodyForm::chunked, 0};
      break;
    case http::BodyLength::Kind::none:
      // RFC 9110 8.6: methods that usually have a body say so when there is none.
      if (head.method == http::Method::post || head.method == http::Method::put ||
          head.method == http::Method::patch) {
        body = {BodyForm::length, 0};
      }
      break;
  }
  c.upgrade_asked_ = head.upgrade.length != 0;
  c.parser_.expect(head.method == http::Method::head, head.upgrade_view());
  c.key_made_ = http::equals_ignore_case(head.upgrade_view(), "websocket") &&
                head.version == http::Version::http2;
  if (c.key_made_) {
    const tls::WebsocketKey key = tls::make_websocket_key();
    const std::string_view text(key.data(), key.size());
    c.accept_ = tls::websocket_accept(text);
    write_request_head(c.loop_.chunks(), c.outbox_.heads(), head, body, text);
  } else {
    write_request_head(c.loop_.chunks(), c.outbox_.heads(), head, body);
  }
  // What an upgraded connection carries later has no frame.
  if (c.upgrade_asked_) body = {BodyForm::until_close, 0};
  c.outbox_.begin_body(body, false);
  c.loop_.mark_dirty(c);
}

void ClientConnection::Slot::send_data(Chain body) {
  ClientConnection& c = connection_;
  if (c.phase_ == Phase::closed) return;
  if (!c.outbox_.add(c.loop_.chunks(), std::move(body))) {
    c.close_reason_ = make_error(Code::system, Side::local);
    c.draining_ = true;  // more than was promised: never to be used again
  }
  c.loop_.mark_dirty(c);
}

void ClientConnection::Slot::send_end(http::HeaderMap trailers) {
  ClientConnection& c = connection_;
  if (c.phase_ == Phase::closed) return;
  if (!c.outbox_.end(std::move(trailers))) {
    reset(make_error(Code::system, Side::local));
    return;
  }
  c.request_done_ = true;
  if (c.phase_ == Phase::ended || c.tunnel_ended_) {
    // The response was complete before: on_end has been told, and it was the last.
    user.cut();
    c.credit_.clear();
    c.phase_ = Phase::ended;
  }
  c.loop_.mark_dirty(c);
}

void ClientConnection::Slot::consume(std::size_t bytes) {
  ClientConnection& c = connection_;
  if (c.phase_ == Phase::closed || c.phase_ == Phase::idle) return;
  const bool could = c.credit_.may_read();
  c.credit_.consumed(bytes);
  if (!could && c.credit_.may_read()) c.resume();
}

void ClientConnection::Slot::reset(Error why) {
  user.cut();
  ClientConnection& c = connection_;
  if (c.phase_ == Phase::closed) return;
  if (c.outbox_.taken() == 0) {
    // Nothing has been written: the connection does not know that there was a request.
    c.outbox_.reset();
    c.credit_.clear();
    c.phase_ = Phase::idle;
    c.free_again_ = true;
    c.resume();
    return;
  }
  c.transport_->abort_on_close();
  c.close_now(why);
}

void ClientConnection::flush() {
  if (phase_ == Phase::closed) return;
  if (outbox_.taken() == 0) request_batch_ = loop_.batch();
  Chain bytes = outbox_.take(loop_.chunks());
  if (!bytes.empty()) transport_->write(std::move(bytes));
  if (upgrade_asked_ && request_done_ && parser_.tunnel() && !write_ended_) {
    write_ended_ = true;
    transport_->shutdown_write();
  }
  resume();
}

void ClientConnection::run_at_turn_end() {
  if (phase_ == Phase::closed) {
    if (!std::exchange(told_owner_, true)) owner_.on_closed(*this, close_reason_);
    return;
  }
  if (phase_ == Phase::open) process();
  release_when_sent();
  if (phase_ == Phase::idle && std::exchange(free_again_, false)) {
    if (eof_ || draining_) {
      close_now({});
    } else {
      owner_.on_available(*this);
    }
  }
}

// --- between requests, and the end ---------------------------------------------------------------

// Both halves are over and all bytes have left: the connection is free, or of no more use.
void ClientConnection::release_when_sent() {
  if (phase_ != Phase::ended || !request_done_ || has_stream()) return;
  const bool reusable = parser_.keep_alive() && !parser_.tunnel() && !eof_ && !draining_;
  if (!in_.empty() && !parser_.tunnel()) {
    close_now(make_error(Code::bad_response, Side::upstream,
                         http::detail_of(http::Fault::unasked_response)));
    return;
  }
  if (!outbox_.drained()) {
    if (!linger_.running()) linger_.start(options_.linger_timeout);
    return;
  }
  linger_.stop();
  if (!reusable) {
    if (!write_ended_) transport_->shutdown_write();
    close_now(Error{});
    return;
  }
  phase_ = Phase::idle;
  transport_->set_reading(true);
  free_again_ = true;
  resume();
}

void ClientConnection::begin_drain() {
  draining_ = true;
  if (phase_ != Phase::idle) return;
  transport_->shutdown_write();
  close_now({});
}

void ClientConnection::abort(Error why) {
  fail(why);
}

void ClientConnection::fail(Error why) {
  if (phase_ == Phase::closed) return;
  http::ResponseUser* user = slot_.user.get();
  const http::Wire wire = this->wire();
  slot_.user.cut();
  if (!request_done_ && wire.sent > 0) transport_->abort_on_close();
  close_now(why);
  if (user != nullptr) user->on_reset(why, wire);
}

void ClientConnection::close_now(Error why) {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  close_reason_ = why;
  linger_.stop();
  in_.clear();
  credit_.clear();
  outbox_.reset();
  resume();
}

}  // namespace proxy::http1
