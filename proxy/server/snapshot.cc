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
  spec.http1_advice = "list it in outbound.services with protocol: http1";
  return spec;
}

upstream::ClusterSpec app_spec(const config::Config& config) {
  auto spec = common_spec(config);
  spec.name = "app";
  spec.protocol = config.inbound.protocol;
  spec.http1_advice = "set --inbound-protocol http1 (inbound.protocol: http1)";
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

upstream::ClusterSpec service_spec(const config::Config& config, const config::Service& service,
                                   const std::shared_ptr<const tls::Context>& client) {
  auto spec = common_spec(config);
  spec.name = service.name + ":" + std::to_string(service.port);
  spec.endpoints = service.endpoints;
  spec.balance = service.balance;
  spec.protocol = service.protocol;
  spec.upgrade = service.upgrade;
  spec.http1_advice = "set protocol: http1 for its service";
  if (service.tls.mode == config::ServiceTlsMode::mutual) {
    spec.connect.tls = client;
    spec.connect.sni = service.tls.sni.empty() ? mesh_sni(service) : service.tls.sni;
    spec.connect.expected_sans = service.tls.sans;
  }
  return spec;
}

using SharedSpec = std::shared_ptr<const upstream::ClusterSpec>;

SharedSpec at(const std::vector<SharedSpec>& specs, std::size_t index) {
  return index < specs.size() ? specs[index] : nullptr;
}

SharedSpec same_or_new(upstream::ClusterSpec spec, SharedSpec before) {
  if (before != nullptr && before->same_as(spec)) return before;
  return std::make_shared<const upstream::ClusterSpec>(std::move(spec));
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

std::expected<Contexts, std::string> make_contexts(const config::Config& config,
                                                   const tls::TicketSecret& tickets) {
  Contexts contexts;
  const tls::CredentialFiles files{config.mtls.cert, config.mtls.key, config.mtls.ca};
  if (!config.mtls.cert.empty()) {
    auto client = tls::Context::make_client({files, config.mtls.trust_domain});
    if (!client) return std::unexpected(tls::describe(client.error()));
    contexts.client = std::move(*client);
  }
  if (config.mtls.mode == config::MtlsMode::off) return contexts;
  tls::ServerSpec spec;
  spec.files = files;
  spec.trust_domain = config.mtls.trust_domain;
  spec.alpn = config.interception == config::Interception::none
                  ? tls::alpn::list(tls::alpn::kServerHttp)
                  : tls::alpn::list(tls::alpn::kServerTcp);
  spec.ticket_secret = tickets;
  auto mutual = tls::Context::make_server(spec);
  if (!mutual) return std::unexpected(tls::describe(mutual.error()));
  contexts.mutual = std::move(*mutual);
  if (config.mtls.mode == config::MtlsMode::permissive) {
    spec.require_client_certificate = false;
    auto terminate = tls::Context::make_server(spec);
    if (!terminate) return std::unexpected(tls::describe(terminate.error()));
    contexts.terminate = std::move(*terminate);
  }
  return contexts;
}

std::shared_ptr<const Snapshot> make_snapshot(const config::Config& config, Contexts contexts,
                                              std::uint64_t generation,
                                              const AddressesOf& addresses_of,
                                              telemetry::Registry& registry,
                                              const Snapshot* before) {
  config::Config found = config;  // with addresses for names
  for (config::Service& service : found.outbound.services) {
    service.endpoints = resolved(service.endpoints, addresses_of);
  }
  const auto snapshot = std::make_shared<Snapshot>(Snapshot{
      std::move(contexts),
      config,
      generation,
      registry.intern_own(own_labels(config.workload)),
      route::Table::inbound(config),
      route::Table::outbound(found),
      filter::make_inbound(config, registry),
      filter::make_outbound(config, registry),
      {},
      {},
      nullptr,
      nullptr,
      std::make_shared<const std::string>(telemetry::exchange_frame(filter::own_metadata(config))),
  });
  snapshot->passthrough = same_or_new(common_spec(config), before ? before->passthrough : nullptr);
  snapshot->to_app = same_or_new(app_spec(config), before ? before->to_app : nullptr);
  if (config.inbound.app.is_set()) {
    auto spec = app_spec(config);
    spec.endpoints = resolved({config.inbound.app}, addresses_of);
    snapshot->inbound_clusters.push_back(
        same_or_new(std::move(spec), before ? at(before->inbound_clusters, 0) : nullptr));
  }
  for (std::size_t i = 0; i < found.outbound.services.size(); ++i) {
    snapshot->outbound_clusters.push_back(
        same_or_new(service_spec(config, found.outbound.services[i], snapshot->client),
                    before ? at(before->outbound_clusters, i) : nullptr));
  }
  return snapshot;
}

}  // namespace proxy::server
