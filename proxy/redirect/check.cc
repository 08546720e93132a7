// Chooses connections that together cover every chain, and judges where they arrived.
#include "proxy/redirect/check.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "proxy/redirect/probe.h"

namespace proxy::redirect {
namespace {

template <class T>
bool listed(const std::vector<T>& list, const T& value) {
  return std::ranges::find(list, value) != list.end();
}

class Report {
 public:
  Verdict verdict;

  void pass(Family family, std::string_view what) { line("ok", verdict.passed, family, what); }
  void fail(Family family, std::string_view what) { line("FAILED", verdict.failed, family, what); }
  void skip(Family family, std::string_view what) {
    line("skipped", verdict.skipped, family, what);
  }

 private:
  static void line(std::string_view word, unsigned& counter, Family family, std::string_view what) {
    ++counter;
    fmt::print("{:8} {}: {}\n", word, name_of(family), what);
  }
};

// The first id from `low` on that is not in the list.
std::uint32_t other_than(const std::vector<std::uint32_t>& list, std::uint32_t low) {
  while (listed(list, low)) ++low;
  return low;
}

class Checker {
 public:
  Checker(const Options& options, const Manner& manner) : options_(options), manner_(manner) {}

  Verdict run() {
    const auto families = families_here();
    if (!families.left_out.empty()) report_.skip(Family::ipv6, families.left_out);
    compare_rules(families.used);
    const bool ipv6 = listed(families.used, Family::ipv6);
    if (auto wire = Wire::open(ipv6)) {
      wire_ = std::move(*wire);
    } else {
      no_wire_ = wire.error();
    }
    for (const auto family : families.used) choose_probes(family);
    const Ports ports{options_.outbound_port, options_.inbound_port, options_.probe_port,
                      policy_of(options_).has_value()};
    const auto landings = run_probes(probes_, ports, ipv6, wire_.get(),
                                     std::chrono::milliseconds(options_.probe_timeout_ms));
    for (std::size_t i = 0; i < probes_.size(); ++i) judge(probes_[i], landings[i]);
    return report_.verdict;
  }

 private:
  void compare_rules(const std::vector<Family>& families) {
    const auto present = look(manner_);
    for (const auto family : families) {
      if (!present) {
        report_.skip(family, fmt::format("the rules cannot be read: {}", present.error()));
        continue;
      }
      compare_rules(family, present->tables);
      std::vector<std::string> missing;
      if (const auto policy = policy_of(options_)) missing = missing_policy(family, *policy);
      if (family == Family::ipv6) std::ranges::move(missing_address(), std::back_inserter(missing));
      for (const auto& what : missing) report_.fail(family, what);
    }
  }

  void compare_rules(Family family, const Tables& tables) {
    const auto saved = tables.read(family);
    if (!saved) return report_.fail(family, saved.error());
    const auto found = differences(*saved, rules_for(options_, family));
    for (const auto& difference : found) report_.fail(family, difference);
    if (found.empty()) {
      report_.pass(family,
                   fmt::format("the rules are as wanted (iptables-{})", name_of(tables.backend())));
    }
  }

  // Nobody that the rules make an exception for.
  Identity app() const {
    auto out = identity_here();
    if (listed(options_.uids, out.uid)) out.uid = other_than(options_.uids, kNobody);
    if (!options_.owner_groups.all) out.gid = options_.owner_groups.listed.front();
    auto exempt = options_.gids;
    exempt.insert(exempt.end(), options_.owner_groups_exclude.begin(),
                  options_.owner_groups_exclude.end());
    if (listed(exempt, out.gid)) out.gid = other_than(exempt, kNobody);
    return out;
  }

  // The proxy by its uid only, and by its gid only; without the right to change them, as it is.
  Identity proxy_user() const {
    const Identity only{options_.uids.front(), other_than(options_.gids, kNobody)};
    const auto here = identity_here();
    return !can_be(only) && listed(options_.uids, here.uid) ? here : only;
  }
  Identity proxy_group() const {
    const Identity only{other_than(options_.uids, kNobody), options_.gids.front()};
    const auto here = identity_here();
    return !can_be(only) && listed(options_.gids, here.gid) ? here : only;
  }

  void choose_probes(Family family) {
    choose_outbound(family);
    choose_loopback(family);
    choose_inbound(family);
  }

  void add(std::string what, const Identity& identity, std::optional<Endpoint> source,
           const Endpoint& to, std::uint16_t wanted) {
    what = fmt::format("{} (uid {}, gid {})", what, identity.uid, identity.gid);
    if (!can_be(identity)) {
      report_.skip(to.family, fmt::format("{}: only root can try that (SETUID, SETGID)", what));
      return;
    }
    probes_.push_back({std::move(what), Probe::From::here, identity, source, to, wanted});
  }

  // An address beyond this pod that the rules speak about; by the wire if they let it.
  std::optional<Endpoint> destination(Family family) const {
    auto out = Wire::client(family, options_.probe_port);
    const auto& ports = options_.outbound_ports;
    const auto& ranges = options_.outbound_ranges;
    if (!ports.empty()) {
      out.port = ports.front();
    } else if (!ranges.all) {
      const auto found = std::ranges::find_if(ranges.listed, [&](const Cidr& range) {
        return range.family == family && !contains(range, loopback(family));
      });
      if (found != ranges.listed.end() && !contains(*found, out)) {
        out.bytes = found->bytes;
        const auto last = family == Family::ipv4 ? 3U : 15U;
        if (found->prefix < (last + 1) * 8) out.bytes[last] |= 1;
      }
    }
    while (listed(options_.outbound_ports_exclude, out.port)) ++out.port;
    const bool excluded = std::ranges::any_of(
        options_.outbound_exclude, [&](const Cidr& range) { return contains(range, out); });
    if (excluded) return std::nullopt;
    return out;
  }

