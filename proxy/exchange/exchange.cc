// Exchange: routes the events of both sides to each other; retries, replies, deadlines.
// The end of a request, where facts become metrics, is in finish.cc.
#include "proxy/exchange/exchange.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "proxy/filter/sidecar_headers.h"
#include "proxy/http/fault.h"
#include "proxy/http/reply.h"

namespace proxy::exchange {

ExchangePool::~ExchangePool() {
  ASSERT(live_.empty());
  while (Exchange* exchange = live_.pop_front()) delete exchange;
}

Exchange& ExchangePool::start(http::ServerStream& stream, Downstream& downstream,
                              std::shared_ptr<const Rules> rules, Error refusal) {
  std::unique_ptr<Exchange> exchange;
  if (free_.empty()) {
    exchange = std::make_unique<Exchange>(*this, environment_);
  } else {
    exchange = std::move(free_.back());
    free_.pop_back();
  }
  live_.push_back(*exchange);
  Exchange& started = *exchange.release();
  started.start(stream, downstream, std::move(rules), refusal);
  return started;
}

Exchange::Exchange(ExchangePool& pool, Environment& environment)
    : pool_(pool),
      environment_(environment),
      scope_{.worker = environment.filters, .direction = telemetry::Direction::inbound},
      attempt_(*this),
      deadline_(environment.loop, [this] { deadline_passed(); }),
      progress_(environment.loop, [this] { stalled(); }),
      grpc_due_(environment.loop, [this] { grpc_due(); }) {}

void Exchange::start(http::ServerStream& from, Downstream& downstream,
                     std::shared_ptr<const Rules> rules, Error refusal) {
  join(static_cast<http::RequestUser&>(*this), stream, from, from.user);
  downstream_ = &downstream;
  rules_ = std::move(rules);
  refusal_ = refusal;
  const std::uint64_t now = environment_.loop.now_us();
  start_us_ = downstream.first_byte_us == 0 ? now : downstream.first_byte_us;
  const std::uint64_t held_us = now - start_us_;
  start_unix_us_ =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count()) -
      held_us;
  scope_.direction = rules_->direction;
  scope_.identity = downstream.identity;
  scope_.own_principal = downstream.own_principal;
  scope_.downstream_peer = &downstream.peer;
  scope_.peer = filter::base_peer(downstream.peer, environment_.filters.shard);
  scope_.plan = &rules_->routes->match({});  // until the head says more
  environment_.filters.shard.request_started(pool_.live());
  const auto held = std::chrono::milliseconds(held_us / 1000);
  const auto limit = rules_->config->timeouts.header;
  deadline_.start(held < limit ? limit - held : std::chrono::milliseconds(0));
}

// --- the request --------------------------------------------------------------------------

void Exchange::on_head(http::RequestHead& head) {
  if (code_ != 0) return;  // too late: its 408 is on the way
  std::swap(head_, head);
  head_received_ = true;
  deadline_.stop();
  if (rules_->config->timeouts.request.count() != 0) {
    deadline_.start(rules_->config->timeouts.request);
  }
  begin_grpc();
  watch_progress();
  scope_.plan = &rules_->routes->match(head_.authority_view(), downstream_->original);
  if (const auto passed = rules_->filters->on_request(head_, scope_); !passed) {
    reply(passed.error());
  } else if (refusal_.code != Code::none) {
    stream->close_after_response();
    reply(refusal_);
  } else if (scope_.plan->original && downstream_->to_original != nullptr) {
    original_ = downstream_->to_original->cluster(*rules_, *scope_.plan);
    cluster_ = original_.get();
    begin_attempt(upstream::Balancer::kNone);
  } else if (scope_.plan->original || scope_.plan->cluster == route::Plan::kNoCluster) {
    reply(make_error(Code::unknown_host, Side::local));
  } else {
    cluster_ = rules_->clusters[scope_.plan->cluster].get();
    begin_attempt(upstream::Balancer::kNone);
  }
}

void Exchange::on_refused(Error why) {
  count_refused(why);
  request_ended_ = true;        // nothing more of it will come
  if (response_ended_) return;  // what was answered stays answered
  if (code_ != 0) {
    cut(why);
  } else {
    reply(why);
  }
}

void Exchange::on_data(Chain body) {
  const std::size_t bytes = body.size();
  body_received_ += bytes;
  watch_progress();
  if (replying_) {
    stream->consume(bytes);  // the answer is given; the codec decides how much more to take
    return;
  }
  grpc_.request_data(body);
  if (!tunnel_) keep_for_replay(body);
  if (attempt_.ready()) {
    body_given_ = true;
    attempt_.stream->send_data(std::move(body));
  } else {
    pending_.append_compact(environment_.loop.chunks(), std::move(body));
  }
}

