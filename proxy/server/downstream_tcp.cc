// The half of DownstreamConnection for what is intercepted, and for all that is passed on as TCP.
// Whoever speaks first decides: the client by its first bytes, or the destination, which is
// connected as TCP when the client has been silent for detection.eager_after.
#include <algorithm>
#include <array>
#include <chrono>
#include <span>

#include "proxy/detect/sniff.h"
#include "proxy/net/original_destination.h"
#include "proxy/server/downstream_connection.h"
#include "proxy/server/worker.h"
#include "telemetry/record.h"

namespace proxy::server {
namespace {

using telemetry::Direction;

// How long a client may take to say that it speaks HTTP: where others did, or the server does, or
// when it goes nowhere.
constexpr std::chrono::milliseconds kPatience{1000};
// TPROXY: the mark by which the answers to an app's client come back here (hoplite redirect).
constexpr std::uint32_t kTproxyMark = 1337;

net::SocketAddress app_address(const net::SocketAddress& original, config::AppAddress wanted) {
  if (wanted == config::AppAddress::original) return original;
  return *net::SocketAddress::parse(original.is_ipv6() ? "::1" : "127.0.0.1", original.port());
}

// A server of HTTP/2 sends its settings unasked (RFC 9113 3.4) and yet does not speak first.
bool is_http2_server(const Chain& first) {
  std::array<std::byte, detect::kFrameHeadSize> head;
  if (first.size() < head.size()) return false;
  first.copy_to(head);
  return detect::is_settings(head);
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
    enter(State::versioning);
    return;
  }
  if (plain && traffic == config::Traffic::tcp) {
    become_tcp();
    return;
  }
  enter(plain ? State::sniffing : State::undecided);
  const bool speaks_first =
      traffic == config::Traffic::tcp ||
      worker_.server_first().knows(destination_key(), worker_.loop().now_ms());
  if (speaks_first && plain) {
    connect_eagerly();
  } else if (speaks_first) {
    // Permissive: a banner that overtook the client's hello would end its handshake.
    patience_.start(config.detection.eager_after);
  } else if (traffic == config::Traffic::any) {
    patience_.start(patience());
  }
}

// TCP by the word of a sidecar; only when it turns out to carry HTTP is it anything else.
void DownstreamConnection::begin_exchange() {
  if (!make_tunnel()) {
    close();
    return;
  }
  transport_ = tunnel_->exchange_with(std::move(transport_));
  if (tcp_plan().traffic == config::Traffic::tcp) {
    become_tcp();
    return;
  }
  enter(State::sniffing);
  transport_->start(*this);
  tunnel_->connect();
}

// Clients of HTTP open connections ahead of their needs; none of these is worth one to the server.
// And what goes nowhere is closed, but HTTP gets its 502 if it comes soon.
std::chrono::milliseconds DownstreamConnection::patience() const {
  const auto eager_after = worker_.snapshot().config.detection.eager_after;
  const bool http = worker_.speaks_http().knows(destination_key(), worker_.loop().now_ms());
  const route::Plan& to = tcp_plan();
  const bool nowhere = !to.original && to.cluster == route::Plan::kNoCluster;
  return http || nowhere ? std::max(eager_after, kPatience) : eager_after;
}

void DownstreamConnection::patience_over() {
  if (tunnel_ == nullptr) {
    connect_eagerly();
  } else {
    // It is no client of HTTP/2, for these say their preface unasked: what the server said is for
    // it, and if it is one after all, it is relayed as TCP.
    detected(telemetry::Detected::server_first);
    become_tcp();
  }
}

// The client has said nothing, or not enough: perhaps its destination speaks first.
void DownstreamConnection::connect_eagerly() {
  const config::Mtls& mtls = worker_.snapshot().config.mtls;
  // Nobody whose requests would be refused makes us connect anything.
  const bool anonymous = direction_ == Direction::inbound && secure_ == nullptr;
  if (anonymous && !mtls.allow.empty() && !mtls.audit) return;
  if (!make_tunnel()) return;
  worker_.shard().add(telemetry::Counter::eager_connects);
  tunnel_->connect();
}

// --- TCP ----------------------------------------------------------------------------------

// mtls judges a connection as it judges requests.
bool DownstreamConnection::may_pass() {
  if (direction_ == Direction::outbound) return true;
  if (judged_generation_ != worker_.snapshot().generation) judge();
  if (refusal_.code != Code::none) return false;
  filter::Scope scope{.worker = worker_.filter_state(), .direction = direction_};
  scope.identity = secure_ == nullptr ? nullptr : secure_->peer();
  scope.downstream_peer = &facts_.peer;
  return worker_.rules(direction_)->filters->on_connection(scope).has_value();
}

// The one tunnel of this connection; false: it may have none.
bool DownstreamConnection::make_tunnel() {
  if (tunnel_ != nullptr) return true;
  if (!may_pass()) return false;
  const auto rules = worker_.rules(direction_);
  const auto snapshot = std::static_pointer_cast<const Snapshot>(rules->snapshot);
  const route::Plan& to = tcp_plan();
  tunnel::Plan plan;
  plan.direction = direction_;
  plan.frame = snapshot->exchange_frame;
  plan.idle = snapshot->config.timeouts.tunnel_idle;
  plan.verified_policy =
      snapshot->config.stats.source_security_policy == config::SourcePolicy::verified;
  if (to.original) {
    plan.cluster = cluster(*rules, to);
  } else if (to.cluster != route::Plan::kNoCluster) {
    plan.cluster = rules->clusters[to.cluster];
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

void DownstreamConnection::become_tcp() {
  if (!make_tunnel()) {
    transport_->abort_on_close();
    close();
    return;
  }
  enter(State::relaying);
  transport_->set_reading(true);
  transport_->put_back(std::move(first_bytes_));
  tunnel_->join(std::move(transport_));
}

bool DownstreamConnection::may_splice() {
  return worker_.may_splice();
}

void DownstreamConnection::on_tunnel_connected(tunnel::Tunnel&) {
  if (state_ == State::adopting) {
    adopt_eager_connection();
    return;
  }
  if (!first_bytes_.empty()) return;
  if (draining_) return;  // the grace that runs goes on
  // Both are silent, as TCP may be for long.
  const auto idle = worker_.snapshot().config.timeouts.tunnel_idle;
  if (idle.count() == 0) {
    deadline_.stop();
  } else {
    deadline_.start(idle);
  }
}

void DownstreamConnection::on_destination_spoke(tunnel::Tunnel&, const Chain& first) {
  if (state_ != State::undecided && state_ != State::sniffing) return;
  const std::uint64_t now_ms = worker_.loop().now_ms();
  if (is_http2_server(first)) {
    if (intercepted()) worker_.speaks_http().remember(destination_key(), now_ms);
    patience_.start(kPatience);
    return;
  }
  if (intercepted()) {
    worker_.server_first().remember(destination_key(), now_ms);
    worker_.speaks_http().forget(destination_key());
  }
  detected(telemetry::Detected::server_first);
  become_tcp();
}

void DownstreamConnection::on_tunnel_ended(tunnel::Tunnel& ended) {
  if (state_ == State::closed) return;
  if (state_ == State::adopting) {
    adopt_eager_connection();
    return;
  }
  if (!ended.joined()) ended.count_unjoined();
  close();
}

// HTTP after all: the destination's connection is the pool's, and the first request finds it there.
// If there is none, the request makes its own attempt, and its answer says what is wrong.
void DownstreamConnection::adopt_eager_connection() {
  if (tunnel_->connected()) {
    auto upstream = tunnel_->take_upstream();
    upstream->set_reading(true);
    tunnel_->plan().cluster->adopt(tunnel_->endpoint(), codec_, std::move(upstream));
  }
  drop_tunnel();
  transport_->set_reading(true);
  begin_http();
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

}  // namespace proxy::server
