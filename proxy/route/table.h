// Table: which service a request goes to, by its authority. Built once from the configuration.
// Not load balancing and not connections: a Plan names a cluster by number, upstream/ has the rest.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "proxy/config/schema.h"

namespace proxy::route {

// Where a matched request goes. Lives in its Table.
struct Plan {
  static constexpr std::uint32_t kNoCluster = ~std::uint32_t{0};
  // Number of the service in Config::outbound.services; inbound tables have one cluster, number 0:
  // the app. kNoCluster: the request is refused (BlackHoleCluster).
  std::uint32_t cluster = kNoCluster;
  // Destination labels as spec 2.3 has them. A refused host's label is its raw Host value instead.
  std::string service;            // FQDN: the first exact host
  std::string service_name;       // short name / "BlackHoleCluster"
  std::string service_namespace;  // "unknown" where the configuration says nothing
  // x-envoy-decorator-operation: "HOST:PORT/*"
  std::string operation;
  // Goes to where the connection was going, spoken to as `cluster` would be, if there is one.
  bool original = false;
  // Of no service: the raw Host value is the label instead of `service`.
  bool unmatched = false;
  config::Traffic traffic = config::Traffic::any;
};

// Where an intercepted connection was going. IPv4 as it is mapped into IPv6.
struct OriginalDestination {
  std::array<std::uint8_t, 16> address{};
  std::uint16_t port = 0;
  bool operator==(const OriginalDestination&) const = default;
};

// Immutable; shared by all workers.
class Table {
 public:
  // All services of outbound, matched by host (exact first, then the longest "*.suffix") and port.
  static Table outbound(const config::Config& config);
  // Everything goes to the app; destination labels are the own canonical service and namespace.
  static Table inbound(const config::Config& config);

  // `authority` as it came: any case, with or without a port, maybe a trailing dot, IPv6 in
  // brackets and in any spelling. Without a port it is the host's service on port 80, or else the
  // first configured one of this host. What no service has, junk included, gets the refused plan.
  // Allocates nothing; takes at most kMaxHostBytes / 2 lookups whatever was sent.
  // `original`: null when nobody knows. Its port stands in for one that the authority lacks; what
  // no service has by name is looked up by address, then passed through if that is configured.
  // Inbound it is the port that decides.
  const Plan& match(std::string_view authority,
                    const OriginalDestination* original = nullptr) const noexcept;
  // The same for a connection that names nobody: by its address alone.
  const Plan& match_address(const OriginalDestination& original) const noexcept;
  static constexpr std::size_t kMaxHostBytes = 253;
  // All plans, the refused one first; a Plan's position here never changes.
  const std::vector<Plan>& plans() const noexcept { return plans_; }
  std::uint32_t index_of(const Plan& plan) const noexcept {
    return static_cast<std::uint32_t>(&plan - plans_.data());
  }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const noexcept {
      return std::hash<std::string_view>{}(text);
    }
  };
  using Hosts = std::unordered_map<std::string, std::uint32_t, TextHash, std::equal_to<>>;

  Table() = default;
  void add_host(std::string_view host, std::uint16_t port, std::uint32_t plan);
  void add_address(std::string_view network, std::uint16_t port, std::uint32_t plan);
  const Plan* match_host(std::string_view authority, std::uint16_t port) const noexcept;

  std::vector<Plan> plans_;
  bool single_ = false;             // inbound: every authority matches plan 1
  Hosts exact_;                     // "host:port", and "host:" for an authority without a port
  Hosts wildcard_;                  // ".suffix:port" and ".suffix:" likewise
  std::size_t longest_suffix_ = 0;  // of wildcard_, without the port

  struct Network {
    OriginalDestination base;
    unsigned bits = 128;  // of the address as 16 bytes
    std::uint32_t plan = 0;
  };
  struct DestinationHash {
    std::size_t operator()(const OriginalDestination& to) const noexcept;
  };
  std::unordered_map<OriginalDestination, std::uint32_t, DestinationHash> addresses_;
  std::vector<Network> networks_;                           // the narrowest first
  std::unordered_map<std::uint16_t, std::uint32_t> ports_;  // inbound
  std::uint32_t passthrough_ = 0;                           // 0: refused
};

}  // namespace proxy::route
