// The way of a connection: accepted -> (first bytes) -> (TLS) -> HTTP version -> codec, or relayed
// to the app. Policy of requests is the exchange's and the filters'.
#include "proxy/server/downstream_connection.h"

#include <algorithm>
#include <array>
#include <utility>

#include "proxy/http1/server_connection.h"
#include "proxy/http2/server_connection.h"
#include "proxy/net/tls_transport.h"
#include "proxy/server/preface.h"
#include "proxy/server/worker.h"
#include "proxy/upstream/handshake.h"
#include "telemetry/record.h"
#include "tls/client_hello.h"

namespace proxy::server {
namespace {
constexpr std::byte kTlsHandshakeRecord{0x16};
constexpr std::chrono::milliseconds kFirstWordsGrace{1000};
// Kinds of rate-limited lines that are not about a handshake.
constexpr std::size_t kFloodLines = 27;
constexpr std::size_t kJudgedLines = 29;
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
      eager_(worker.loop(), [this] { connect_eagerly(); }),
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
  const config::Config& config = worker_.snapshot().config;
  if (intercepted()) {
    begin_intercepted();
    return;
  }
  if (direction_ == telemetry::Direction::outbound || config.mtls.mode == config::MtlsMode::off) {
    await_version();
  } else if (config.mtls.mode == config::MtlsMode::strict) {
    begin_handshake_time();  // whoever says nothing has failed to speak TLS
  } else {
    begin_idle_time();
  }
  transport_->start(*this);
}

void DownstreamConnection::begin_idle_time() {
  const auto idle = worker_.snapshot().config.timeouts.idle;
  if (idle.count() == 0) {
    deadline_.stop();
  } else {
    deadline_.start(draining_ ? kFirstWordsGrace : idle);
  }
}

// --- detection ----------------------------------------------------------------------------

void DownstreamConnection::on_bytes(Chain bytes) {
  if (closed_) return;
  first_bytes_.append(std::move(bytes));
  detect();
}

void DownstreamConnection::detect() {
  if (versioning_) {
    detect_version();
  } else if (sniffing_) {
    sniff();
  } else {
    detect_by_mtls_mode();
  }
}

// TLS to be ended here, or not.
void DownstreamConnection::detect_by_mtls_mode() {
  const Snapshot& snapshot = worker_.snapshot();
  const config::MtlsMode mode = snapshot.config.mtls.mode;
  if (mode == config::MtlsMode::off || first_bytes_.first().front() != kTlsHandshakeRecord) {
    if (mode != config::MtlsMode::strict && intercepted()) {
      sniffing_ = true;
      sniff();
      return;
    }
    if (mode == config::MtlsMode::strict) {
      transport_->put_back(std::move(first_bytes_));
      begin_tls(snapshot.mutual);  // which finds that this is no TLS
    } else {
      versioning_ = true;
      detect_version();
    }
    return;
  }
  eager_.stop();  // only a handshake says what comes next
  if (tls_started_us_ == 0) begin_handshake_time();
  if (first_bytes_.size() < hello_bytes_) return;
  std::array<std::byte, tls::kMaxClientHello> copy;
  const auto seen = std::span(copy).first(std::min(first_bytes_.size(), copy.size()));
  first_bytes_.copy_to(seen);
  const tls::Peek peek = tls::peek(seen);
  if (peek.kind == tls::Peek::Kind::need_more) {
    hello_bytes_ = peek.wanted;
    return;
  }
  if (peek.kind == tls::Peek::Kind::too_large) {
    tls::HandshakeFacts facts;
    facts.failure = tls::Failure::other;
    facts.detail = "the client's ClientHello is longer than 16 KiB: no TLS library sends that";
    count_handshake(facts);
    close();
    return;
  }
  const bool mesh = peek.kind == tls::Peek::Kind::hello && peek.hello.offers_mesh_alpn();
  if (peek.kind == tls::Peek::Kind::hello) sni_ = peek.hello.sni;
  const bool passes = !mesh && snapshot.terminate != nullptr &&
                      peek.kind == tls::Peek::Kind::hello &&
                      snapshot.config.inbound.other_tls == config::OtherTls::pass;
  if (passes) {
    become_tcp();
    return;
  }
  drop_tunnel();  // whatever was connected eagerly, it waits for no handshake
  transport_->put_back(std::move(first_bytes_));
  if (mesh || snapshot.terminate == nullptr) {
    begin_tls(snapshot.mutual);
  } else {
    begin_tls(snapshot.terminate);  // also what is malformed: the session answers with the alert
  }
}

// It is HTTP; its first bytes tell the version.
void DownstreamConnection::await_version() {
  versioning_ = true;
  begin_idle_time();
}

// HTTP/2 by prior knowledge (RFC 9113 3.3) on the port of HTTP/1.
void DownstreamConnection::detect_version() {
  const Preface preface = find_preface(first_bytes_);
  if (preface == Preface::need_more) {
    if (first_byte_us_ != 0) return;
    first_byte_us_ = worker_.loop().now_us();
    deadline_.start(worker_.snapshot().config.timeouts.header);
    return;
  }
  begin_http(preface == Preface::http2 ? upstream::Codec::http2 : upstream::Codec::http1);
}

void DownstreamConnection::on_eof() {
  if (versioning_ && !first_bytes_.empty()) {
    begin_http(upstream::Codec::http1);  // a request that breaks off
    return;
  }
  if (sniffing_ && (tunnel_ != nullptr || !first_bytes_.empty())) {
    become_tcp();  // it has only ended its own side
    return;
  }
  gone_while_opening();
  close();
}

void DownstreamConnection::on_closed(Error) {
  if (closed_) return;
  gone_while_opening();
  close();
}

// A peer that leaves without a word, as a TCP health check does, has failed at nothing.
void DownstreamConnection::gone_while_opening() {
  if (sniffing_ || versioning_ || exchange_begun_) return;
  if (secure_ != nullptr) {
    count_handshake(*secure_->handshake());
  } else if (!first_bytes_.empty()) {
    fail_hello(tls::Failure::closed);
  }
}

// --- TLS ----------------------------------------------------------------------------------

void DownstreamConnection::begin_handshake_time() {
  tls_started_us_ = worker_.loop().now_us();
  deadline_.start(worker_.snapshot().config.timeouts.tls);
  peer_address_ = transport_->remote_address();
}

void DownstreamConnection::begin_tls(std::shared_ptr<const tls::Context> context) {
  if (tls_started_us_ == 0) begin_handshake_time();
  transport_ = std::make_unique<net::TlsTransport>(
      std::move(transport_), std::make_unique<tls::Session>(std::move(context)));
  secure_ = transport_.get();
  transport_->start(*this);
}

void DownstreamConnection::on_open(const tls::HandshakeFacts* facts) {
  if (facts == nullptr || closed_ || exchange_begun_) return;  // bytes are still to be detected
  count_handshake(*facts);
  if (intercepted()) {
    handshake_done(*facts);
  } else {
    begin_http_by(facts->alpn);
  }
}

void DownstreamConnection::count_handshake(const tls::HandshakeFacts& facts) {
  upstream::report_handshake(worker_.shard(), worker_.rate_limited_log(),
                             telemetry::Direction::inbound, facts, peer_address_,
                             {tls_started_us_, worker_.loop().now_us()});
}

// Ended before its ClientHello was there.
void DownstreamConnection::fail_hello(tls::Failure failure) {
  if (worker_.snapshot().mutual == nullptr) return;  // plaintext only, since a reload
  tls::Session session(worker_.snapshot().mutual);
  session.note_failure(failure);
  count_handshake(session.facts());
}

void DownstreamConnection::timed_out() {
  if (draining_ && (secure_ == nullptr || versioning_) && first_bytes_.empty()) {
    close();
    return;
  }
  if (sniffing_ && !first_bytes_.empty()) {
    become_tcp();  // bytes that could still be anything, and no more of them
    return;
  }
  if (versioning_ && !first_bytes_.empty()) {
    begin_http(upstream::Codec::http1);  // where the request's time is found to be over
    return;
  }
  const bool opening_tls = tls_started_us_ != 0 && !sniffing_ && !versioning_;
  worker_.shard().add(telemetry::Counter::timeouts, 1,
                      opening_tls ? telemetry::Timeout::tls : telemetry::Timeout::idle);
  if (secure_ != nullptr && opening_tls) {
    secure_->session()->note_failure(tls::Failure::timeout);
    count_handshake(*secure_->handshake());
  } else if (opening_tls) {
    fail_hello(tls::Failure::timeout);
  }
  close();
}

// --- HTTP ---------------------------------------------------------------------------------

void DownstreamConnection::begin_http_by(std::string_view alpn) {
  if (alpn.empty()) {
    await_version();
  } else {
    begin_http(alpn == "h2" ? upstream::Codec::http2 : upstream::Codec::http1);
  }
}

void DownstreamConnection::begin_http(upstream::Codec codec) {
  deadline_.stop();
  eager_.stop();
  if (!first_bytes_.empty()) transport_->put_back(std::move(first_bytes_));
  http2_ = codec == upstream::Codec::http2;
  describe_peer();
  connection_ = make_codec(codec);
  if (draining_) connection_->begin_drain();
}

void DownstreamConnection::describe_peer() {
  if (secure_ != nullptr) {
    facts_.identity = secure_->peer();
    facts_.own_principal = secure_->session()->context().spiffe_uri();
  }
  const bool mutual = facts_.identity != nullptr && !facts_.identity->spiffe_uri.empty() &&
                      !facts_.own_principal.empty();
  if (direction_ == telemetry::Direction::inbound) {
    facts_.policy =
        mutual ? telemetry::SecurityPolicy::mutual_tls : telemetry::SecurityPolicy::none;
  }
  facts_.peer.base = telemetry::peer_labels(
      nullptr, mutual ? std::string_view(facts_.identity->spiffe_uri) : std::string_view{},
      mutual ? std::string_view(facts_.own_principal) : std::string_view{}, facts_.policy);
}

std::unique_ptr<http::ServerConnection> DownstreamConnection::make_codec(upstream::Codec codec) {
  const config::Config& config = worker_.snapshot().config;
  auto& owner = static_cast<http::ServerConnectionOwner&>(*this);
  if (codec == upstream::Codec::http2) {
    http2::ServerConnectionOptions options;
    options.limits.head_bytes = config.limits.head_bytes;
    options.limits.header_count = config.limits.header_count;
    options.max_concurrent_streams = static_cast<std::uint32_t>(config.limits.http2_streams);
    const auto resets = static_cast<std::uint32_t>(config.limits.http2_resets);
    options.floods.resets = {resets, std::max(resets / 10, 1U)};
    options.idle_timeout = config.timeouts.idle;
    options.max_requests = config.limits.requests_per_connection;
    options.ping_interval = config.timeouts.http2_keepalive;
    options.write_stall_timeout = config.timeouts.body_idle;
    options.observer = static_cast<http2::Observer*>(this);
    auto connection =
        std::make_unique<http2::ServerConnection>(std::move(transport_), *this, owner, options);
    connection->start();
    return connection;
  }
  http1::ServerConnectionOptions options;
  options.limits.head_bytes = config.limits.head_bytes;
  options.limits.header_count = config.limits.header_count;
  options.idle_timeout = config.timeouts.idle;
  options.max_requests = config.limits.requests_per_connection;
  auto connection =
      std::make_unique<http1::ServerConnection>(std::move(transport_), *this, owner, options);
  connection->start();
  return connection;
}

void DownstreamConnection::on_flood(http2::FloodKind kind) noexcept {
  Http2Counters::on_flood(kind);
  worker_.rate_limited_log().warning(kFloodLines, worker_.loop().now_us(),
                                     "an HTTP/2 client at {} was refused for too much of: {}",
                                     client_.text(), http2::word_of(kind));
}

void DownstreamConnection::on_request_started(http::ServerStream& stream) {
  const std::size_t limit = worker_.snapshot().config.limits.requests_per_connection;
  if (++requests_ == limit) {
    worker_.shard().add(telemetry::Counter::limits_hit, 1,
                        telemetry::Limit::requests_per_connection);
  }
  facts_.first_byte_us = http2_ ? 0 : std::exchange(first_byte_us_, 0);
  if (judged_generation_ != worker_.snapshot().generation) judge();
  worker_.exchanges().start(stream, facts_, worker_.rules(direction_), refusal_);
}

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
    const bool anonymous = facts_.identity == nullptr && snapshot.terminate != nullptr;
    trusted =
        secure_->session()->judge(anonymous ? *snapshot.terminate : *snapshot.mutual).has_value();
  }
  if (trusted) return;
  refusal_ = make_error(Code::untrusted_peer, Side::downstream);
  if (http2_) connection_->begin_drain();  // in HTTP/1 the answer says that it closes
  worker_.rate_limited_log().warning(
      kJudgedLines, worker_.loop().now_us(),
      "the connection of {} at {} is refused since the reload: mtls no longer accepts it",
      facts_.peer.base.peer_principal, peer_address_.empty() ? "a plaintext peer" : peer_address_);
}

