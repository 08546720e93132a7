// From a configuration to what the workers share.
// Not the parsing (unit_config), not what the pieces do.
#include "proxy/server/snapshot.h"

#include <map>

#include "tests/support/catch.h"
#include "tests/support/certs.h"

using namespace proxy;
using namespace proxy::server;

namespace {

config::Endpoint endpoint(std::string text) {
  config::Endpoint made;
  made.text = std::move(text);
  made.addresses = {{"127.0.0.1", config::Family::ipv4}};
  made.port = 1;
  return made;
}

config::Service service(std::string name, config::ServiceTlsMode mode) {
  config::Service made;
  made.name = name;
  made.hosts = {"*.wild." + name, name + ".shop.svc.cluster.local", name};
  made.port = 8080;
  made.endpoints = {endpoint("127.0.0.1:1")};
  made.tls.mode = mode;
  return made;
}

struct Built {
  telemetry::Registry registry{1000};
  tls::TicketSecret tickets = tls::make_ticket_secret();
  std::map<std::string, std::vector<config::IpAddress>> addresses;
  std::shared_ptr<const Snapshot> before;
  std::expected<std::shared_ptr<const Snapshot>, std::string> build(const config::Config& config) {
    auto contexts = make_contexts(config, tickets);
    if (!contexts) return std::unexpected(contexts.error());
    const auto found = [this](const std::string& name) { return addresses[name]; };
    return make_snapshot(config, std::move(*contexts), 1, found, registry, before.get());
  }
};

}  // namespace

TEST_CASE("a plaintext snapshot has no contexts", "[unit]") {
  Built built;
  config::Config config;
  config.inbound.app = endpoint("127.0.0.1:9");
  config.outbound.services = {service("a", config::ServiceTlsMode::off)};
  const auto snapshot = built.build(config);
  REQUIRE(snapshot.has_value());
  const Snapshot& s = **snapshot;
  CHECK(s.mutual == nullptr);
  CHECK(s.terminate == nullptr);
  CHECK(s.client == nullptr);
  REQUIRE(s.inbound_clusters.size() == 1);
  CHECK(s.inbound_clusters[0]->endpoints[0].text == "127.0.0.1:9");
  REQUIRE(s.outbound_clusters.size() == 1);
  CHECK(s.outbound_clusters[0]->name == "a:8080");
  CHECK(s.outbound_clusters[0]->connect.tls == nullptr);
  CHECK(s.outbound_routes.match("a.shop.svc.cluster.local").cluster == 0);
  CHECK(s.outbound_routes.match("elsewhere").cluster == route::Plan::kNoCluster);
}

TEST_CASE("limits and timeouts reach the clusters", "[unit]") {
  Built built;
  config::Config config;
  config.inbound.app = endpoint("127.0.0.1:9");
  config.limits.upstream_connections = 7;
  config.limits.upstream_pending = 8;
  config.limits.upstream_idle_connections = 9;
  config.limits.retry_budget = 11;
  config.limits.head_bytes = 4096;
  config.limits.header_count = 12;
  config.timeouts.connect = config::Milliseconds(13);
  config.timeouts.tls = config::Milliseconds(14);
  config.timeouts.upstream_idle = config::Milliseconds(15);
  config.timeouts.upstream_max_age = config::Milliseconds(16);
  const auto snapshot = built.build(config);
  REQUIRE(snapshot.has_value());
  const upstream::ClusterSpec& spec = *(*snapshot)->inbound_clusters[0];
  CHECK(spec.max_connections == 7);
  CHECK(spec.max_pending == 8);
  CHECK(spec.max_idle_per_endpoint == 9);
  CHECK(spec.retry_percent == 11);
  CHECK(spec.message_limits.head_bytes == 4096);
  CHECK(spec.message_limits.header_count == 12);
  CHECK(spec.connect.connect_timeout.count() == 13);
  CHECK(spec.connect.tls_timeout.count() == 14);
  CHECK(spec.idle_timeout.count() == 15);
  CHECK(spec.max_age.count() == 16);
}

