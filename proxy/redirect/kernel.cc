// Addresses, policy rules and routes, asked for and changed over rtnetlink.
#include "proxy/redirect/kernel.h"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "proxy/redirect/netlink.h"

namespace proxy::redirect {
namespace {

using Bytes = std::span<const std::byte>;

// An older header may lack it; the number is the kernel's since 5.18.
constexpr std::uint16_t kIfaProto = 11;
constexpr std::uint8_t kLoopbackProtocol = 1;  // IFAPROT_KERNEL_LO, on ::1 of such kernels
constexpr std::uint32_t kFullMask = 0xffffffff;

constexpr std::array<std::byte, 16> address_ending(unsigned char last) {
  std::array<std::byte, 16> out{};
  out[15] = std::byte{last};
  return out;
}

int number_of(Family family) {
  return family == Family::ipv4 ? AF_INET : AF_INET6;
}

template <class T>
bool split(Bytes message, T& fixed, Bytes& rest) {
  if (message.size() < sizeof fixed) return false;
  std::memcpy(&fixed, message.data(), sizeof fixed);
  rest = message.subspan(std::min<std::size_t>(NLMSG_ALIGN(sizeof fixed), message.size()));
  return true;
}

struct Found {
  bool there = false;
  bool ours = false;
};

// Before 5.18 an address has no mark; one that is there is then taken for ours.
Found find_address(Netlink& netlink) {
  const auto index = ::if_nametoindex("lo");
  Found out;
  bool marks = false;
  bool marked = false;
  ifaddrmsg query{};
  query.ifa_family = AF_INET6;
  netlink.dump(NetlinkMessage(RTM_GETADDR, NLM_F_DUMP, query), [&](Bytes message) {
    ifaddrmsg fixed{};
    Bytes rest;
    if (!split(message, fixed, rest) || fixed.ifa_index != index || fixed.ifa_prefixlen != 128) {
      return;
    }
    const NetlinkAttributes attributes(rest);
    const auto address = attributes[IFA_ADDRESS];
    const auto protocol = attributes.value<std::uint8_t>(kIfaProto, 0);
    if (std::ranges::equal(address, address_ending(1))) marks = protocol == kLoopbackProtocol;
    if (std::ranges::equal(address, address_ending(6))) {
      out.there = true;
      marked = protocol == kOwnerProtocol;
    }
  });
  out.ours = out.there && (marked || !marks);
  return out;
}

int change_address(Netlink& netlink, bool add) {
  ifaddrmsg fixed{};
  fixed.ifa_family = AF_INET6;
  fixed.ifa_prefixlen = 128;
  fixed.ifa_index = ::if_nametoindex("lo");
  fixed.ifa_flags = IFA_F_NODAD;
  NetlinkMessage message(add ? RTM_NEWADDR : RTM_DELADDR,
                         add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK, fixed);
  message.add(IFA_LOCAL, address_ending(6));
  message.add(IFA_ADDRESS, address_ending(6));
  if (add) message.add(kIfaProto, kOwnerProtocol);
  return netlink.request(std::move(message));
}

struct PolicyRule {
  Policy policy;
  std::uint32_t priority = 0;
  bool ours = false;
};

std::vector<PolicyRule> policy_rules(Netlink& netlink, Family family) {
  std::vector<PolicyRule> out;
  fib_rule_hdr query{};
  query.family = static_cast<std::uint8_t>(number_of(family));
  netlink.dump(NetlinkMessage(RTM_GETRULE, NLM_F_DUMP, query), [&](Bytes message) {
    fib_rule_hdr fixed{};
    Bytes rest;
    if (!split(message, fixed, rest) || fixed.action != FR_ACT_TO_TBL) return;
    const NetlinkAttributes attributes(rest);
    PolicyRule rule;
    rule.policy.mark = attributes.value<std::uint32_t>(FRA_FWMARK, 0);
    rule.policy.table = attributes.value<std::uint32_t>(FRA_TABLE, fixed.table);
    rule.priority = attributes.value<std::uint32_t>(FRA_PRIORITY, 0);
    rule.ours = attributes.value<std::uint8_t>(FRA_PROTOCOL, 0) == kOwnerProtocol;
    // A rule with a further condition does not serve, nor did we make it.
    const bool plain = fixed.src_len == 0 && fixed.dst_len == 0 && fixed.tos == 0 &&
                       attributes[FRA_IIFNAME].empty() && attributes[FRA_OIFNAME].empty() &&
                       attributes.value<std::uint32_t>(FRA_FWMASK, kFullMask) == kFullMask;
    if (plain && rule.policy.mark != 0) out.push_back(rule);
  });
  return out;
}

int change_rule(Netlink& netlink, Family family, const PolicyRule& rule, bool add) {
  fib_rule_hdr fixed{};
  fixed.family = static_cast<std::uint8_t>(number_of(family));
  fixed.action = FR_ACT_TO_TBL;
  fixed.table = rule.policy.table < 256 ? static_cast<std::uint8_t>(rule.policy.table)
                                        : static_cast<std::uint8_t>(RT_TABLE_UNSPEC);
  NetlinkMessage message(add ? RTM_NEWRULE : RTM_DELRULE,
                         add ? NLM_F_ACK | NLM_F_CREATE : NLM_F_ACK, fixed);
  message.add(FRA_FWMARK, rule.policy.mark);
  message.add(FRA_FWMASK, kFullMask);
  message.add(FRA_TABLE, rule.policy.table);
  message.add(FRA_PROTOCOL, kOwnerProtocol);
  if (!add) message.add(FRA_PRIORITY, rule.priority);
  return netlink.request(std::move(message));
}

struct LocalRoute {
  std::uint32_t table = 0;
  bool ours = false;
};

// "local default dev lo" in tables other than the kernel's own.
std::vector<LocalRoute> local_routes(Netlink& netlink, Family family) {
  std::vector<LocalRoute> out;
  rtmsg query{};
  query.rtm_family = static_cast<std::uint8_t>(number_of(family));
  const auto loopback = ::if_nametoindex("lo");
  netlink.dump(NetlinkMessage(RTM_GETROUTE, NLM_F_DUMP, query), [&](Bytes message) {
    rtmsg fixed{};
    Bytes rest;
    if (!split(message, fixed, rest)) return;
    const NetlinkAttributes attributes(rest);
    const auto table = attributes.value<std::uint32_t>(RTA_TABLE, fixed.rtm_table);
    if (fixed.rtm_type != RTN_LOCAL || fixed.rtm_dst_len != 0 || table == RT_TABLE_LOCAL ||
        attributes.value<std::uint32_t>(RTA_OIF, 0) != loopback) {
      return;
    }
    out.push_back({table, fixed.rtm_protocol == kOwnerProtocol});
  });
  return out;
}

int change_route(Netlink& netlink, Family family, std::uint32_t table, bool add) {
  rtmsg fixed{};
  fixed.rtm_family = static_cast<std::uint8_t>(number_of(family));
  fixed.rtm_type = RTN_LOCAL;
  fixed.rtm_protocol = kOwnerProtocol;
  fixed.rtm_scope = family == Family::ipv4 ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
  NetlinkMessage message(add ? RTM_NEWROUTE : RTM_DELROUTE,
                         add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK, fixed);
  message.add(RTA_TABLE, table);
  message.add(RTA_OIF, static_cast<std::uint32_t>(::if_nametoindex("lo")));
  return netlink.request(std::move(message));
}

// Notes what was done, or why it could not be.
class Steps {
 public:
  KernelChange change;

