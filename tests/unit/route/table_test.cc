// route::Table: hosts, wildcards, ports and junk.
// Not what happens with the plan it gives.
#include "proxy/route/table.h"

#include <string>

#include "tests/support/catch.h"

namespace proxy::route {
namespace {

config::Service service(std::string name, std::vector<std::string> hosts, std::uint16_t port) {
  config::Service out;
  out.name = std::move(name);
  out.hosts = std::move(hosts);
  out.port = port;
  return out;
}

config::Config sample() {
  config::Config config;
  config.outbound.services = {
      service("reviews", {"reviews.shop.svc.cluster.local", "reviews"}, 9080),
      service("reviews-web", {"reviews"}, 80),
      service("ratings", {"ratings"}, 9080),
      service("shop", {"*.shop.example"}, 80),
      service("eu", {"*.eu.shop.example", "www.shop.example"}, 80),
      service("alt", {"*.shop.example"}, 8080),
      service("six", {"2001:db8::1"}, 80),
      service("six-brackets", {"[fd00::2]"}, 8080),
      service("four", {"10.1.2.3"}, 80),
      service("", {"*.only.example"}, 81),
  };
  config.outbound.services[0].namespace_name = "books";
  return config;
}

std::string name_of(const Table& table, std::string_view authority) {
  return table.match(authority).service_name;
}

}  // namespace

TEST_CASE("an authority finds its service", "[route]") {
  const Table table = Table::outbound(sample());
  struct Case {
    std::string authority;
    std::string service;
  };
  const std::string long_host = std::string(200, 'a') + ".shop.example";
  const std::string refused = "BlackHoleCluster";
  const Case cases[] = {
      // exact, port, case, trailing dot
      {"reviews:9080", "reviews"},
      {"reviews:09080", "reviews"},
      {"reviews.shop.svc.cluster.local:9080", "reviews"},
      {"reviews.shop.svc.cluster.local", "reviews"},  // no port: the only service of this host
      {"Reviews.Shop.SVC.cluster.local.:9080", "reviews"},
      {"REVIEWS.", "reviews-web"},  // no port: port 80 goes before another one
      {"reviews:", "reviews-web"},
      {"reviews:80", "reviews-web"},
      {"ratings", "ratings"},
      {"ratings:80", refused},
      {"reviews:9081", refused},
      // wildcards: the longest suffix, one or more labels, exact ones first
      {"a.shop.example", "shop"},
      {"a.b.shop.example:80", "shop"},
      {"a.eu.shop.example", "eu"},
      {"eu.shop.example", "shop"},
      {"a.b.EU.shop.example.", "eu"},
      {"www.shop.example", "eu"},
      {"www.shop.example:8080", "alt"},
      {"a.shop.example:8080", "alt"},
      {"shop.example", refused},
      {".shop.example", refused},
      {"ashop.example", refused},
      {"a.shop.example.com", refused},
      {"a.only.example", "*"},
      {"a.only.example:80", refused},
      {long_host, "shop"},
      // addresses
      {"[2001:db8::1]", "six"},
      {"[2001:DB8:0:0:0:0:0:1]:80", "six"},
      {"[2001:db8::1]:81", refused},
      {"[fd00:0::2]:8080", "six-brackets"},
      {"2001:db8::1", refused},
      {"10.1.2.3", "four"},
      {"10.1.2.3:80", "four"},
      {"10.1.2.4", refused},
      // junk
      {"", refused},
      {".", refused},
      {":", refused},
      {":80", refused},
      {"a..shop.example", refused},
      {"a b.shop.example", refused},
      {"a/b.shop.example", refused},
      {"user@a.shop.example", refused},
      {"a\0.shop.example", refused},
      {std::string("a\0b.shop.example", 16), refused},
      {"\xff\xfe.shop.example", refused},
      {"*.shop.example", refused},
      {"reviews:9080:9080", refused},
      {"reviews:9080x", refused},
      {"reviews:x", refused},
      {"reviews:-1", refused},
      {"reviews: 9080", refused},
      {"reviews:99999", refused},
      {"reviews:65616", refused},  // 80 in 16 bits
      {"reviews:0", refused},
      {"[", refused},
      {"[]", refused},
      {"[::1", refused},
      {"[2001:db8::1]80", refused},
      {"[2001:db8::1%eth0]", refused},
      {"[reviews]", refused},
      {"[" + std::string(5000, ':') + "]", refused},
      {std::string(254, 'a'), refused},
      {std::string(241, 'a') + ".shop.example", refused},
      {std::string(1 << 20, 'a'), refused},
  };
  for (const Case& each : cases) {
    CAPTURE(each.authority.substr(0, 80), each.authority.size());
    CHECK(name_of(table, each.authority) == each.service);
  }
}

TEST_CASE("plans carry the labels of their service", "[route]") {
  const Table table = Table::outbound(sample());
  const Plan& reviews = table.match("reviews:9080");
  CHECK(reviews.cluster == 0);
  CHECK(reviews.service == "reviews.shop.svc.cluster.local");
  CHECK(reviews.service_name == "reviews");
  CHECK(reviews.service_namespace == "books");
  CHECK(reviews.operation == "reviews.shop.svc.cluster.local:9080/*");
  CHECK(table.match("ratings").service_namespace == "unknown");
  CHECK(table.match("a.eu.shop.example").service == "www.shop.example");
  CHECK(table.match("a.shop.example").service == "*.shop.example");

  const Plan& refused = table.match("nobody");
  CHECK(refused.cluster == Plan::kNoCluster);
  CHECK(refused.service.empty());
  CHECK(refused.service_name == "BlackHoleCluster");
  CHECK(refused.service_namespace == "unknown");
  CHECK(refused.operation.empty());

  REQUIRE(table.plans().size() == 11);
  CHECK(&table.plans().front() == &refused);
  CHECK(table.index_of(refused) == 0);
  for (std::uint32_t i = 1; i < table.plans().size(); ++i) {
    CHECK(table.plans()[i].cluster == i - 1);
    CHECK(table.index_of(table.plans()[i]) == i);
  }
}

TEST_CASE("inbound, everything goes to the app", "[route]") {
  config::Config config;
  config.workload.canonical_service = "reviews";
  config.workload.namespace_name = "books";
  config.inbound.app.port = 9080;
  const Table table = Table::inbound(config);
  for (const std::string_view authority : {"reviews", "", "[junk", "nobody:1", "\xff"}) {
    const Plan& plan = table.match(authority);
    CHECK(plan.cluster == 0);
    CHECK(plan.service == "reviews");
    CHECK(plan.service_name == "reviews");
    CHECK(plan.service_namespace == "books");
    CHECK(plan.operation == "reviews:9080/*");
    CHECK(table.index_of(plan) == 1);
  }
  CHECK(table.plans()[0].cluster == Plan::kNoCluster);
}

TEST_CASE("inbound, the service's full name where it is configured", "[route]") {
  config::Config config;
  config.workload.canonical_service = "reviews";
  config.workload.namespace_name = "books";
  config.inbound.app.port = 9080;
  config.inbound.service = "reviews.books.svc.cluster.local";
  const Table table = Table::inbound(config);
  const Plan& plan = table.match("whatever");
  CHECK(plan.service == "reviews.books.svc.cluster.local");
  CHECK(plan.service_name == "reviews");
  CHECK(plan.service_namespace == "books");
  CHECK(plan.operation == "reviews.books.svc.cluster.local:9080/*");
}

TEST_CASE("a table without a service refuses everything", "[route]") {
  const Table table = Table::outbound(config::Config{});
  CHECK(table.match("reviews").cluster == Plan::kNoCluster);
  CHECK(table.plans().size() == 1);
}

TEST_CASE("a host of many labels is looked up no deeper than the suffixes go", "[route]") {
  // 1,000 services and the longest host of one-letter labels: this must end at once.
  config::Config config;
  for (int i = 0; i < 1000; ++i) {
    config.outbound.services.push_back(service("s", {"*.s" + std::to_string(i) + ".example"}, 80));
  }
  const Table table = Table::outbound(config);
  std::string host;
  while (host.size() < 251) host += "a.";
  host += 'a';
  for (int i = 0; i < 10'000; ++i) {
    if (table.match(host).cluster != Plan::kNoCluster) FAIL("matched");
  }
  CHECK(table.match("a.a.a.s999.example").cluster == 999);
}

}  // namespace proxy::route
