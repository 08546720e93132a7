// route::Table for intercepted connections: by name, by address, by port.
// Not how the original destination is learnt.
#include <algorithm>
#include <string>

#include "proxy/route/table.h"
#include "tests/support/catch.h"

using namespace proxy::route;

namespace {

OriginalDestination to(std::array<std::uint8_t, 4> v4, std::uint16_t port) {
  OriginalDestination original;
  original.address[10] = original.address[11] = 0xff;
  std::copy(v4.begin(), v4.end(), original.address.begin() + 12);
  original.port = port;
  return original;
}

proxy::config::Service at(std::string host, std::uint16_t port,
                          std::vector<std::string> addresses) {
  proxy::config::Service service;
  service.name = host;
  service.hosts = {std::move(host)};
  service.port = port;
  service.addresses = std::move(addresses);
  return service;
}

}  // namespace

TEST_CASE("intercepted connections are matched by name, then by address, the narrowest first") {
  proxy::config::Config config;
  config.interception = proxy::config::Interception::redirect;
  config.outbound.unknown_host = proxy::config::UnknownHost::passthrough;
  config.outbound.services = {at("a", 80, {"10.0.0.1"}), at("wide", 80, {"10.0.0.0/8"}),
                              at("narrow", 80, {"10.1.0.0/16"}), at("a9", 9898, {"10.0.0.1"})};
  const Table table = Table::outbound(config);
  const auto name = [&](std::string_view host, const OriginalDestination& original) {
    return table.match(host, &original).service_name;
  };
  CHECK(table.match_address(to({10, 0, 0, 1}, 80)).service_name == "a");
  CHECK(table.match_address(to({10, 0, 0, 1}, 9898)).service_name == "a9");
  CHECK(table.match_address(to({10, 1, 2, 3}, 80)).service_name == "narrow");
  CHECK(table.match_address(to({10, 2, 2, 3}, 80)).service_name == "wide");
  CHECK(table.match_address(to({11, 2, 2, 3}, 80)).service_name == "PassthroughCluster");
  CHECK(table.match_address(to({10, 2, 2, 3}, 81)).original);
  CHECK(name("narrow", to({10, 0, 0, 1}, 80)) == "narrow");
  CHECK(name("junk in it", to({10, 0, 0, 1}, 80)) == "a");
  CHECK(name("elsewhere.example", to({10, 0, 0, 1}, 9898)) == "a9");
  CHECK(name("elsewhere.example", to({12, 0, 0, 1}, 80)) == "PassthroughCluster");
  CHECK(table.match("elsewhere.example").service_name == "BlackHoleCluster");

  config.outbound.unknown_host = proxy::config::UnknownHost::refuse;
  CHECK(Table::outbound(config).match_address(to({11, 0, 0, 1}, 80)).service_name ==
        "BlackHoleCluster");
}

TEST_CASE("a host without a port is the one of the port it was going to") {
  proxy::config::Config config;
  config.outbound.services = {at("a", 80, {}), at("a", 9999, {})};
  const Table table = Table::outbound(config);
  const auto there = to({10, 0, 0, 1}, 9999);
  const auto elsewhere = to({10, 0, 0, 1}, 1234);
  CHECK(table.index_of(table.match("a", &there)) == 2);
  CHECK(table.index_of(table.match("a", &elsewhere)) == 1);
  CHECK(table.index_of(table.match("a:80", &there)) == 1);
  CHECK(table.index_of(table.match("a")) == 1);
}

TEST_CASE("inbound ports that are declared have plans of their own") {
  proxy::config::Config config;
  config.interception = proxy::config::Interception::redirect;
  config.workload.canonical_service = "podinfo";
  config.inbound.service = "podinfo.test.svc.cluster.local";
  proxy::config::InboundPort port;
  port.port = 3306;
  port.traffic = proxy::config::Traffic::tcp;
  port.service = "db.test.svc.cluster.local";
  config.inbound.ports = {port};
  const Table table = Table::inbound(config);
  const auto& declared = table.match_address(to({10, 0, 0, 1}, 3306));
  CHECK(declared.service == "db.test.svc.cluster.local");
  CHECK(declared.service_name == "db");
  CHECK(declared.traffic == proxy::config::Traffic::tcp);
  CHECK(declared.original);
  const auto& other = table.match_address(to({10, 0, 0, 1}, 80));
  CHECK(other.service_name == "InboundPassthroughCluster");
  CHECK(other.service == "podinfo");
  CHECK(other.original);
}
