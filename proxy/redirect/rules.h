// The rules of an Istio sidecar as data, and as text for iptables-restore. Pure.
// Not what is in the kernel now (saved.h), and not its addresses and routes (kernel.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proxy/redirect/options.h"

namespace proxy::redirect {

// Marks the rules of ours in the kernel's own chains that nothing else tells apart from those of
// others; the rest are jumps into chains whose names are ours.
inline constexpr std::string_view kOwnerComment = "hoplite-redirect";

// Source of what the proxy sends to its own workload: nothing redirects it again.
std::string_view passthrough_source(Family family) noexcept;

// Set on what the proxy sends over loopback, under TPROXY, so that it is taken for inbound.
inline constexpr std::uint32_t kOutboundMark = 1338;

struct Rule {
  std::string chain;
  std::string spec;    // what follows "-A CHAIN "
  bool first = false;  // goes before the rules that are there, rather than after

  bool operator==(const Rule&) const = default;
};

struct Table {
  std::string name;                 // "nat", "mangle"
  std::vector<std::string> chains;  // of ours, to be made
  std::vector<Rule> rules;          // in the order in which they are added
};

using Ruleset = std::vector<Table>;

// Is a chain of this name in this table ours?
bool is_our_chain(std::string_view table, std::string_view chain) noexcept;

// The rules of one family, tables in the order in which they are installed.
Ruleset rules_for(const Options& options, Family family);

// What iptables-restore --noflush takes, for tables that have none of our chains yet.
std::string restore_text(const Ruleset& rules);

// "-A CHAIN SPEC" or "-I CHAIN 1 SPEC".
std::string command(const Rule& rule);

}  // namespace proxy::redirect
