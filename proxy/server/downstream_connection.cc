// The way of a connection: its states and their deadlines, reloads, draining, the end.
// What leads from one state to the next: downstream_detection.cc, _http.cc and _tcp.cc.
#include "proxy/server/downstream_connection.h"

#include <algorithm>
#include <utility>

#include "proxy/server/worker.h"
#include "telemetry/record.h"
#include "tls/session.h"

namespace proxy::server {
namespace {
// Draining: for the first words, or the handshake, of who is already connected.
constexpr std::chrono::milliseconds kFirstWordsGrace{1000};
}  // namespace

DownstreamConnection::DownstreamConnection(Worker& worker, telemetry::Direction direction,
                                           std::unique_ptr<net::TcpTransport> transport,
                                           const std::optional<net::SocketAddress>& original)
    : Http2Counters(worker.shard(), telemetry::Side::downstream),
      worker_(worker),
      direction_(direction),
      client_(transport->peer_address()),
      original_(original.value_or(net::SocketAddress{})),
      deadline_(worker.loop(), [this] { timed_out(); }),
      patience_(worker.loop(), [this] { patience_over(); }),
      opened_us_(worker.loop().now_us()),
      judged_generation_(worker.snapshot().generation) {
  transport_ = std::move(transport);
  if (intercepted()) {
    original_key_ = {original_.bytes(), original_.port()};
    facts_.original = &original_key_;
    facts_.to_original = static_cast<exchange::ToOriginal*>(this);
  }
  telemetry::connection_opened(worker_.shard(), direction_);
}

DownstreamConnection::~DownstreamConnection() {
  telemetry::record(
      worker_.shard(),
      telemetry::ConnectionFacts{direction_, worker_.loop().now_us() - opened_us_, requests_});
}

void DownstreamConnection::begin() {
  const config::MtlsMode mode = worker_.snapshot().config.mtls.mode;
  if (direction_ == telemetry::Direction::inbound && mode == config::MtlsMode::strict) {
    enter(State::hello);  // whoever says nothing has failed to speak TLS
  } else if (intercepted()) {
    begin_intercepted();
  } else if (direction_ == telemetry::Direction::outbound || mode == config::MtlsMode::off) {
    enter(State::versioning);
  } else {
    enter(State::undecided);
  }
  if (state_ != State::closed && transport_ != nullptr) transport_->start(*this);
}

// --- states -------------------------------------------------------------------------------

void DownstreamConnection::enter(State state) {
  const config::Timeouts& timeouts = worker_.snapshot().config.timeouts;
  state_ = state;
  switch (state) {
    case State::undecided:
    case State::sniffing:
    case State::versioning:
      start_deadline(timeouts.idle);
      return;
    case State::hello:
      patience_.stop();
      drop_tunnel();  // only a handshake says what comes next
      tls_started_us_ = worker_.loop().now_us();
      peer_address_ = transport_->remote_address();
      start_deadline(timeouts.tls);
      return;
    case State::handshaking:
      return;  // in the time that began with the hello
    case State::adopting:
    case State::serving:
    case State::relaying:
    case State::closed:
      patience_.stop();
      deadline_.stop();
      return;
  }
}

// 0 = for ever.
void DownstreamConnection::start_deadline(std::chrono::milliseconds wanted) {
  if (draining_) {
    deadline_.start(kFirstWordsGrace);
  } else if (wanted.count() != 0) {
    deadline_.start(wanted);
  } else {
    deadline_.stop();
  }
}

void DownstreamConnection::timed_out() {
  const bool began = !first_bytes_.empty();
  if (state_ == State::sniffing && began) {
    become_tcp();  // bytes that could still be anything, and no more of them
  } else if (state_ == State::versioning && began) {
    codec_ = upstream::Codec::http1;
    begin_http();  // where the request's time is found to be over
  } else {
    const bool opening_tls = state_ == State::hello || state_ == State::handshaking;
    // Who said nothing and is sent away by a drain has not been idle for too long.
    if (opening_tls || !draining_) {
      worker_.shard().add(telemetry::Counter::timeouts, 1,
                          opening_tls ? telemetry::Timeout::tls : telemetry::Timeout::idle);
    }
    if (state_ == State::hello) {
      fail_hello(tls::Failure::timeout);
    } else if (state_ == State::handshaking) {
      secure_->session()->note_failure(tls::Failure::timeout);
      count_handshake(*secure_->handshake());
    }
    close();
  }
}

// --- reloads ------------------------------------------------------------------------------

// Is this connection still one that the present configuration would accept?
void DownstreamConnection::judge() {
  const Snapshot& snapshot = worker_.snapshot();
  judged_generation_ = snapshot.generation;
  refusal_ = {};
  if (direction_ == telemetry::Direction::outbound) return;
  const config::MtlsMode mode = snapshot.config.mtls.mode;
  bool trusted = true;
  if (secure_ == nullptr) {
    trusted = mode != config::MtlsMode::strict;
  } else if (mode == config::MtlsMode::off) {
    trusted = false;
  } else {
    const bool anonymous = secure_->peer() == nullptr && snapshot.terminate != nullptr;
    trusted =
        secure_->session()->judge(anonymous ? *snapshot.terminate : *snapshot.mutual).has_value();
  }
  if (trusted) return;
  refusal_ = make_error(Code::untrusted_peer, Side::downstream);
  // In HTTP/1 the answer says that it closes.
  if (state_ == State::serving && codec_ == upstream::Codec::http2) connection_->begin_drain();
  worker_.rate_limited_log().warning(
      LogKind::judged, worker_.loop().now_us(),
      "the connection of {} at {} is refused since the reload: mtls no longer accepts it",
      facts_.peer.base.peer_principal, peer_address_.empty() ? "a plaintext peer" : peer_address_);
}

void DownstreamConnection::snapshot_changed() {
  if (direction_ == telemetry::Direction::outbound) return;
  const Snapshot& snapshot = worker_.snapshot();
  const config::MtlsMode mode = snapshot.config.mtls.mode;
  if (state_ == State::serving) {
    const bool leaves =
        secure_ == nullptr ? mode == config::MtlsMode::strict : mode == config::MtlsMode::off;
    if (leaves) connection_->begin_drain();
  } else if (secure_ != nullptr) {
    // What passes as TCP has no requests to judge.
    if (tunnel_ != nullptr) judge();
    if (refusal_.code != Code::none) close();
  } else if (mode == config::MtlsMode::strict) {
    // Who has said nothing yet may still speak TLS.
    const bool plain = state_ != State::undecided && state_ != State::hello;
    if (plain || tunnel_ != nullptr) close();
  } else if (state_ == State::relaying && tls_started_us_ != 0) {
    const bool passes = mode != config::MtlsMode::off &&
                        snapshot.config.inbound.other_tls == config::OtherTls::pass;
    if (!passes) close();
  }
}

// --- the end ------------------------------------------------------------------------------

void DownstreamConnection::begin_drain() {
  draining_ = true;
  switch (state_) {
    case State::serving:
      connection_->begin_drain();
      return;
    case State::undecided:
    case State::sniffing:
      // Connected on both sides, and both silent, as TCP may be for long.
      if (tunnel_ != nullptr) return;
      [[fallthrough]];
    case State::hello:
    case State::handshaking:
    case State::versioning:
      deadline_.start(kFirstWordsGrace);
      return;
    case State::adopting:
    case State::relaying:
    case State::closed:
      return;
  }
}

void DownstreamConnection::abort(Error why) {
  if (state_ == State::serving) {
    connection_->abort(why);
  } else {
    close();
  }
}

void DownstreamConnection::close() {
  if (state_ == State::closed) return;
  enter(State::closed);
  log_tunnel();
  first_bytes_.clear();
  unlink();
  worker_.downstream_closed();
  // What may be on the stack now is destroyed at the turn's end, this object's members with it.
  worker_.loop().reap(std::unique_ptr<DownstreamConnection>(this));
}

}  // namespace proxy::server
