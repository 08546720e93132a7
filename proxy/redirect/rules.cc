// Builds the chains in Istio's order; the order is what they mean.
#include "proxy/redirect/rules.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace proxy::redirect {
namespace {

constexpr std::array<std::string_view, 4> kNatChains = {"ISTIO_INBOUND", "ISTIO_REDIRECT",
                                                        "ISTIO_IN_REDIRECT", "ISTIO_OUTPUT"};
constexpr std::array<std::string_view, 4> kMangleChains = {"ISTIO_DIVERT", "ISTIO_TPROXY",
                                                           "ISTIO_INBOUND", "ISTIO_DROP"};

std::string_view loopback(Family family) {
  return family == Family::ipv4 ? "127.0.0.1/32" : "::1/128";
}

bool is_loopback(const Cidr& range) {
  if (range.family == Family::ipv4) return range.prefix >= 8 && range.bytes[0] == 127;
  return to_string(range) == "::1/128";
}

class Builder {
 public:
  Builder(const Options& options, Family family) : options_(options), family_(family) {}

  Ruleset build() {
    nat_.name = "nat";
    nat_.chains.assign(kNatChains.begin(), kNatChains.end());
    mangle_.name = "mangle";
    exclude_interfaces();
    virtual_interfaces();
    drop_invalid();
    add(nat_, "ISTIO_INBOUND", "-p tcp --dport {} -j RETURN", options_.tunnel_port);
    add(nat_, "ISTIO_REDIRECT", "-p tcp -j REDIRECT --to-ports {}", options_.outbound_port);
    add(nat_, "ISTIO_IN_REDIRECT", "-p tcp -j REDIRECT --to-ports {}", options_.inbound_port);
    inbound();
    outbound();
    Ruleset out;
    if (!mangle_.rules.empty()) out.push_back(std::move(mangle_));
    out.push_back(std::move(nat_));
    return out;
  }

 private:
  template <class... T>
  static void add(Table& table, std::string chain, fmt::format_string<T...> spec, T&&... values) {
    table.rules.push_back({std::move(chain), fmt::format(spec, std::forward<T>(values)...)});
  }

  // In a chain of the kernel, without a jump that would show whose it is.
  template <class... T>
  static void add_marked(Table& table, std::string chain, std::string_view target,
                         fmt::format_string<T...> match, T&&... values) {
    table.rules.push_back(
        {std::move(chain),
         fmt::format("{} -m comment --comment {} -j {}",
                     fmt::format(match, std::forward<T>(values)...), kOwnerComment, target)});
  }

  bool tproxy() const { return options_.mode == Mode::tproxy && !options_.inbound_ports.empty(); }

  void exclude_interfaces() {
    for (auto* table : {&nat_, &mangle_}) {
      if (table == &mangle_ && !tproxy()) continue;
      for (const auto& name : options_.excluded_interfaces) {
        add_marked(*table, "PREROUTING", "RETURN", "-i {}", name);
        add_marked(*table, "OUTPUT", "RETURN", "-o {}", name);
      }
    }
  }

  // What virtual machines in the pod send arrives in PREROUTING but is outbound traffic. Each of
  // these goes to the very front, so that the last one added is the first one met.
  void virtual_interfaces() {
    for (const auto& name : options_.virtual_interfaces) {
      add_marked(nat_, "PREROUTING", "RETURN", "-i {}", name);
      nat_.rules.back().first = true;
    }
  }

  void drop_invalid() {
    if (!options_.drop_invalid) return;
    mangle_.chains.emplace_back("ISTIO_DROP");
    add(mangle_, "PREROUTING", "-m conntrack --ctstate INVALID -j ISTIO_DROP");
    add(mangle_, "ISTIO_DROP", "-j DROP");
  }