void Exchange::on_end(http::HeaderMap trailers) {
  request_ended_ = true;
  watch_progress();
  if (replying_) return;
  if (attempt_.ready() && !replayable_) {
    attempt_.stream->send_end(std::move(trailers));
    return;
  }
  trailers_ = std::move(trailers);
  if (attempt_.ready()) attempt_.stream->send_end(http::HeaderMap(trailers_));
}

// While a replay waits for its connection nothing is let go: what comes then follows what is kept,
// and the client's credit bounds it.
void Exchange::keep_for_replay(const Chain& body) {
  if (!replayable_) return;
  const bool replay_is_due = body_given_ && !attempt_.ready();
  if (replay_.size() + body.size() > kReplayLimit && !replay_is_due) {
    replayable_ = false;
    replay_.clear();
    return;
  }
  replay_.append_compact(environment_.loop.chunks(), body.share());
}

// --- attempts -----------------------------------------------------------------------------

void Exchange::begin_attempt(std::size_t not_this) {
  ++attempts_;
  body_sent_upstream_ = 0;
  const auto begun = attempt_.begin(*cluster_, head_, not_this);
  if (!begun) reply(begun.error());
}

void Exchange::attempt_ready() {
  upstream_start_us_ = environment_.loop.now_us();
  const UpstreamNote& note = attempt_.note();
  scope_.upstream_peer = &attempt_.note().peer;
  upstream_principal_.assign(note.principal);
  upstream_policy_ = note.principal.empty() ? telemetry::SecurityPolicy::none
                                            : telemetry::SecurityPolicy::mutual_tls;
  if (scope_.direction == telemetry::Direction::outbound) {
    scope_.peer = filter::base_peer(attempt_.note().peer, environment_.filters.shard);
  }
  // A client of HTTP/1.0 need not name a host; what is sent on must (RFC 9112 3.2).
  if (head_.authority.length == 0) head_.authority = head_.headers.put(attempt_.address());
  attempt_.stream->send_head(head_);
  if (body_given_) {
    pending_.clear();  // all of it is in the replay
    attempt_.stream->send_data(replay_.share());
  } else if (!pending_.empty()) {
    body_given_ = true;
    attempt_.stream->send_data(std::move(pending_));
  }
  // A copy: a replay needs them again.
  if (request_ended_ && attempt_.ready()) attempt_.stream->send_end(http::HeaderMap(trailers_));
}

void Exchange::attempt_failed(Error why) {
  if (why.code == Code::bad_response) count_refused(why);
  if (retrying_) {
    retrying_ = false;
    cluster_->retry_ended();
  }
  scope_.upstream_peer = nullptr;  // it goes with its connection
  if (code_ != 0) {
    cut(why);
    return;
  }
  if (!may_retry(why)) {
    reply(why);
    return;
  }
  environment_.filters.shard.add(telemetry::Counter::retries);
  scope_.attempt = attempts_ + 1;
  filter::set_attempt_count(head_, scope_.attempt);
  begin_attempt(attempt_.lost_race() ? upstream::Balancer::kNone : attempt_.endpoint());
}

// Only what cannot have been acted upon is sent again: a request that never reached an endpoint,
// where there is another one to try; one that an HTTP/2 connection refused unseen, also on another
// connection to the same endpoint; or one that lost the race with an idle timer, if it is
// idempotent or nothing of it was written.
bool Exchange::may_retry(const Error& why) {
  if (attempts_ >= kMaxAttempts || replying_) return false;
  if (body_given_ && !replayable_) return false;
  const bool unseen = why.replay == Replay::always;
  const bool elsewhere = unseen && cluster_->endpoint_count() > 1;
  const bool again =
      attempt_.lost_race() &&
      (unseen || (why.replay == Replay::if_idempotent && http::is_idempotent(head_.method)));
  if (!elsewhere && !again && !attempt_.refused()) return false;
  // Its connection is being closed, and had not looked at it (RFC 9113 6.8): it only moves on,
  // which costs no endpoint anything twice. The budget is for the others.
  if (unseen && why.code == Code::upstream_closed) return true;
  retrying_ = cluster_->retry_started();
  return retrying_;
}

// Credit goes back when bytes left towards upstream; a replay sends some a second time.
void Exchange::request_sent(std::size_t bytes) {
  body_sent_upstream_ += bytes;
  watch_progress();
  if (body_sent_upstream_ <= body_credited_ || !stream) return;
  const std::uint64_t fresh = body_sent_upstream_ - body_credited_;
  body_credited_ = body_sent_upstream_;
  stream->consume(static_cast<std::size_t>(fresh));
}

// --- the response -------------------------------------------------------------------------

