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
}

DownstreamConnection::DownstreamConnection(Worker& worker, telemetry::Direction direction,
                                           std::unique_ptr<net::Transport> transport)
    : worker_(worker),
      direction_(direction),
      transport_(std::move(transport)),
      deadline_(worker.loop(), [this] { timed_out(); }),
      opened_us_(worker.loop().now_us()),
      judged_generation_(worker.snapshot().generation) {
  telemetry::connection_opened(worker_.shard(), direction_);
}

DownstreamConnection::~DownstreamConnection() {
  telemetry::record(worker_.shard(),
                    telemetry::ConnectionFacts{direction_, worker_.loop().now_us() - opened_us_,
                                               requests_});
}

void DownstreamConnection::begin() {
  const Snapshot& snapshot = worker_.snapshot();
  if (direction_ == telemetry::Direction::outbound ||
      snapshot.config.mtls.mode == config::MtlsMode::off) {
    begin_http();
  } else if (snapshot.config.mtls.mode == config::MtlsMode::strict) {
    begin_tls(snapshot.mutual);
  } else {
    if (snapshot.config.timeouts.idle.count() != 0) {
      deadline_.start(snapshot.config.timeouts.idle);
    }
    transport_->start(*this);
  }
}

// --- detection ----------------------------------------------------------------------------

void DownstreamConnection::on_bytes(Chain bytes) {
  if (closed_) return;
  first_bytes_.append(std::move(bytes));
  detect();
}

void DownstreamConnection::detect() {
  if (first_bytes_.first().front() != kTlsHandshakeRecord) {
    transport_->put_back(std::move(first_bytes_));
    begin_http();
    return;
  }
  if (tls_started_us_ == 0) {
    tls_started_us_ = worker_.loop().now_us();
    deadline_.start(worker_.snapshot().config.timeouts.tls);
  }
  std::array<std::byte, tls::kMaxClientHello> hello;
  const std::size_t size = std::min(first_bytes_.size(), hello.size());
  first_bytes_.copy_to(std::span(hello).first(size));
  const tls::Peek peek = tls::peek(std::span<const std::byte>(hello).first(size));
  if (peek.kind == tls::Peek::Kind::need_more) return;
  transport_->put_back(std::move(first_bytes_));
  const Snapshot& snapshot = worker_.snapshot();
  const bool mesh = peek.kind == tls::Peek::Kind::hello && peek.hello.offers_mesh_alpn();
  if (mesh || snapshot.terminate == nullptr) {
    begin_tls(snapshot.mutual);
  } else if (peek.kind == tls::Peek::Kind::hello &&
             snapshot.config.inbound.other_tls == config::OtherTls::pass) {
    pass_to_app();
  } else {
    begin_tls(snapshot.terminate);  // also what is malformed: the session answers with the alert
  }
}

void DownstreamConnection::on_eof() { close(); }

void DownstreamConnection::on_closed(Error) {
  if (closed_) return;
  if (secure_ != nullptr) count_handshake(*secure_->handshake());
  close();
}

// --- TLS ----------------------------------------------------------------------------------

void DownstreamConnection::begin_tls(std::shared_ptr<const tls::Context> context) {
  if (tls_started_us_ == 0) tls_started_us_ = worker_.loop().now_us();
  deadline_.start(worker_.snapshot().config.timeouts.tls);
  transport_ = std::make_unique<net::TlsTransport>(
      std::move(transport_), std::make_unique<tls::Session>(std::move(context)));
  secure_ = transport_.get();
  transport_->start(*this);
}

void DownstreamConnection::on_open(const tls::HandshakeFacts* facts) {
  if (facts == nullptr || closed_) return;  // plain bytes, still to be detected
  count_handshake(*facts);
  begin_http();
}

void DownstreamConnection::count_handshake(const tls::HandshakeFacts& facts) {
  telemetry::record(worker_.shard(), telemetry::HandshakeFacts{
                                         telemetry::Direction::inbound,
                                         upstream::handshake_cause(facts),
                                         worker_.loop().now_us() - tls_started_us_});
  if (facts.failure == tls::Failure::none) return;
  worker_.rate_limited_log().warning(facts.failure, worker_.loop().now_us(),
                                     "TLS handshake with {} failed ({}): {}",
                                     secure_->remote_address(), tls::name(facts.failure),
                                     facts.detail);
}

