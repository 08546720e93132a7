// What a filter runs in: a worker's state, a connection's memo and a scope.
// Not an exchange: tests say themselves what one would have filled in.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/filter/filter.h"
#include "proxy/filter/scope.h"

namespace proxy::filter {

using Fields = std::vector<std::pair<std::string, std::string>>;

struct Worker {
  telemetry::Registry registry{1000};
  telemetry::Shard shard{registry};
  telemetry::PeerMetadataCache peers;
  RequestIds ids{42};
  WorkerState state{shard, peers, ids};

  std::uint64_t metadata(telemetry::MetadataResult result) const {
    constexpr telemetry::CounterCell<telemetry::MetadataResult> kCell(
        telemetry::Counter::peer_metadata);
    return shard.counter(kCell.first + telemetry::cell_of(result));
  }
  std::uint64_t denied(std::string_view rule, telemetry::DenyMode mode) {
    constexpr std::size_t kFirst =
        telemetry::kCounterOffsets[static_cast<std::size_t>(telemetry::Counter::requests_denied)];
    return shard.counter(kFirst + registry.intern_rule(rule).id * 2U +
                         static_cast<std::size_t>(mode));
  }
  telemetry::PartyRef party(const telemetry::PeerLabels& labels) {
    return shard.intern_peer(labels);
  }
};

inline constexpr std::string_view kPeer = "spiffe://cluster.local/ns/shop/sa/web";
inline constexpr std::string_view kOwn = "spiffe://cluster.local/ns/books/sa/reviews";

inline tls::PeerIdentity identity_of(std::string_view uri) {
  tls::PeerIdentity identity;
  identity.spiffe_uri = uri;
  identity.sha256_hex = std::string(64, 'a');
  return identity;
}

// One connection of a peer, and the requests on it one after the other.
struct Connection {
  Connection(Worker& its_worker, telemetry::Direction its_direction,
             std::optional<std::string_view> principal)
      : worker(its_worker), direction(its_direction) {
    if (principal) identity = identity_of(*principal);
    const auto policy =
        principal ? telemetry::SecurityPolicy::mutual_tls : telemetry::SecurityPolicy::none;
    memo.base = telemetry::peer_labels(nullptr, principal.value_or(std::string_view()),
                                       principal ? kOwn : std::string_view(), policy);
  }

  Scope scope() {
    Scope out{.worker = worker.state, .direction = direction};
    if (direction == telemetry::Direction::inbound) {
      out.identity = identity ? &*identity : nullptr;
      out.own_principal = identity ? kOwn : std::string_view();
      out.downstream_peer = &memo;
    } else {
      out.upstream_peer = &memo;
    }
    out.plan = &plan;
    return out;
  }

  Worker& worker;
  telemetry::Direction direction;
  std::optional<tls::PeerIdentity> identity;
  PeerMemo memo;
  route::Plan plan{0, "reviews", "reviews", "books", "reviews.books.svc.cluster.local:9080/*"};
};

inline http::RequestHead request(const Fields& fields) {
  http::RequestHead head;
  for (const auto& [name, value] : fields) head.headers.add(name, value);
  return head;
}

inline http::ResponseHead response(const Fields& fields, std::uint16_t status = 200) {
  http::ResponseHead head;
  head.status = status;
  for (const auto& [name, value] : fields) head.headers.add(name, value);
  return head;
}

// All values of that name joined by "|"; "-" when there is none.
inline std::string values(const http::HeaderMap& headers, std::string_view name) {
  std::string out;
  bool any = false;
  for (const http::HeaderMap::Field& field : headers.fields()) {
    if (field.removed) continue;
    std::string lower(headers.name(field));
    for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (lower != name) continue;
    if (any) out += '|';
    out += headers.value(field);
    any = true;
  }
  return any ? out : "-";
}

inline telemetry::OwnMetadata own_metadata_of(std::string workload) {
  telemetry::OwnMetadata own;
  own.workload.workload = std::move(workload);
  return own;
}

inline config::Config sample_config() {
  config::Config config;
  config.workload.name = "reviews-v1";
  config.workload.namespace_name = "books";
  config.workload.app = "reviews";
  config.workload.version = "v1";
  config.workload.canonical_service = "reviews";
  config.workload.canonical_revision = "v1";
  config.workload.cluster = "east";
  config.workload.service_account = "reviews";
  return config;
}

}  // namespace proxy::filter
