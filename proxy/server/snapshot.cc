// From a checked configuration to contexts, tables, filters and cluster specs.
// Does not touch any worker.
#include "proxy/server/snapshot.h"

#include "proxy/filter/peer_metadata.h"
#include "telemetry/peer_exchange.h"
#include "tls/alpn.h"

namespace proxy::server {
namespace {

upstream::ClusterSpec common_spec(const config::Config& config) {
  upstream::ClusterSpec spec;
  spec.connect.connect_timeout = config.timeouts.connect;
  spec.connect.tls_timeout = config.timeouts.tls;
  spec.max_connections = config.limits.upstream_connections;
  spec.max_pending = config.limits.upstream_pending;
  spec.max_idle_per_endpoint = config.limits.upstream_idle_connections;
  spec.retry_percent = config.limits.retry_budget;
  spec.idle_timeout = config.timeouts.upstream_idle;
  spec.max_age = config.timeouts.upstream_max_age;
  spec.message_limits.head_bytes = config.limits.head_bytes;
  spec.message_limits.header_count = config.limits.header_count;
  spec.http2.limits.head_bytes = config.limits.head_bytes;
  spec.http2.limits.header_count = config.limits.header_count;
  spec.http2.max_concurrent_streams = static_cast<std::uint32_t>(config.limits.http2_streams);
  spec.http2.ping_interval = config.timeouts.http2_keepalive;
  spec.http2.write_stall_timeout = config.timeouts.body_idle;
  return spec;
}

upstream::ClusterSpec app_spec(const config::Config& config) {
  auto spec = common_spec(config);
  spec.name = "app";
  spec.protocol = config.inbound.protocol;
  return spec;
}

// Istio's form of the SNI of a mesh connection (spec 3.3).
std::string mesh_sni(const config::Service& service) {
  for (const std::string& host : service.hosts) {
    if (!host.starts_with('*')) {
      return "outbound_." + std::to_string(service.port) + "_._." + host;
    }
  }
  return {};
}

}  // namespace

telemetry::WorkloadLabels own_labels(const config::Workload& workload) {
  telemetry::WorkloadLabels labels;
  labels.workload = workload.name;
  labels.workload_namespace = workload.namespace_name;
  labels.canonical_service = workload.canonical_service;
  labels.canonical_revision = workload.canonical_revision;
  labels.app = workload.app;
  labels.version = workload.version;
  labels.cluster = workload.cluster;
  return labels;
}

std::expected<std::shared_ptr<const Snapshot>, std::string> build_snapshot(
    const config::Config& config, std::uint64_t generation, telemetry::Registry& registry,
    const tls::TicketSecret& tickets) {
  const auto snapshot = std::make_shared<Snapshot>(Snapshot{
      .config = config,
      .generation = generation,
      .own = registry.intern_own(own_labels(config.workload)),
      .inbound_routes = route::Table::inbound(config),
      .outbound_routes = route::Table::outbound(config),
      .inbound_filters = filter::make_inbound(config, registry),
      .outbound_filters = filter::make_outbound(config, registry),
      .inbound_clusters = {},
      .outbound_clusters = {},
      .to_app = nullptr,
      .passthrough = nullptr,
      .exchange_frame = telemetry::exchange_frame(filter::own_metadata(config)),
      .mutual = nullptr,
      .terminate = nullptr,
      .client = nullptr,
  });
  const tls::CredentialFiles files{config.mtls.cert, config.mtls.key, config.mtls.ca};
  if (!config.mtls.cert.empty()) {
    auto client = tls::Context::make_client({files, config.mtls.trust_domain});
    if (!client) return std::unexpected(tls::describe(client.error()));
    snapshot->client = std::move(*client);
  }
  if (config.mtls.mode != config::MtlsMode::off) {
    tls::ServerSpec spec;
    spec.files = files;
    spec.trust_domain = config.mtls.trust_domain;
    spec.alpn = config.interception == config::Interception::none
                    ? tls::alpn::list(tls::alpn::kServerHttp)
                    : tls::alpn::list(tls::alpn::kServerTcp);
    spec.ticket_secret = tickets;
    auto mutual = tls::Context::make_server(spec);
    if (!mutual) return std::unexpected(tls::describe(mutual.error()));
    snapshot->mutual = std::move(*mutual);
    if (config.mtls.mode == config::MtlsMode::permissive) {
      spec.require_client_certificate = false;
      auto terminate = tls::Context::make_server(spec);
      if (!terminate) return std::unexpected(tls::describe(terminate.error()));
      snapshot->terminate = std::move(*terminate);
    }
  }
  snapshot->passthrough = std::make_shared<const upstream::ClusterSpec>(common_spec(config));
  snapshot->to_app = std::make_shared<const upstream::ClusterSpec>(app_spec(config));
  if (config.inbound.app.is_set()) {
    auto spec = app_spec(config);
    spec.endpoints = {config.inbound.app};
    snapshot->inbound_clusters.push_back(
        std::make_shared<const upstream::ClusterSpec>(std::move(spec)));
  }
  for (const config::Service& service : config.outbound.services) {
    auto spec = common_spec(config);
    spec.name = service.name + ":" + std::to_string(service.port);
    spec.endpoints = service.endpoints;
    spec.balance = service.balance;
    spec.protocol = service.protocol;
    spec.upgrade = service.upgrade;
    if (service.tls.mode == config::ServiceTlsMode::mutual) {
      spec.connect.tls = snapshot->client;
      spec.connect.sni = service.tls.sni.empty() ? mesh_sni(service) : service.tls.sni;
      spec.connect.expected_sans = service.tls.sans;
    }
    snapshot->outbound_clusters.push_back(
        std::make_shared<const upstream::ClusterSpec>(std::move(spec)));
  }
  return snapshot;
}

}  // namespace proxy::server