void DownstreamConnection::timed_out() {
  if (secure_ != nullptr) {
    secure_->session()->note_failure(tls::Failure::timeout);
    count_handshake(*secure_->handshake());
    worker_.shard().add(telemetry::Counter::timeouts, 1, telemetry::Timeout::tls);
  } else {
    worker_.shard().add(telemetry::Counter::timeouts, 1,
                        tls_started_us_ != 0 ? telemetry::Timeout::tls
                                             : telemetry::Timeout::idle);
  }
  close();
}

// --- HTTP ---------------------------------------------------------------------------------

void DownstreamConnection::begin_http() {
  deadline_.stop();
  const config::Config& config = worker_.snapshot().config;
  if (secure_ != nullptr) {
    facts_.identity = secure_->peer();
    facts_.own_principal = secure_->session()->context().spiffe_uri();
  }
  const bool mutual = facts_.identity != nullptr && !facts_.identity->spiffe_uri.empty() &&
                      !facts_.own_principal.empty();
  if (direction_ == telemetry::Direction::inbound) {
    facts_.policy = mutual ? telemetry::SecurityPolicy::mutual_tls : telemetry::SecurityPolicy::none;
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
  ++requests_;
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
    trusted = secure_->session()
                  ->judge(anonymous ? *snapshot.terminate : *snapshot.mutual)
                  .has_value();
  }
  if (trusted) return;
  refusal_ = make_error(Code::untrusted_peer, Side::downstream);
  worker_.rate_limited_log().warning(tls::Failure::other, worker_.loop().now_us(),
                                     "connection from {} is not trusted any more since the reload",
                                     facts_.peer.base.peer_principal);
}

void DownstreamConnection::snapshot_changed() {
  const bool plaintext_leaves =
      direction_ == telemetry::Direction::inbound && secure_ == nullptr && connection_ != nullptr &&
      worker_.snapshot().config.mtls.mode == config::MtlsMode::strict;
  if (plaintext_leaves) connection_->begin_drain();
}

void DownstreamConnection::on_closed(http::ServerConnection&, Error) { close(); }

// --- raw bytes to the app -----------------------------------------------------------------

void DownstreamConnection::pass_to_app() {
  deadline_.stop();
  transport_->set_reading(false);
  upstream::Cluster& app = *worker_.rules(direction_)->clusters.front();
  connecting_ = std::make_unique<upstream::Connecting>(worker_.upstream(), app.endpoint(0),
                                                       app.spec().connect,
                                                       static_cast<upstream::ConnectUser&>(*this));
}

void DownstreamConnection::on_connected(upstream::Connecting&,
                                        std::unique_ptr<net::Transport> transport) {
  worker_.loop().reap(std::move(connecting_));
  transport_->set_reading(true);
  relay_ = std::make_unique<tunnel::Relay>(worker_.loop(), std::move(transport_),
                                           std::move(transport),
                                           worker_.snapshot().config.timeouts.tunnel_idle,
                                           static_cast<tunnel::RelayOwner&>(*this));
  relay_->start();
}

void DownstreamConnection::on_connect_failed(upstream::Connecting&, Error) { close(); }

void DownstreamConnection::on_relay_ended(tunnel::Relay&) { close(); }

// --- the end ------------------------------------------------------------------------------

void DownstreamConnection::begin_drain() {
  draining_ = true;
  if (connection_ != nullptr) {
    connection_->begin_drain();
  } else if (relay_ == nullptr && secure_ == nullptr && first_bytes_.empty()) {
    close();  // nothing was said yet
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
  first_bytes_.clear();
  unlink();
  worker_.downstream_closed();
  // What may be on the stack now is destroyed at the turn's end, this object's members with it.
  worker_.loop().reap(std::unique_ptr<DownstreamConnection>(this));
}

}  // namespace proxy::server
