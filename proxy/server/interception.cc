// The half of DownstreamConnection for what is intercepted, and for all that is passed on as TCP.
// Whoever speaks first decides: the client by its first bytes, or the destination, which is
// connected as TCP when the client has been silent for detection.eager_after.
#include <algorithm>
#include <array>
#include <chrono>

#include "proxy/detect/sniff.h"
#include "proxy/net/original_destination.h"
#include "proxy/server/downstream_connection.h"
#include "proxy/server/worker.h"
#include "telemetry/record.h"
#include "tls/client_hello.h"

namespace proxy::server {
namespace {

using telemetry::Detected;
using telemetry::Direction;

constexpr std::string_view kExchangeAlpn = "istio-peer-exchange";
// How long a client may take to say that it speaks HTTP: where others did, or when it goes nowhere.
constexpr std::chrono::milliseconds kPatience{1000};
// TPROXY: the mark by which the answers to an app's client come back here (hoplite redirect).
constexpr std::uint32_t kTproxyMark = 1337;

net::SocketAddress app_address(const net::SocketAddress& original, config::AppAddress wanted) {
  if (wanted == config::AppAddress::original) return original;
  return *net::SocketAddress::parse(original.is_ipv6() ? "::1" : "127.0.0.1", original.port());
}

}  // namespace

const route::Plan& DownstreamConnection::tcp_plan() const {
  const exchange::Rules& rules = *worker_.rules(direction_);
  if (!intercepted()) return rules.routes->match({});
  return rules.routes->match_address(original_key_);
}

detect::Destinations::Destination DownstreamConnection::destination_key() const {
  return {original_key_.address, original_key_.port};
}

std::shared_ptr<upstream::Cluster> DownstreamConnection::cluster(const exchange::Rules& rules,
                                                                 const route::Plan& plan) {
  const auto snapshot = std::static_pointer_cast<const Snapshot>(rules.snapshot);
  const config::Config& config = snapshot->config;
  net::ConnectOptions from;
  if (direction_ == Direction::outbound) {
    const auto& like = plan.cluster == route::Plan::kNoCluster
                           ? snapshot->passthrough
                           : snapshot->outbound_clusters[plan.cluster];
    return worker_.originals().get(like, original_, from);
  }
  if (config.interception == config::Interception::tproxy) {
    from = {client_.with_port(0), true, kTproxyMark};
  } else {
    from.source = net::passthrough_source(original_.is_ipv6());
  }
  return worker_.originals().get(snapshot->to_app,
                                 app_address(original_, config.inbound.app_address), from);
}

// --- what is it? --------------------------------------------------------------------------

void DownstreamConnection::begin_intercepted() {
  const config::Config& config = worker_.snapshot().config;
  const config::Traffic traffic = tcp_plan().traffic;
  const bool plain = direction_ == Direction::outbound || config.mtls.mode == config::MtlsMode::off;
  if (plain && traffic == config::Traffic::http) {
    await_version();
    transport_->start(*this);
    return;
  }
  if (plain && traffic == config::Traffic::tcp) {
    become_tcp();
    return;
  }
  sniffing_ = plain;
  if (direction_ == Direction::inbound && config.mtls.mode == config::MtlsMode::strict) {
    begin_handshake_time();  // nothing is connected before a handshake
  } else {
    if (config.timeouts.idle.count() != 0) deadline_.start(config.timeouts.idle);
    const bool speaks_first =
        traffic == config::Traffic::tcp ||
        worker_.server_first().knows(destination_key(), worker_.loop().now_ms());
    if (speaks_first && plain) {
      connect_eagerly();
    } else if (speaks_first) {
      // Permissive: a banner that overtook the client's hello would end its handshake.
      eager_.start(config.detection.eager_after);
    } else if (traffic == config::Traffic::any) {
      eager_.start(patience());
    }
  }
  if (!closed_) transport_->start(*this);
}

// Clients of HTTP open connections ahead of their needs; none of these is worth one to the server.
std::chrono::milliseconds DownstreamConnection::patience() const {
  const auto eager_after = worker_.snapshot().config.detection.eager_after;
  const bool http = worker_.speaks_http().knows(destination_key(), worker_.loop().now_ms());
  return http ? std::max(eager_after, kPatience) : eager_after;
}

// Behind a handshake that was accepted.
void DownstreamConnection::handshake_done(const tls::HandshakeFacts& facts) {
  sniffing_ = true;
  deadline_.stop();
  const config::Config& config = worker_.snapshot().config;
  const config::Traffic traffic = tcp_plan().traffic;
  if (facts.alpn == kExchangeAlpn) {
    // TCP by the word of a sidecar; only when it turns out to carry HTTP is it anything else.
    if (!may_pass() || !make_tunnel()) {
      close();
      return;
    }
    exchange_begun_ = true;
    transport_ = tunnel_->exchange_with(std::move(transport_));
    if (traffic == config::Traffic::tcp) {
      become_tcp();
      return;
    }
    transport_->start(*this);
    tunnel_->connect();
    return;
  }
  if (!facts.alpn.empty() || traffic == config::Traffic::http) {
    begin_http_by(facts.alpn);
  } else if (traffic == config::Traffic::tcp) {
    become_tcp();
  } else {
    if (config.timeouts.idle.count() != 0) deadline_.start(config.timeouts.idle);
    eager_.start(patience());
  }
}

void DownstreamConnection::sniff() {
  std::array<std::byte, detect::kMaxSniffed> copy;
  const auto seen = std::span(copy).first(std::min(first_bytes_.size(), copy.size()));
  first_bytes_.copy_to(seen);
  switch (detect::sniff(seen)) {
    case detect::Protocol::unclear:
      return;
    case detect::Protocol::http1:
      detected(Detected::http1);
      serve_http(true);
      return;
    case detect::Protocol::http2:
      detected(Detected::http2);
      serve_http(false);
      return;
    case detect::Protocol::tls:
      detected(Detected::tls);
      note_sni();
      become_tcp();
      return;
    case detect::Protocol::tcp:
      detected(Detected::tcp);
      become_tcp();
      return;
  }
}

// TLS of the application: what it says of itself, as far as its first bytes tell.
void DownstreamConnection::note_sni() {
  std::array<std::byte, tls::kMaxClientHello> copy;
  const auto seen = std::span(copy).first(std::min(first_bytes_.size(), copy.size()));
  first_bytes_.copy_to(seen);
  tls::Peek peek = tls::peek(seen);
  if (peek.kind == tls::Peek::Kind::hello) sni_ = std::move(peek.hello.sni);
}

void DownstreamConnection::detected(telemetry::Detected what) {
  if (detected_ || !intercepted()) return;
  detected_ = true;
  worker_.shard().add(telemetry::Counter::detections, 1, direction_, what);
}

// --- TCP ----------------------------------------------------------------------------------

// mtls.allow judges a connection as it judges requests.
bool DownstreamConnection::may_pass() {
  if (direction_ == Direction::outbound) return true;
  filter::Scope scope{.worker = worker_.filter_state(), .direction = direction_};
  scope.identity = secure_ == nullptr ? nullptr : secure_->peer();
  scope.downstream_peer = &facts_.peer;
  return worker_.rules(direction_)->filters->on_connection(scope).has_value();
}

// False: the tunnel has ended already.
bool DownstreamConnection::make_tunnel() {
  if (tunnel_ != nullptr) return true;
  rules_ = worker_.rules(direction_);
  const auto snapshot = std::static_pointer_cast<const Snapshot>(rules_->snapshot);
  const route::Plan& to = tcp_plan();
  tunnel::Plan plan;
  plan.direction = direction_;
  plan.keep = snapshot;
  plan.frame = snapshot->exchange_frame;
  plan.idle = snapshot->config.timeouts.tunnel_idle;
  plan.verified_policy =
      snapshot->config.stats.source_security_policy == config::SourcePolicy::verified;
  if (to.original) {
    plan.cluster = cluster(*rules_, to);
  } else if (to.cluster != route::Plan::kNoCluster) {
    plan.cluster = rules_->clusters[to.cluster];
  }
  telemetry::Shard& shard = worker_.shard();
  plan.destination =
      to.unmatched ? shard.intern_destination({"unknown", to.service_name, "unknown"})
                   : shard.intern_destination({to.service, to.service_name, to.service_namespace});
  tunnel_ = std::make_unique<tunnel::Tunnel>(worker_.upstream(), std::move(plan),
                                             static_cast<tunnel::TunnelOwner&>(*this));
  return true;
}

void DownstreamConnection::drop_tunnel() {
  if (tunnel_ == nullptr) return;
  tunnel_->abandon();
  worker_.loop().reap(std::move(tunnel_));
}

// The client has said nothing, or not enough: perhaps its destination speaks first.
void DownstreamConnection::connect_eagerly() {
  if (closed_ || tunnel_ != nullptr) return;
  const config::Mtls& mtls = worker_.snapshot().config.mtls;
  // Nobody whose requests would be refused makes us connect anything.
  if (direction_ == Direction::inbound && secure_ == nullptr && !mtls.allow.empty() &&
      !mtls.audit) {
    return;
  }
  // What goes nowhere is closed, but HTTP gets its 502 if it comes soon.
  const route::Plan& to = tcp_plan();
  if (!to.original && to.cluster == route::Plan::kNoCluster && !patient_) {
    patient_ = true;
    eager_.start(kPatience);
    return;
  }
  if (!may_pass()) return;
  make_tunnel();
  worker_.shard().add(telemetry::Counter::eager_connects);
  tunnel_->connect();
}

void DownstreamConnection::become_tcp() {
  deadline_.stop();
  eager_.stop();
  if (!exchange_begun_ && !may_pass()) {
    transport_->abort_on_close();
    close();
    return;
  }
  make_tunnel();
  transport_->set_reading(true);
  transport_->put_back(std::move(first_bytes_));
  tunnel_->join(std::move(transport_));
}

void DownstreamConnection::on_tunnel_connected(tunnel::Tunnel&) {
  if (waiting_http_) {
    adopt_eager_connection();
    return;
  }
  // Both are silent, as TCP may be for long.
  const auto idle = worker_.snapshot().config.timeouts.tunnel_idle;
  if (idle.count() == 0) {
    deadline_.stop();
  } else {
    deadline_.start(idle);
  }
}

void DownstreamConnection::on_destination_spoke(tunnel::Tunnel&) {
  if (closed_ || waiting_http_) return;
  if (intercepted()) {
    worker_.server_first().remember(destination_key(), worker_.loop().now_ms());
    worker_.speaks_http().forget(destination_key());
  }
  detected(Detected::server_first);
  sniffing_ = true;
  become_tcp();
}

void DownstreamConnection::on_tunnel_ended(tunnel::Tunnel& ended) {
  if (closed_) return;
  if (waiting_http_) {
    adopt_eager_connection();
    return;
  }
  if (!ended.joined()) ended.count_unjoined();
  close();
}

void DownstreamConnection::log_tunnel() {
  if (tunnel_ == nullptr || !tunnel_->joined()) return;
  const telemetry::TcpFacts tcp = tunnel_->facts();
  const std::uint64_t duration = worker_.loop().now_us() - opened_us_;
  telemetry::RequestFacts facts;
  facts.reporter = tcp.reporter;
  facts.protocol = telemetry::Protocol::tcp;
  facts.policy = tcp.policy;
  facts.flags = tcp.flags;
  facts.duration_us = duration;
  facts.start_unix_us =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count()) -
      duration;
  facts.request_bytes = tunnel_->received();
  facts.response_bytes = tunnel_->sent();
  facts.authority = sni_;
  facts.protocol_text = "TCP";
  facts.upstream_address = tunnel_->upstream_address();
  facts.peer_principal = tunnel_->peer_principal();
  worker_.access_log().push(facts);
}

// --- HTTP ---------------------------------------------------------------------------------

// HTTP/1 uses what was connected for it already.
void DownstreamConnection::serve_http(bool http1) {
  eager_.stop();
  if (intercepted() && !worker_.server_first().knows(destination_key(), worker_.loop().now_ms())) {
    worker_.speaks_http().remember(destination_key(), worker_.loop().now_ms());
  }
  transport_->put_back(std::move(first_bytes_));
  if (tunnel_ == nullptr || !http1) {
    drop_tunnel();
    begin_http(http1 ? upstream::Codec::http1 : upstream::Codec::http2);
  } else if (tunnel_->connected()) {
    adopt_eager_connection();
  } else {
    waiting_http_ = true;
    transport_->set_reading(false);
  }
}

void DownstreamConnection::adopt_eager_connection() {
  waiting_http_ = false;
  if (tunnel_->connected()) {
    auto upstream = tunnel_->take_upstream();
    upstream->set_reading(true);
    tunnel_->plan().cluster->adopt(tunnel_->endpoint(), std::move(upstream));
  }
  drop_tunnel();
  transport_->set_reading(true);
  begin_http(upstream::Codec::http1);
}

}  // namespace proxy::server