  bool take(int error, std::string what) {
    if (error == 0) {
      change.done.push_back(std::move(what));
      return true;
    }
    change.error = fmt::format("could not have it that way: {}: {}", what, std::strerror(error));
    if (error == EPERM) change.error += " (the capability NET_ADMIN is missing)";
    return false;
  }
};

std::string rule_text(const Policy& policy) {
  return fmt::format("the policy rule \"fwmark {:#x} lookup {}\"", policy.mark, policy.table);
}

std::string route_text(std::uint32_t table) {
  return fmt::format("the route \"local default dev lo table {}\"", table);
}

bool set_rule(Netlink& netlink, Steps& steps, Family family, std::optional<Policy> wanted) {
  bool there = false;
  for (const auto& rule : policy_rules(netlink, family)) {
    const bool fits =
        wanted && rule.policy.mark == wanted->mark && rule.policy.table == wanted->table;
    if (fits && !there) {
      there = true;
    } else if (rule.ours) {
      const auto what = fmt::format("{}: removed {}", name_of(family), rule_text(rule.policy));
      if (!steps.take(change_rule(netlink, family, rule, false), what)) return false;
    }
  }
  if (!wanted || there) return true;
  const auto what = fmt::format("{}: added {}", name_of(family), rule_text(*wanted));
  return steps.take(change_rule(netlink, family, {*wanted}, true), what);
}

}  // namespace

Ipv6 ipv6_here() {
  std::ifstream addresses("/proc/net/if_inet6");
  if (!addresses) return Ipv6::absent;
  std::string line;
  while (std::getline(addresses, line)) {
    std::istringstream words(line);
    std::string address, index, prefix, scope;
    words >> address >> index >> prefix >> scope;
    // Scope 00 is global; ::6 itself has it too.
    if (scope == "00" && address != "00000000000000000000000000000006") return Ipv6::present;
  }
  std::error_code error;
  const std::filesystem::path folder = "/proc/sys/net/ipv6/conf";
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    const auto name = it->path().filename().string();
    std::ifstream file(it->path() / "disable_ipv6");
    if (name != "all" && name != "default" && file.get() == '0') return Ipv6::link_only;
  }
  return Ipv6::disabled;
}

