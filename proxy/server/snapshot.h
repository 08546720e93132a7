// Snapshot: one configuration turned into everything the workers need. Immutable, shared by all.
// Not per-worker state (worker.h) and not the reading of files (config/).
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "proxy/config/schema.h"
#include "proxy/filter/filter.h"
#include "proxy/route/table.h"
#include "proxy/server/endpoints.h"
#include "proxy/upstream/cluster.h"
#include "telemetry/registry.h"
#include "tls/context.h"

namespace proxy::server {

// The TLS of a configuration.
struct Contexts {
  // Null where mtls.mode is off. `mutual` demands a client certificate; `terminate` takes one-way
  // TLS too and exists in permissive mode only, for clients that are not of the mesh.
  std::shared_ptr<const tls::Context> mutual;
  std::shared_ptr<const tls::Context> terminate;
  // Null without credentials.
  std::shared_ptr<const tls::Context> client;
};

struct Snapshot : Contexts {
  config::Config config;         // as it was written: with names
  std::uint64_t generation = 0;  // grows with every reload, not with an answer of DNS
  telemetry::OwnRef own;

  route::Table inbound_routes;
  route::Table outbound_routes;
  filter::Chain inbound_filters;
  filter::Chain outbound_filters;
  std::vector<std::shared_ptr<const upstream::ClusterSpec>> inbound_clusters;  // the app
  std::vector<std::shared_ptr<const upstream::ClusterSpec>> outbound_clusters;
  // What leads to original destinations: without endpoints, which each connection brings along.
  std::shared_ptr<const upstream::ClusterSpec> to_app;
  std::shared_ptr<const upstream::ClusterSpec> passthrough;
  // Our metadata, as raw TCP peers are told it. Tunnels outlive snapshots.
  std::shared_ptr<const std::string> exchange_frame;
};

// Reads the credential files; the error is one line that names file and cause.
std::expected<Contexts, std::string> make_contexts(const config::Config& config,
                                                   const tls::TicketSecret& tickets);

// Everything else. Specs that did not change since `before`, if there is one, are the same objects.
std::shared_ptr<const Snapshot> make_snapshot(const config::Config& config, Contexts contexts,
                                              std::uint64_t generation,
                                              const AddressesOf& addresses_of,
                                              telemetry::Registry& registry,
                                              const Snapshot* before);

// The labels of our own side of the metrics.
telemetry::WorkloadLabels own_labels(const config::Workload& workload);

}  // namespace proxy::server