void Exchange::response_informational(http::ResponseHead& head) {
  watch_progress();
  rules_->filters->on_response(head, scope_);
  stream->send_informational(head);
}

void Exchange::response_head(http::ResponseHead& head) {
  const std::uint64_t now = environment_.loop.now_us();
  scope_.upstream_us = now - upstream_start_us_;
  rules_->filters->on_response(head, scope_);
  grpc_.response_head(head);
  code_ = head.status;
  tunnel_ = head.status == 101;
  if (tunnel_) deadline_.stop();  // the request is over, what follows is a conversation
  replayable_ = false;
  replay_.clear();
  first_byte_us_ = now - start_us_;
  stream->send_head(head);
  watch_progress();
}

void Exchange::response_data(Chain body) {
  grpc_.response_data(body);
  response_unsent_ += body.size();
  watch_progress();
  stream->send_data(std::move(body));
}

void Exchange::response_end(http::HeaderMap trailers) {
  response_ended_ = true;
  grpc_.response_end(trailers);
  // An answer before the whole request was sent: the rest has nowhere to go.
  if (!tunnel_ && attempt_.active()) {
    attempt_.cancel(make_error(Code::not_reusable, Side::local));
    replying_ = true;
  }
  watch_progress();  // the client has yet to take it
  stream->send_end(std::move(trailers));
}

void Exchange::on_sent(std::size_t bytes) {
  response_unsent_ -= std::min<std::uint64_t>(bytes, response_unsent_);
  watch_progress();
  if (attempt_.ready()) attempt_.stream->consume(bytes);
}

// --- ends ---------------------------------------------------------------------------------

void Exchange::reply(Error why) {
  attempt_.cancel(why);
  flag(why.code);
  details_ = http::details_of(why);
  if (reply_status(why.code) == 0) {
    cut(why);
    return;
  }
  replying_ = true;
  http::Reply made = grpc_.active() ? http::make_grpc_reply(why) : http::make_reply(why);
  grpc_.replied(grpc_status(why.code));
  rules_->filters->on_local_reply(made.head, scope_);
  code_ = made.head.status;
  first_byte_us_ = environment_.loop.now_us() - start_us_;
  deadline_.stop();
  watch_progress();  // the client has yet to take it
  stream->send_head(made.head);
  if (!made.body.empty()) {
    Chain text;
    text.append_copy(environment_.loop.chunks(), made.body);
    stream->send_data(std::move(text));
  }
  stream->send_end({});
  response_ended_ = true;
  // What waits for an upstream goes nowhere; its credit lets the codec discard the rest.
  const std::size_t waiting = pending_.size();
  pending_.clear();
  if (waiting > 0) stream->consume(waiting);
}

void Exchange::cut(Error why) {
  flag(why.code == Code::upstream_closed ? Code::upstream_truncated : why.code);
  details_ = http::details_of(why);
  attempt_.cancel(why);
  const http::Wire wire = stream->wire();
  stream->reset(why);
  finish(wire);
}

void Exchange::deadline_passed() {
  using telemetry::Counter;
  using telemetry::Timeout;
  if (!head_received_) {
    environment_.filters.shard.add(Counter::timeouts, 1, Timeout::header);
    request_ended_ = true;
    reply(make_error(Code::header_timeout, Side::downstream));
    return;
  }
  environment_.filters.shard.add(Counter::timeouts, 1, Timeout::request);
  const Error why = make_error(Code::request_timeout, Side::upstream);
  if (code_ != 0) {
    cut(why);
  } else {
    reply(why);
  }
}

// Something moved. Runs from the request's head to the response's last byte, so that neither side
// can hold the other up by silence. A gRPC stream may be silent for long when both sides have all
// that the other sent: that is a watch, and not a stall.
void Exchange::watch_progress() {
  const auto& timeouts = rules_->config->timeouts;
  const bool watching = grpc_.active() && !replying_ && response_unsent_ == 0 &&
                        body_sent_upstream_ >= body_received_;
  const auto idle = tunnel_ || watching ? timeouts.tunnel_idle : timeouts.body_idle;
  if (idle.count() == 0) {
    progress_.stop();
  } else {
    progress_.start(idle);
  }
}

// The client stalls when the upstream has all that came of the body; else the upstream does.
void Exchange::stalled() {
  environment_.filters.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::body_idle);
  const bool client_stalls = !request_ended_ && body_sent_upstream_ >= body_received_;
  const Error why = client_stalls ? make_error(Code::request_stalled, Side::downstream)
                                  : make_error(Code::response_stalled, Side::upstream);
  if (code_ != 0) {
    cut(why);
  } else {
    reply(why);
  }
}

}  // namespace proxy::exchange
