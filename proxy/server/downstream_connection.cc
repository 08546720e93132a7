// The way of a connection: accepted -> (first bytes) -> (TLS) -> codec, or relayed to the app.
// Policy of requests is the exchange's and the filters'.
#include "proxy/server/downstream_connection.h"

#include <array>

#include "proxy/http1/server_connection.h"
#include "proxy/net/tls_transport.h"
#include "proxy/server/worker.h"
#include "proxy/upstream/handshake.h"
#include "telemetry/record.h"
#include "tls/client_hello.h"

namespace proxy::server {
namespace {
constexpr std::byte kTlsHandshakeRecord{0x16};
constexpr std::chrono::milliseconds kFirstWordsGrace{1000};
// Kind of a rate-limited line that is not about a handshake.
constexpr std::size_t kJudgedLines = 29;
}  // namespace

DownstreamConnection::DownstreamConnection(Worker& worker, telemetry::Direction direction,
                                           std::unique_ptr<net::TcpTransport> transport,
                                           const std::optional<net::SocketAddress>& original)
    : worker_(worker),
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
    begin_http();
    return;
  }
  if (config.mtls.mode == config::MtlsMode::strict) {
    begin_handshake_time();  // whoever says nothing has failed to speak TLS
  } else if (config.timeouts.idle.count() != 0) {
    deadline_.start(config.timeouts.idle);
  }
  transport_->start(*this);
}

// --- detection ----------------------------------------------------------------------------

void DownstreamConnection::on_bytes(Chain bytes) {
  if (closed_) return;
  first_bytes_.append(std::move(bytes));
  detect();
}

void DownstreamConnection::detect() {
  if (sniffing_) {
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
    transport_->put_back(std::move(first_bytes_));
    if (mode == config::MtlsMode::strict) {
      begin_tls(snapshot.mutual);  // which finds that this is no TLS
    } else {
      begin_http();
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

void DownstreamConnection::on_eof() {
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
  if (sniffing_ || exchange_begun_) return;
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
    begin_http();
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
  if (draining_ && secure_ == nullptr && first_bytes_.empty()) {
    close();
    return;
  }
  if (sniffing_ && !first_bytes_.empty()) {
    become_tcp();  // bytes that could still be anything, and no more of them
    return;
  }
  const bool opening_tls = tls_started_us_ != 0 && !sniffing_;
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

void DownstreamConnection::begin_http() {
  deadline_.stop();
  eager_.stop();
  const config::Config& config = worker_.snapshot().config;
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

  http1::ServerConnectionOptions options;
  options.limits.head_bytes = config.limits.head_bytes;
  options.limits.header_count = config.limits.header_count;
  options.idle_timeout = config.timeouts.idle;
  options.max_requests = config.limits.requests_per_connection;
  auto connection = std::make_unique<http1::ServerConnection>(
      std::move(transport_), *this, static_cast<http::ServerConnectionOwner&>(*this), options);
  connection->start();
  connection_ = std::move(connection);
  if (draining_) connection_->begin_drain();
}

void DownstreamConnection::on_request_started(http::ServerStream& stream) {
  const std::size_t limit = worker_.snapshot().config.limits.requests_per_connection;
  if (++requests_ == limit) {
    worker_.shard().add(telemetry::Counter::limits_hit, 1,
                        telemetry::Limit::requests_per_connection);
  }
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
  } else if (tunnel_ == nullptr && secure_ == nullptr && first_bytes_.empty()) {
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
