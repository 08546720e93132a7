// What exchanges share: the worker's services, and the rules of one direction.
// Not configuration parsing and not connections; server/ fills these in.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "proxy/config/schema.h"
#include "proxy/filter/filter.h"
#include "proxy/filter/scope.h"
#include "proxy/net/loop.h"
#include "proxy/route/table.h"
#include "proxy/upstream/cluster.h"
#include "telemetry/access_log.h"

namespace proxy::exchange {

// The worker's services; outlives every exchange.
struct Environment {
  net::Loop& loop;
  filter::WorkerState& filters;
  telemetry::AccessLog::Producer& access_log;
};

// How one direction behaves under one snapshot, on one worker. Immutable but for the destination
// references, which are renewed when telemetry gave their place away.
struct Rules {
  std::shared_ptr<const void> snapshot;  // keeps what the pointers below point to
  const config::Config* config = nullptr;
  const route::Table* routes = nullptr;
  const filter::Chain* filters = nullptr;
  telemetry::Direction direction = telemetry::Direction::inbound;
  std::string upstream_principal;  // who we are towards upstream; empty without mTLS
  std::vector<std::shared_ptr<upstream::Cluster>> clusters;  // index: route::Plan::cluster
  std::vector<telemetry::DestinationRef> destinations;       // index: Table::index_of(plan)
};

// Gives the cluster whose only endpoint is where an intercepted connection was going.
class ToOriginal {
 public:
  virtual ~ToOriginal() = default;
  // For a plan of `rules` with Plan::original. Never null.
  virtual std::shared_ptr<upstream::Cluster> cluster(const Rules& rules,
                                                     const route::Plan& plan) = 0;
};

// What an exchange may know of the connection its request came on. Owned by the connection's
// owner; outlives every exchange of the connection, since an exchange is finished at the latest by
// the reset that the connection's end brings.
struct Downstream {
  telemetry::SecurityPolicy policy = telemetry::SecurityPolicy::unknown;
  // Loop time of the first byte of the request that starts next, where it was held back to tell
  // HTTP/1 from HTTP/2; 0: it is read just now.
  std::uint64_t first_byte_us = 0;
  const tls::PeerIdentity* identity = nullptr;
  std::string own_principal;
  filter::PeerMemo peer;
  telemetry::SeriesCache series;
  // Where the connection was going; both null when it was not intercepted.
  const route::OriginalDestination* original = nullptr;
  ToOriginal* to_original = nullptr;
  telemetry::SeriesCache messages;
};

}  // namespace proxy::exchange