void DownstreamConnection::snapshot_changed() {
  if (direction_ == telemetry::Direction::outbound) return;
  const Snapshot& snapshot = worker_.snapshot();
  const config::MtlsMode mode = snapshot.config.mtls.mode;
  if (connection_ != nullptr) {
    const bool leaves =
        secure_ == nullptr ? mode == config::MtlsMode::strict : mode == config::MtlsMode::off;
    if (leaves) connection_->begin_drain();
  } else if (versioning_ && tunnel_ == nullptr) {
    if (secure_ == nullptr && mode == config::MtlsMode::strict) close();
  } else if (tunnel_ != nullptr) {
    // What passes as TCP has no requests to judge.
    if (secure_ != nullptr) {
      judge();
      if (refusal_.code != Code::none) close();
    } else if (mode == config::MtlsMode::strict) {
      close();
    } else if (tls_started_us_ != 0 &&
               (mode == config::MtlsMode::off ||
                snapshot.config.inbound.other_tls != config::OtherTls::pass)) {
      close();
    }
  }
}

void DownstreamConnection::on_closed(http::ServerConnection&, Error why) {
  if (why.code == Code::idle && !draining_) {
    worker_.shard().add(telemetry::Counter::timeouts, 1, telemetry::Timeout::idle);
  }
  close();
}

// --- the end ------------------------------------------------------------------------------

void DownstreamConnection::begin_drain() {
  draining_ = true;
  if (connection_ != nullptr) {
    connection_->begin_drain();
  } else if (tunnel_ == nullptr && (secure_ == nullptr || versioning_) && first_bytes_.empty()) {
    deadline_.start(kFirstWordsGrace);  // nothing was said yet, but may be on its way
  }
}

void DownstreamConnection::abort(Error why) {
  if (connection_ != nullptr) {
    connection_->abort(why);
  } else {
    close();
  }
}

void DownstreamConnection::close() {
  if (closed_) return;
  closed_ = true;
  deadline_.stop();
  eager_.stop();
  log_tunnel();
  first_bytes_.clear();
  unlink();
  worker_.downstream_closed();
  // What may be on the stack now is destroyed at the turn's end, this object's members with it.
  worker_.loop().reap(std::unique_ptr<DownstreamConnection>(this));
}

}  // namespace proxy::server