  void inbound() {
    const auto& ports = options_.inbound_ports;
    if (ports.empty()) return;
    if (tproxy()) return inbound_tproxy();
    add(nat_, "PREROUTING", "-p tcp -j ISTIO_INBOUND");
    if (!ports.all) {
      for (const auto port : ports.listed) {
        add(nat_, "ISTIO_INBOUND", "-p tcp --dport {} -j ISTIO_IN_REDIRECT", port);
      }
      return;
    }
    for (const auto port : options_.inbound_exclude) {
      add(nat_, "ISTIO_INBOUND", "-p tcp --dport {} -j RETURN", port);
    }
    add(nat_, "ISTIO_INBOUND", "-p tcp -j ISTIO_IN_REDIRECT");
  }

  void inbound_tproxy() {
    const auto mark = options_.tproxy_mark;
    for (const auto* name : {"ISTIO_DIVERT", "ISTIO_TPROXY", "ISTIO_INBOUND"}) {
      mangle_.chains.emplace_back(name);
    }
    add(mangle_, "ISTIO_DIVERT", "-j MARK --set-mark {}", mark);
    add(mangle_, "ISTIO_DIVERT", "-j ACCEPT");
    add(mangle_, "ISTIO_TPROXY",
        "! -d {} -p tcp -j TPROXY --tproxy-mark {}/0xffffffff --on-port {}", loopback(family_),
        mark, options_.inbound_port);
    add(mangle_, "PREROUTING", "-p tcp -j ISTIO_INBOUND");
    // What the proxy sends to the app, by its mark or by its source; what the app sends itself.
    add(mangle_, "ISTIO_INBOUND", "-p tcp -m mark --mark {} -j RETURN", mark);
    add(mangle_, "ISTIO_INBOUND", "-p tcp -s {} -i lo -j RETURN", passthrough_source(family_));
    add(mangle_, "ISTIO_INBOUND", "-p tcp -i lo -m mark ! --mark {} -j RETURN", kOutboundMark);
    const auto& ports = options_.inbound_ports;
    if (ports.all) {
      for (const auto port : options_.inbound_exclude) {
        add(mangle_, "ISTIO_INBOUND", "-p tcp --dport {} -j RETURN", port);
      }
      tproxy_port("-p tcp");
    } else {
      for (const auto port : ports.listed) tproxy_port(fmt::format("-p tcp --dport {}", port));
    }
    tproxy_marks();
  }

  void tproxy_port(const std::string& match) {
    add(mangle_, "ISTIO_INBOUND", "{} -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
        match);
    add(mangle_, "ISTIO_INBOUND", "{} -j ISTIO_TPROXY", match);
  }

  // Answers of the app to connections that the proxy opened with its client's address go back to
  // the proxy: by the mark of the connection, which the policy rule sends to loopback.
  void tproxy_marks() {
    const auto mark = options_.tproxy_mark;
    add_marked(mangle_, "PREROUTING", "CONNMARK --save-mark", "-p tcp -m mark --mark {}", mark);
    add_marked(mangle_, "OUTPUT", "RETURN", "-p tcp -o lo -m mark --mark {}", mark);
    const auto set = fmt::format("MARK --set-mark {}", kOutboundMark);
    for (const auto uid : options_.uids) {
      add_marked(mangle_, "OUTPUT", set, "! -d {} -p tcp -o lo -m owner --uid-owner {}",
                 loopback(family_), uid);
    }
    for (const auto gid : options_.gids) {
      add_marked(mangle_, "OUTPUT", set, "! -d {} -p tcp -o lo -m owner --gid-owner {}",
                 loopback(family_), gid);
    }
    add_marked(mangle_, "OUTPUT", "CONNMARK --restore-mark", "-p tcp -m connmark --mark {}", mark);
  }