  bool captures_outbound(Family family) const {
    return options_.outbound_ranges.all || !options_.outbound_ports.empty() ||
           std::ranges::any_of(options_.outbound_ranges.listed, [&](const Cidr& range) {
             return range.family == family && !contains(range, loopback(family));
           });
  }

  void choose_outbound(Family family) {
    const auto to = destination(family);
    if (!to)
      return report_.skip(family, "outbound: the excluded ranges hold all that could be tried");
    const auto wanted = captures_outbound(family) ? options_.outbound_port : std::uint16_t{0};
    add(fmt::format("outbound: what the app sends to {}", to_string(*to)), app(), {}, *to, wanted);
    if (wanted == 0) return;
    add("outbound: what the proxy's user sends", proxy_user(), {}, *to, 0);
    add("outbound: what the proxy's group sends", proxy_group(), {}, *to, 0);
    for (const auto& range : options_.outbound_exclude) {
      if (range.family != family) continue;
      Endpoint excluded{family, range.bytes, to->port};
      add(fmt::format("outbound: what the app sends to the excluded {}", to_string(range)), app(),
          {}, excluded, 0);
      break;
    }
    if (!options_.outbound_ports_exclude.empty()) {
      auto excluded = *to;
      excluded.port = options_.outbound_ports_exclude.front();
      add(fmt::format("outbound: what the app sends to the excluded port {}", excluded.port), app(),
          {}, excluded, 0);
    }
  }

  static Endpoint loopback(Family family, std::uint16_t port = 0) {
    return endpoint(family, family == Family::ipv4 ? "127.0.0.1" : "::1", port);
  }

  void choose_loopback(Family family) {
    const auto port = options_.probe_port;
    const auto own = endpoint(family, family == Family::ipv4 ? "127.0.0.6" : "::6", port);
    auto source = own;
    source.port = 0;
    add(fmt::format("loopback: what the app sends to itself at {}",
                    to_string(loopback(family, port))),
        app(), {}, loopback(family, port), port);
    add(fmt::format("loopback: what the proxy passes to the app from {}", to_string(own)),
        proxy_user(), source, own, port);
    if (port == options_.tunnel_port || listed(options_.outbound_ports_exclude, port)) return;
    const auto what = "loopback: what the proxy sends to its own pod";
    add(what, proxy_user(), loopback(family), own, options_.inbound_port);
    // By redirection the rules of the uid let pass what is only of the proxy's group.
    if (policy_of(options_)) {
      add(what, proxy_group(), loopback(family), own, options_.inbound_port);
    }
  }

  void choose_inbound(Family family) {
    if (!wire_) {
      return report_.skip(family, fmt::format("inbound: a packet from outside needs NET_ADMIN and "
                                              "NET_RAW: {}",
                                              no_wire_));
    }
    const auto& ports = options_.inbound_ports;
    auto port = ports.listed.empty() ? options_.probe_port : ports.listed.front();
    while (ports.all && listed(options_.inbound_exclude, port)) ++port;
    add_inbound("inbound: what arrives at port {}", family, port,
                ports.empty() ? std::uint16_t{0} : options_.inbound_port);
    if (ports.all && !options_.inbound_exclude.empty()) {
      add_inbound("inbound: what arrives at the excluded port {}", family,
                  options_.inbound_exclude.front(), 0);
    } else if (!ports.listed.empty()) {
      while (listed(ports.listed, port)) ++port;
      add_inbound("inbound: what arrives at port {}, which is not listed,", family, port, 0);
    }
  }

  void add_inbound(fmt::format_string<std::uint16_t&> what, Family family, std::uint16_t port,
                   std::uint16_t wanted) {
    probes_.push_back({fmt::format(what, port),
                       Probe::From::outside,
                       {},
                       {},
                       Wire::server(family, port),
                       wanted});
  }

  void judge(const Probe& probe, const Landing& landing) {
    const auto family = probe.to.family;
    if (!landing.started) {
      return report_.skip(family,
                          fmt::format("{}: cannot be tried: {}", probe.what, landing.error));
    }
    const bool at_proxy =
        landing.port == options_.outbound_port || landing.port == options_.inbound_port;
    const auto arrived = landing.port == 0 ? std::string("arrived nowhere")
                                           : fmt::format("arrived at port {}", landing.port);
    if (probe.wanted_port == 0) {
      if (at_proxy)
        return report_.fail(family,
                            fmt::format("{} {}, but shall pass the proxy by", probe.what, arrived));
      return report_.pass(family, fmt::format("{} passes the proxy by", probe.what));
    }
    if (landing.port != probe.wanted_port) {
      return report_.fail(
          family, fmt::format("{} {}, not at port {}", probe.what, arrived, probe.wanted_port));
    }
    if (landing.original && *landing.original != probe.to) {
      return report_.fail(family, fmt::format("{} {}, but its destination reads {} there",
                                              probe.what, arrived, to_string(*landing.original)));
    }
    if (landing.original && !landing.bytes) {
      return report_.fail(family,
                          fmt::format("{} {}, but no byte came through", probe.what, arrived));
    }
    report_.pass(family, fmt::format("{} {}{}", probe.what, arrived,
                                     landing.original ? ", bytes and destination intact" : ""));
  }

  static constexpr std::uint32_t kNobody = 65534;

  const Options& options_;
  const Manner& manner_;
  Report report_;
  std::unique_ptr<Wire> wire_;
  std::string no_wire_;
  std::vector<Probe> probes_;
};

}  // namespace

Verdict check(const Options& options, const Manner& manner) {
  return Checker(options, manner).run();
}

}  // namespace proxy::redirect
