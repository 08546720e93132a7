// The half of DownstreamConnection that serves HTTP: the codec, and who is asked of it.
// Not a request: exchange/ has those.
#include <algorithm>
#include <utility>

#include "proxy/http1/server_connection.h"
#include "proxy/http2/server_connection.h"
#include "proxy/server/downstream_connection.h"
#include "proxy/server/worker.h"
#include "telemetry/record.h"

namespace proxy::server {
namespace {

http1::ServerConnectionOptions http1_options(const config::Config& config) {
  http1::ServerConnectionOptions options;
  options.limits.head_bytes = config.limits.head_bytes;
  options.limits.header_count = config.limits.header_count;
  options.idle_timeout = config.timeouts.idle;
  options.max_requests = config.limits.requests_per_connection;
  return options;
}

http2::ServerConnectionOptions http2_options(const config::Config& config) {
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
  return options;
}

}  // namespace

// Found by sniffing. What was connected for it already is used.
void DownstreamConnection::serve_http(upstream::Codec codec) {
  codec_ = codec;
  if (intercepted() && !worker_.server_first().knows(destination_key(), worker_.loop().now_ms())) {
    worker_.speaks_http().remember(destination_key(), worker_.loop().now_ms());
  }
  if (tunnel_ == nullptr) {
    begin_http();
    return;
  }
  enter(State::adopting);
  if (tunnel_->connected()) {
    adopt_eager_connection();
  } else {
    transport_->set_reading(false);
  }
}

void DownstreamConnection::begin_http() {
  enter(State::serving);
  if (!first_bytes_.empty()) transport_->put_back(std::move(first_bytes_));
  if (secure_ == nullptr) describe_peer();
  const config::Config& config = worker_.snapshot().config;
  auto& owner = static_cast<http::ServerConnectionOwner&>(*this);
  if (codec_ == upstream::Codec::http2) {
    first_byte_us_ = 0;  // requests begin with a stream of theirs, not with the preface
    http2::ServerConnectionOptions options = http2_options(config);
    options.observer = static_cast<http2::Observer*>(this);
    auto made =
        std::make_unique<http2::ServerConnection>(std::move(transport_), *this, owner, options);
    made->start();
    connection_ = std::move(made);
  } else {
    auto made = std::make_unique<http1::ServerConnection>(std::move(transport_), *this, owner,
                                                          http1_options(config));
    made->start();
    connection_ = std::move(made);
  }
  if (draining_) connection_->begin_drain();
}

// Who is at the other end, as far as TLS tells.
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

void DownstreamConnection::on_flood(http2::FloodKind kind) noexcept {
  Http2Counters::on_flood(kind);
  worker_.rate_limited_log().warning(LogKind::flood, worker_.loop().now_us(),
                                     "an HTTP/2 client at {} was refused for too much of: {}",
                                     client_.text(), http2::word_of(kind));
}

void DownstreamConnection::on_request_started(http::ServerStream& stream) {
  const std::size_t limit = worker_.snapshot().config.limits.requests_per_connection;
  if (++requests_ == limit) {
    worker_.shard().add(telemetry::Counter::limits_hit, 1,
                        telemetry::Limit::requests_per_connection);
  }
  facts_.first_byte_us = std::exchange(first_byte_us_, 0);
  if (judged_generation_ != worker_.snapshot().generation) judge();
  worker_.exchanges().start(stream, facts_, worker_.rules(direction_), refusal_);
}

void DownstreamConnection::on_closed(http::ServerConnection&, Error why) {
  if (why.code == Code::idle && !draining_) {
    worker_.shard().add(telemetry::Counter::timeouts, 1, telemetry::Timeout::idle);
  }
  close();
}

}  // namespace proxy::server