  void outbound() {
    add(nat_, "OUTPUT", "-j ISTIO_OUTPUT");
    for (const auto port : options_.outbound_ports_exclude) {
      add(nat_, "ISTIO_OUTPUT", "-p tcp --dport {} -j RETURN", port);
      add(nat_, "ISTIO_OUTPUT", "-p udp --dport {} -j RETURN", port);
    }
    add(nat_, "ISTIO_OUTPUT", "-o lo -s {} -j RETURN", passthrough_source(family_));
    for (const auto uid : options_.uids) exempt_owner("uid", uid);
    for (const auto gid : options_.gids) exempt_owner("gid", gid);
    owner_groups();
    add(nat_, "ISTIO_OUTPUT", "-d {} -j RETURN", loopback(family_));
    for (const auto& range : options_.outbound_exclude) {
      if (range.family == family_) add(nat_, "ISTIO_OUTPUT", "-d {} -j RETURN", to_string(range));
    }
    for (const auto port : options_.outbound_ports) {
      add(nat_, "ISTIO_OUTPUT", "-p tcp --dport {} -j ISTIO_REDIRECT", port);
    }
    outbound_ranges();
  }

  void exempt_owner(std::string_view kind, std::uint32_t id) {
    // The app calls its own service: app, proxy as client, proxy as server, app.
    add(nat_, "ISTIO_OUTPUT",
        "-o lo ! -d {} -p tcp ! --dport {} -m owner --{}-owner {} -j ISTIO_IN_REDIRECT",
        loopback(family_), options_.tunnel_port, kind, id);
    // The app calls itself over loopback, unless loopback is among what shall be redirected.
    if (std::ranges::none_of(options_.outbound_ranges.listed, is_loopback)) {
      add(nat_, "ISTIO_OUTPUT", "-o lo -m owner ! --{}-owner {} -j RETURN", kind, id);
    }
    add(nat_, "ISTIO_OUTPUT", "-m owner --{}-owner {} -j RETURN", kind, id);
  }

  void owner_groups() {
    for (const auto gid : options_.owner_groups_exclude) {
      add(nat_, "ISTIO_OUTPUT", "-m owner --gid-owner {} -j RETURN", gid);
    }
    if (options_.owner_groups.all) return;
    std::string none_of;
    for (const auto gid : options_.owner_groups.listed) {
      none_of += fmt::format("-m owner ! --gid-owner {} ", gid);
    }
    add(nat_, "ISTIO_OUTPUT", "{}-j RETURN", none_of);
  }

  void outbound_ranges() {
    if (options_.outbound_ranges.all) {
      add(nat_, "ISTIO_OUTPUT", "-j ISTIO_REDIRECT");
      for (const auto& name : options_.virtual_interfaces) {
        add(nat_, "PREROUTING", "-i {} -j ISTIO_REDIRECT", name);
        nat_.rules.back().first = true;
      }
    }
    for (const auto& range : options_.outbound_ranges.listed) {
      if (range.family != family_) continue;
      for (const auto& name : options_.virtual_interfaces) {
        add(nat_, "PREROUTING", "-i {} -d {} -j ISTIO_REDIRECT", name, to_string(range));
        nat_.rules.back().first = true;
      }
      add(nat_, "ISTIO_OUTPUT", "-d {} -j ISTIO_REDIRECT", to_string(range));
    }
  }

  const Options& options_;
  const Family family_;
  Table nat_;
  Table mangle_;
};

}  // namespace

std::string_view passthrough_source(Family family) noexcept {
  return family == Family::ipv4 ? "127.0.0.6/32" : "::6/128";
}

bool is_our_chain(std::string_view table, std::string_view chain) noexcept {
  if (table == "nat") return std::ranges::find(kNatChains, chain) != kNatChains.end();
  if (table == "mangle") return std::ranges::find(kMangleChains, chain) != kMangleChains.end();
  return false;
}

Ruleset rules_for(const Options& options, Family family) {
  return Builder(options, family).build();
}

std::string command(const Rule& rule) {
  return rule.first ? fmt::format("-I {} 1 {}", rule.chain, rule.spec)
                    : fmt::format("-A {} {}", rule.chain, rule.spec);
}

std::string restore_text(const Ruleset& rules) {
  std::string out;
  for (const auto& table : rules) {
    out += fmt::format("*{}\n", table.name);
    for (const auto& chain : table.chains) out += fmt::format("-N {}\n", chain);
    for (const auto& rule : table.rules) out += command(rule) + "\n";
    out += "COMMIT\n";
  }
  return out;
}

}  // namespace proxy::redirect
