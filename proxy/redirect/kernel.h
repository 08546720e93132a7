// What redirection needs besides rules: ::6/128 on lo, and under TPROXY a policy rule and a local
// route. Each bears our mark, so that what others added is neither doubled nor removed.
// Not the iptables rules: tables.h.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "proxy/redirect/options.h"

namespace proxy::redirect {

// As IFA_PROTO, FRA_PROTOCOL and rtm_protocol: "proto 133" in what `ip` prints. No other program's.
inline constexpr std::uint8_t kOwnerProtocol = 133;

// What this network namespace has of IPv6.
enum class Ipv6 : std::uint8_t {
  absent,     // not in this kernel
  disabled,   // switched off on all interfaces
  link_only,  // no address that anything beyond the link could reach
  present,
};
Ipv6 ipv6_here();
// In words, for whoever wonders why IPv6 was passed over.
std::string describe(Ipv6 state);

// Marks and table of TPROXY's policy routing.
struct Policy {
  std::uint32_t mark = 0;
  std::uint32_t table = 0;
};

// Makes ours exactly what `options` need (none: nothing), adding what lacks and removing what was
// of an earlier configuration. Each line says what was done, none when there was nothing to do;
// the error says what failed and why, and then `done` holds what was done before.
struct KernelChange {
  std::vector<std::string> done;
  std::string error;
};
KernelChange set_address(bool wanted);
bool has_our_address();
KernelChange set_policy(Family family, std::optional<Policy> wanted);
std::optional<Policy> our_policy(Family family);

// In words: what of it is missing. Empty = nothing.
std::vector<std::string> missing_address();
std::vector<std::string> missing_policy(Family family, Policy wanted);

}  // namespace proxy::redirect