std::string describe(Ipv6 state) {
  switch (state) {
    case Ipv6::absent:
      return "this kernel has no IPv6";
    case Ipv6::disabled:
      return "IPv6 is disabled on all interfaces (sysctl disable_ipv6)";
    case Ipv6::link_only:
      return "no interface has an IPv6 address beyond its link";
    case Ipv6::present:
      break;
  }
  return "IPv6 is in use";
}

KernelChange set_address(bool wanted) {
  Netlink netlink;
  Steps steps;
  const auto found = find_address(netlink);
  if (wanted && !found.there) {
    steps.take(change_address(netlink, true), "IPv6: added ::6/128 to lo");
  } else if (!wanted && found.ours) {
    steps.take(change_address(netlink, false), "IPv6: removed ::6/128 from lo");
  }
  return std::move(steps.change);
}

bool has_our_address() {
  Netlink netlink;
  return find_address(netlink).ours;
}

std::optional<Policy> our_policy(Family family) {
  Netlink netlink;
  for (const auto& rule : policy_rules(netlink, family)) {
    if (rule.ours) return rule.policy;
  }
  return std::nullopt;
}

KernelChange set_policy(Family family, std::optional<Policy> wanted) {
  Netlink netlink;
  Steps steps;
  if (!set_rule(netlink, steps, family, wanted)) return std::move(steps.change);
  bool there = false;
  for (const auto& route : local_routes(netlink, family)) {
    if (wanted && route.table == wanted->table) {
      there = true;
    } else if (route.ours) {
      const auto what = fmt::format("{}: removed {}", name_of(family), route_text(route.table));
      if (!steps.take(change_route(netlink, family, route.table, false), what)) {
        return std::move(steps.change);
      }
    }
  }
  if (wanted && !there) {
    steps.take(change_route(netlink, family, wanted->table, true),
               fmt::format("{}: added {}", name_of(family), route_text(wanted->table)));
  }
  return std::move(steps.change);
}

std::vector<std::string> missing_address() {
  Netlink netlink;
  if (find_address(netlink).there) return {};
  return {"the address ::6/128 on lo is missing: the proxy cannot reach the app from it"};
}

std::vector<std::string> missing_policy(Family family, Policy wanted) {
  Netlink netlink;
  std::vector<std::string> out;
  const auto rules = policy_rules(netlink, family);
  if (std::ranges::none_of(rules, [&](const PolicyRule& rule) {
        return rule.policy.mark == wanted.mark && rule.policy.table == wanted.table;
      })) {
    out.push_back(fmt::format("{} is missing", rule_text(wanted)));
  }
  const auto routes = local_routes(netlink, family);
  if (std::ranges::none_of(routes,
                           [&](const LocalRoute& route) { return route.table == wanted.table; })) {
    out.push_back(fmt::format("{} is missing", route_text(wanted.table)));
  }
  return out;
}

}  // namespace proxy::redirect
