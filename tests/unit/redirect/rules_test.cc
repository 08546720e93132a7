// The rules, rule by rule and in order: what they are is what the product promises.
#include "proxy/redirect/rules.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/unit/redirect/support.h"

namespace proxy::redirect {
namespace {

std::string text(const Flags& flags, Family family) {
  return restore_text(rules_for(parsed(flags), family));
}

std::string v4(const Flags& flags) {
  return text(flags, Family::ipv4);
}

bool has(const std::string& text, const std::string& line) {
  return text.find(line + "\n") != std::string::npos;
}

// What stands between the two, to compare a part without the rest.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
  const auto begin = text.find(from);
  REQUIRE(begin != std::string::npos);
  const auto end = text.find(to, begin);
  REQUIRE(end != std::string::npos);
  return text.substr(begin, end - begin);
}

}  // namespace

TEST_CASE("IPv4, redirected as Istio's injector asks for it", "[redirect]") {
  CHECK(v4(injected()) ==
        "*nat\n"
        "-N ISTIO_INBOUND\n"
        "-N ISTIO_REDIRECT\n"
        "-N ISTIO_IN_REDIRECT\n"
        "-N ISTIO_OUTPUT\n"
        "-A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN\n"
        "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001\n"
        "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006\n"
        "-A PREROUTING -p tcp -j ISTIO_INBOUND\n"
        "-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN\n"
        "-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN\n"
        "-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN\n"
        "-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT\n"
        "-A OUTPUT -j ISTIO_OUTPUT\n"
        "-A ISTIO_OUTPUT -o lo -s 127.0.0.6/32 -j RETURN\n"
        "-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 "
        "-j ISTIO_IN_REDIRECT\n"
        "-A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN\n"
        "-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN\n"
        "-A ISTIO_OUTPUT -o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner 1337 "
        "-j ISTIO_IN_REDIRECT\n"
        "-A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN\n"
        "-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN\n"
        "-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n"
        "-A ISTIO_OUTPUT -j ISTIO_REDIRECT\n"
        "COMMIT\n");
}

TEST_CASE("IPv6 mirrors IPv4 with its own loopback addresses", "[redirect]") {
  auto expected = v4(injected());
  for (const auto& [from, to] :
       {std::pair{"127.0.0.6/32", "::6/128"}, {"127.0.0.1/32", "::1/128"}}) {
    for (auto at = expected.find(from); at != std::string::npos; at = expected.find(from)) {
      expected.replace(at, std::string(from).size(), to);
    }
  }
  CHECK(text(injected(), Family::ipv6) == expected);
}

TEST_CASE("IPv4, by TPROXY", "[redirect]") {
  auto flags = injected();
  flags.interception_mode = "TPROXY";
  const auto made = v4(flags);
  CHECK(
      between(made, "*mangle", "*nat") ==
      "*mangle\n"
      "-N ISTIO_DIVERT\n"
      "-N ISTIO_TPROXY\n"
      "-N ISTIO_INBOUND\n"
      "-A ISTIO_DIVERT -j MARK --set-mark 1337\n"
      "-A ISTIO_DIVERT -j ACCEPT\n"
      "-A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff "
      "--on-port 15006\n"
      "-A PREROUTING -p tcp -j ISTIO_INBOUND\n"
      "-A ISTIO_INBOUND -p tcp -m mark --mark 1337 -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp -s 127.0.0.6/32 -i lo -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp -i lo -m mark ! --mark 1338 -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN\n"
      "-A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT\n"
      "-A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY\n"
      "-A PREROUTING -p tcp -m mark --mark 1337 -m comment --comment hoplite-redirect -j CONNMARK "
      "--save-mark\n"
      "-A OUTPUT -p tcp -o lo -m mark --mark 1337 -m comment --comment hoplite-redirect "
      "-j RETURN\n"
      "-A OUTPUT ! -d 127.0.0.1/32 -p tcp -o lo -m owner --uid-owner 1337 -m comment --comment "
      "hoplite-redirect -j MARK --set-mark 1338\n"
      "-A OUTPUT ! -d 127.0.0.1/32 -p tcp -o lo -m owner --gid-owner 1337 -m comment --comment "
      "hoplite-redirect -j MARK --set-mark 1338\n"
      "-A OUTPUT -p tcp -m connmark --mark 1337 -m comment --comment hoplite-redirect -j CONNMARK "
      "--restore-mark\n"
      "COMMIT\n");
  // In nat the inbound chain is there, but nothing leads into it.
  const auto nat = made.substr(made.find("*nat"));
  CHECK(nat.find("PREROUTING") == std::string::npos);
  CHECK(has(nat, "-A ISTIO_OUTPUT -j ISTIO_REDIRECT"));
  const auto v6 = text(flags, Family::ipv6);
  CHECK(has(v6,
            "-A ISTIO_TPROXY ! -d ::1/128 -p tcp -j TPROXY --tproxy-mark 1337/0xffffffff "
            "--on-port 15006"));
  CHECK(has(v6, "-A ISTIO_INBOUND -p tcp -s ::6/128 -i lo -j RETURN"));
}

