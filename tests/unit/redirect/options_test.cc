// The values of the flags: what is taken, what is refused and in which words.
#include "proxy/redirect/options.h"

#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/unit/redirect/support.h"

namespace proxy::redirect {
namespace {

std::string refusal(std::string Flags::* field, const std::string& value) {
  auto flags = injected();
  flags.*field = value;
  const auto options = parse_flags(flags);
  return options ? "taken" : options.error();
}

}  // namespace

TEST_CASE("the defaults are those of istio-iptables", "[redirect]") {
  Flags flags;
  flags.proxy_user = "a-user-that-is-not-here";
  const auto options = parsed(flags);
  CHECK(options.outbound_port == 15001);
  CHECK(options.inbound_port == 15006);
  CHECK(options.tunnel_port == 15008);
  CHECK(options.probe_port == 15002);
  CHECK(options.probe_timeout_ms == 5000);
  CHECK(options.uids == std::vector<std::uint32_t>{1337});
  CHECK(options.gids == options.uids);
  CHECK(options.mode == Mode::redirect);
  CHECK(options.tproxy_mark == 1337);
  CHECK(options.tproxy_table == 133);
  CHECK(options.inbound_ports.empty());
  CHECK(options.outbound_ranges.empty());
  CHECK(options.owner_groups.all);
}

TEST_CASE("the proxy's uid is that of its user, and its gid follows", "[redirect]") {
  Flags flags;
  flags.proxy_user = "root";
  CHECK(parsed(flags).uids == std::vector<std::uint32_t>{0});
  flags.proxy_uid = "root,1337";
  CHECK(parsed(flags).uids == std::vector<std::uint32_t>{0, 1337});
  CHECK(parsed(flags).gids == std::vector<std::uint32_t>{0, 1337});
  flags.proxy_gid = "7";
  CHECK(parsed(flags).gids == std::vector<std::uint32_t>{7});
}

TEST_CASE("ranges lose the bits after their prefix", "[redirect]") {
  auto flags = injected();
  flags.service_cidr = "10.1.2.3/8,fd00::1:2/64,0.0.0.0/0,192.0.2.7/31";
  const auto ranges = parsed(flags).outbound_ranges.listed;
  REQUIRE(ranges.size() == 4);
  CHECK(to_string(ranges[0]) == "10.0.0.0/8");
  CHECK(to_string(ranges[1]) == "fd00::/64");
  CHECK(to_string(ranges[2]) == "0.0.0.0/0");
  CHECK(to_string(ranges[3]) == "192.0.2.6/31");
}

TEST_CASE("what is no port is refused by flag and form", "[redirect]") {
  for (const auto* bad : {"0", "65536", "-1", "80;reboot", "80 ", " 80", "0x50", "80\n443", "$(id)",
                          "80,", ",80", "80,,443", "http", "80-90", "*,80", "**"}) {
    INFO(bad);
    const auto said = refusal(&Flags::inbound_ports, bad);
    CHECK(said.starts_with("--istio-inbound-ports (-b): \""));
    CHECK(said.find("allowed: ") != std::string::npos);
  }
  CHECK(
      refusal(&Flags::local_exclude_ports, "*").starts_with("--istio-local-exclude-ports (-d): "));
  CHECK(refusal(&Flags::envoy_port, "").starts_with("--envoy-port (-p): \"\" is not allowed"));
  CHECK(refusal(&Flags::envoy_port, "15006").starts_with("--inbound-capture-port (-z): "));
}

TEST_CASE("what is no range is refused by flag and form", "[redirect]") {
  for (const auto* bad :
       {"10.0.0.0", "10.0.0.0/33", "fd00::/129", "10.0.0.0/8 -j ACCEPT", "10.0.0.0/8\n-A OUTPUT",
        "10.0.0/8", "/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8;id", "::ffff:1.2.3.4.5/96",
        "10.0.0.0/8,,", "fe80::1%eth0/64", "010.0.0.0/8/8"}) {
    INFO(bad);
    CHECK(refusal(&Flags::service_cidr, bad).starts_with("--istio-service-cidr (-i): \""));
  }
  CHECK(refusal(&Flags::service_exclude_cidr, "*")
            .starts_with("--istio-service-exclude-cidr (-x): \"*\" is not allowed"));
}

TEST_CASE("what is no interface is refused by flag and form", "[redirect]") {
  for (const auto* bad : {"-j", "eth 0", "eth0\n", "a/b", "..", "+", "eth0;id", "sixteen-letters-",
                          "eth0\"", "eth*", "!eth0"}) {
    INFO(bad);
    CHECK(
        refusal(&Flags::exclude_interfaces, bad).starts_with("--istio-exclude-interfaces (-c): "));
    CHECK(refusal(&Flags::kube_virt_interfaces, bad).starts_with("--kube-virt-interfaces (-k): "));
  }
  for (const auto* good : {"eth0", "cni+", "eth0.100", "fifteen-letters", "veth@if3", "a,b,c+"}) {
    INFO(good);
    CHECK(refusal(&Flags::exclude_interfaces, good) == "taken");
  }
}

TEST_CASE("users, groups, marks, tables, modes and times are checked", "[redirect]") {
  for (const auto* bad :
       {"4294967295", "-1", "no-such-user-here", "root;id", "root --wait", "1 2"}) {
    INFO(bad);
    CHECK(refusal(&Flags::proxy_uid, bad).starts_with("--proxy-uid (-u): "));
    CHECK(refusal(&Flags::proxy_gid, bad).starts_with("--proxy-gid (-g): "));
    CHECK(refusal(&Flags::owner_groups, bad).starts_with("ISTIO_OUTBOUND_OWNER_GROUPS: "));
  }
  CHECK(refusal(&Flags::interception_mode, "NONE")
            .starts_with("--istio-inbound-interception-mode (-m): \"NONE\""));
  CHECK(refusal(&Flags::tproxy_mark, "0").starts_with("--istio-inbound-tproxy-mark (-t): "));
  for (const auto* table : {"0", "254", "255", "main"}) {
    CHECK(refusal(&Flags::tproxy_route_table, table)
              .starts_with("--istio-inbound-tproxy-route-table (-r): "));
  }
  for (const auto* time : {"5", "0s", "601s", "5m", "s", "-1s"}) {
    CHECK(refusal(&Flags::probe_timeout, time).starts_with("--probe-timeout: "));
  }
  CHECK(refusal(&Flags::probe_timeout, "250ms") == "taken");
}

TEST_CASE("groups are included or excluded, not both", "[redirect]") {
  auto flags = injected();
  flags.owner_groups = "7";
  flags.owner_groups_exclude = "8";
  CHECK(parse_flags(flags).error().starts_with("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE: "));
  flags.owner_groups_exclude.clear();
  for (int i = 0; i < 64; ++i) flags.owner_groups += ",9";
  CHECK(parse_flags(flags).error().find("at most 64 groups") != std::string::npos);
}

TEST_CASE("a refusal shows no more than a line of what was refused", "[redirect]") {
  const auto said = refusal(&Flags::service_cidr, std::string(100'000, 'x') + "\n");
  CHECK(said.size() < 400);
  CHECK(said.find('\n') == std::string::npos);
}

}  // namespace proxy::redirect