TEST_CASE("credentials make contexts, by the mode", "[unit]") {
  Built built;
  ::test::Folder folder;
  ::test::Authority authority;
  const auto files = ::test::store(folder, "web", authority.issue(), authority.certificate());
  config::Config config;
  config.mtls.cert = files.certificate;
  config.mtls.key = files.key;
  config.mtls.ca = files.ca;
  config.mtls.mode =
      GENERATE(config::MtlsMode::off, config::MtlsMode::permissive, config::MtlsMode::strict);
  config.outbound.services = {service("a", config::ServiceTlsMode::mutual),
                              service("b", config::ServiceTlsMode::off)};
  config.outbound.services[0].tls.sans = {"spiffe://cluster.local/ns/x/sa/y"};
  const auto snapshot = built.build(config);
  REQUIRE(snapshot.has_value());
  const Snapshot& s = **snapshot;
  CHECK(s.client != nullptr);
  CHECK((s.mutual != nullptr) == (config.mtls.mode != config::MtlsMode::off));
  CHECK((s.terminate != nullptr) == (config.mtls.mode == config::MtlsMode::permissive));
  CHECK(s.outbound_clusters[0]->connect.tls == s.client);
  CHECK(s.outbound_clusters[0]->connect.sni == "outbound_.8080_._.a.shop.svc.cluster.local");
  CHECK(s.outbound_clusters[0]->connect.expected_sans == config.outbound.services[0].tls.sans);
  CHECK(s.outbound_clusters[1]->connect.tls == nullptr);
  // The same files again: a cluster may serve on.
  const auto again = built.build(config);
  REQUIRE(again.has_value());
  CHECK((*again)->outbound_clusters[0]->same_as(*s.outbound_clusters[0]));
  // Another certificate: it may not.
  ::test::store(folder, "web", authority.issue(), authority.certificate());
  const auto renewed = built.build(config);
  REQUIRE(renewed.has_value());
  CHECK_FALSE((*renewed)->outbound_clusters[0]->same_as(*s.outbound_clusters[0]));
  CHECK((*renewed)->outbound_clusters[1]->same_as(*s.outbound_clusters[1]));
}

TEST_CASE("a credential file that can't be used is named", "[unit]") {
  Built built;
  ::test::Folder folder;
  ::test::Authority authority;
  const auto files = ::test::store(folder, "web", authority.issue(), authority.certificate());
  config::Config config;
  config.mtls.mode = config::MtlsMode::strict;
  config.mtls.cert = files.certificate;
  config.mtls.key = files.key;
  config.mtls.ca = files.ca;
  folder.write("web.crt", "not a certificate");
  const auto snapshot = built.build(config);
  REQUIRE_FALSE(snapshot.has_value());
  CHECK(snapshot.error().find("web.crt") != std::string::npos);
  CHECK(snapshot.error().find('\n') == std::string::npos);
}

TEST_CASE("new addresses of a name change what they must and nothing else", "[unit]") {
  Built built;
  config::Config config;
  config.inbound.app = endpoint("app.example:1");
  config.inbound.app.host = "app.example";
  config.inbound.app.addresses.clear();
  config.outbound.services = {service("a", config::ServiceTlsMode::off),
                              service("b", config::ServiceTlsMode::off)};
  config.outbound.services[1].endpoints[0].host = "b.example";
  config.outbound.services[1].endpoints[0].addresses.clear();
  built.before = *built.build(config);
  CHECK(built.before->inbound_clusters[0]->endpoints.empty());
  CHECK(built.before->outbound_clusters[1]->endpoints.empty());

  built.addresses["b.example"] = {{"10.0.0.1", config::Family::ipv4},
                                  {"10.0.0.2", config::Family::ipv4}};
  const auto after = *built.build(config);
  CHECK(after->config == config);
  REQUIRE(after->outbound_clusters[1]->endpoints.size() == 2);
  CHECK(after->outbound_clusters[1]->endpoints[1].text == "10.0.0.2:1");
  CHECK(after->outbound_clusters[1]->same_but_endpoints(*built.before->outbound_clusters[1]));
  CHECK_FALSE(after->outbound_clusters[1]->same_as(*built.before->outbound_clusters[1]));
  CHECK(after->outbound_clusters[0] == built.before->outbound_clusters[0]);
  CHECK(after->inbound_clusters[0] == built.before->inbound_clusters[0]);
  CHECK(after->to_app == built.before->to_app);
  CHECK(after->passthrough == built.before->passthrough);
  // An intercepted connection to the address is the service's.
  const route::OriginalDestination to{{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2}, 1};
  CHECK(after->outbound_routes.match_address(to).cluster == 1);
  CHECK(built.before->outbound_routes.match_address(to).cluster == route::Plan::kNoCluster);
}