TEST_CASE("without ports and ranges nothing is captured", "[redirect]") {
  const Flags flags;
  const auto made = v4(flags);
  CHECK(made.find("PREROUTING") == std::string::npos);
  CHECK(made.find("-j ISTIO_REDIRECT") == std::string::npos);
  CHECK(has(made, "-A OUTPUT -j ISTIO_OUTPUT"));
  auto tproxy = flags;
  tproxy.interception_mode = "TPROXY";
  CHECK(v4(tproxy).find("*mangle") == std::string::npos);
}

TEST_CASE("inbound ports may be listed; then none is excluded", "[redirect]") {
  auto flags = injected();
  flags.inbound_ports = "80,443";
  CHECK(between(v4(flags), "-A PREROUTING", "-A OUTPUT") ==
        "-A PREROUTING -p tcp -j ISTIO_INBOUND\n"
        "-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_IN_REDIRECT\n"
        "-A ISTIO_INBOUND -p tcp --dport 443 -j ISTIO_IN_REDIRECT\n");
  flags.interception_mode = "TPROXY";
  CHECK(between(v4(flags), "-A ISTIO_INBOUND -p tcp --dport 80 ", "-A PREROUTING -p tcp -m mark") ==
        "-A ISTIO_INBOUND -p tcp --dport 80 -m conntrack --ctstate RELATED,ESTABLISHED "
        "-j ISTIO_DIVERT\n"
        "-A ISTIO_INBOUND -p tcp --dport 80 -j ISTIO_TPROXY\n"
        "-A ISTIO_INBOUND -p tcp --dport 443 -m conntrack --ctstate RELATED,ESTABLISHED "
        "-j ISTIO_DIVERT\n"
        "-A ISTIO_INBOUND -p tcp --dport 443 -j ISTIO_TPROXY\n");
}

TEST_CASE("outbound ranges and ports, each to its family", "[redirect]") {
  auto flags = injected();
  flags.service_cidr = "10.0.0.0/8,fd00::/8";
  flags.service_exclude_cidr = "10.1.0.0/16,fd00:1::/32";
  flags.outbound_ports = "8080";
  flags.local_outbound_ports_exclude = "3306";
  const auto made = v4(flags);
  CHECK(made.substr(made.find("-A ISTIO_OUTPUT -d 127.0.0.1/32")) ==
        "-A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN\n"
        "-A ISTIO_OUTPUT -d 10.1.0.0/16 -j RETURN\n"
        "-A ISTIO_OUTPUT -p tcp --dport 8080 -j ISTIO_REDIRECT\n"
        "-A ISTIO_OUTPUT -d 10.0.0.0/8 -j ISTIO_REDIRECT\n"
        "COMMIT\n");
  CHECK(between(made, "-A OUTPUT", "-A ISTIO_OUTPUT -o lo -s") ==
        "-A OUTPUT -j ISTIO_OUTPUT\n"
        "-A ISTIO_OUTPUT -p tcp --dport 3306 -j RETURN\n"
        "-A ISTIO_OUTPUT -p udp --dport 3306 -j RETURN\n");
  const auto v6 = text(flags, Family::ipv6);
  CHECK(v6.substr(v6.find("-A ISTIO_OUTPUT -d ::1/128")) ==
        "-A ISTIO_OUTPUT -d ::1/128 -j RETURN\n"
        "-A ISTIO_OUTPUT -d fd00:1::/32 -j RETURN\n"
        "-A ISTIO_OUTPUT -p tcp --dport 8080 -j ISTIO_REDIRECT\n"
        "-A ISTIO_OUTPUT -d fd00::/8 -j ISTIO_REDIRECT\n"
        "COMMIT\n");
}

TEST_CASE("loopback among the ranges is not returned early", "[redirect]") {
  auto flags = injected();
  for (const auto* range : {"127.0.0.0/8", "127.0.0.1/32", "::1/128"}) {
    flags.service_cidr = range;
    for (const auto family : kFamilies) {
      CHECK(text(flags, family).find("! --uid-owner") == std::string::npos);
      CHECK(text(flags, family).find("! --gid-owner") == std::string::npos);
    }
  }
}

TEST_CASE("several users and groups are exempt, users first", "[redirect]") {
  auto flags = injected();
  flags.proxy_uid = "3,4";
  flags.proxy_gid = "1,2";
  const auto made = v4(flags);
  std::size_t at = 0;
  for (const auto* rule :
       {"-m owner --uid-owner 3 -j RETURN", "-m owner --uid-owner 4 -j RETURN",
        "-m owner --gid-owner 1 -j RETURN", "-m owner --gid-owner 2 -j RETURN"}) {
    const auto found = made.find(std::string("-A ISTIO_OUTPUT ") + rule + "\n");
    INFO(rule);
    REQUIRE(found != std::string::npos);
    CHECK(found > at);
    at = found;
  }
}

TEST_CASE("owners' groups choose whose traffic is captured", "[redirect]") {
  auto flags = injected();
  flags.owner_groups = "202,203";
  CHECK(has(v4(flags),
            "-A ISTIO_OUTPUT -m owner ! --gid-owner 202 -m owner ! --gid-owner 203 -j RETURN"));
  flags.owner_groups = "*";
  flags.owner_groups_exclude = "202,203";
  CHECK(has(v4(flags), "-A ISTIO_OUTPUT -m owner --gid-owner 202 -j RETURN"));
  CHECK(has(v4(flags), "-A ISTIO_OUTPUT -m owner --gid-owner 203 -j RETURN"));
}

TEST_CASE("excluded interfaces return before anything else", "[redirect]") {
  auto flags = injected();
  flags.exclude_interfaces = "net1,cni+";
  const auto nat = between(v4(flags), "-A PREROUTING -i net1", "-A ISTIO_INBOUND");
  CHECK(nat ==
        "-A PREROUTING -i net1 -m comment --comment hoplite-redirect -j RETURN\n"
        "-A OUTPUT -o net1 -m comment --comment hoplite-redirect -j RETURN\n"
        "-A PREROUTING -i cni+ -m comment --comment hoplite-redirect -j RETURN\n"
        "-A OUTPUT -o cni+ -m comment --comment hoplite-redirect -j RETURN\n");
  CHECK(v4(flags).find("*mangle") == std::string::npos);
  flags.interception_mode = "TPROXY";
  const auto mangle = between(v4(flags), "*mangle", "*nat");
  CHECK(mangle.find("-A PREROUTING -i net1") <
        mangle.find("-A PREROUTING -p tcp -j ISTIO_INBOUND"));
}

TEST_CASE("virtual interfaces: their inbound traffic is outbound", "[redirect]") {
  auto flags = injected();
  flags.kube_virt_interfaces = "vm0";
  CHECK(has(v4(flags), "-I PREROUTING 1 -i vm0 -m comment --comment hoplite-redirect -j RETURN"));
  CHECK(has(v4(flags), "-I PREROUTING 1 -i vm0 -j ISTIO_REDIRECT"));
  CHECK(v4(flags).find("-i vm0 -m comment") < v4(flags).find("-i vm0 -j ISTIO_REDIRECT"));
  flags.service_cidr = "10.0.0.0/8";
  CHECK(has(v4(flags), "-I PREROUTING 1 -i vm0 -d 10.0.0.0/8 -j ISTIO_REDIRECT"));
}

TEST_CASE("invalid packets can be dropped", "[redirect]") {
  auto flags = injected();
  flags.drop_invalid = true;
  CHECK(between(v4(flags), "*mangle", "*nat") ==
        "*mangle\n"
        "-N ISTIO_DROP\n"
        "-A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP\n"
        "-A ISTIO_DROP -j DROP\n"
        "COMMIT\n");
}

TEST_CASE("ports, mark and ids of one's own stand in the rules", "[redirect]") {
  auto flags = injected();
  flags.envoy_port = "1";
  flags.inbound_capture_port = "2";
  flags.inbound_tunnel_port = "3";
  flags.tproxy_mark = "4";
  flags.interception_mode = "TPROXY";
  const auto made = v4(flags);
  CHECK(has(made, "-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 1"));
  CHECK(has(made, "-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 2"));
  CHECK(has(made, "-A ISTIO_INBOUND -p tcp --dport 3 -j RETURN"));
  CHECK(has(made, "-A ISTIO_DIVERT -j MARK --set-mark 4"));
}

}  // namespace proxy::redirect
