// Following names: first answers, changes, failures that keep what is known, and when to ask again.
// Not DNS (unit_net), and not what a server makes of it (e2e).
#include "proxy/server/name_refresh.h"

#include <optional>

#include <prometheus/metric_family.h>

#include "proxy/server/endpoints.h"
#include "tests/support/dns_server.h"
#include "tests/support/loop_fixture.h"

using namespace proxy;
using namespace proxy::server;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

DnsServer::Handler at(std::vector<std::string> addresses, std::uint32_t ttl) {
  return [addresses = std::move(addresses), ttl](const DnsQuery& query) {
    std::vector<DnsRecord> records;
    if (query.type == kTypeA) {
      for (const auto& address : addresses) records.push_back(a_record(query.name, address, ttl));
    }
    return std::vector<std::string>{dns_message(query, kNoError, records)};
  };
}

DnsServer::Handler failing(int rcode) {
  return [rcode](const DnsQuery& query) {
    return std::vector<std::string>{dns_message(query, rcode, {})};
  };
}

std::vector<std::string> silence(const DnsQuery&) {
  return {};
}

struct Rig {
  explicit Rig(DnsServer::Handler handler) : server(std::move(handler)) {}
  ~Rig() {
    const net::Loop::Turn turn(fixture.loop);
    refresh.reset();
  }

  void follow(std::set<std::string> names) {
    refresh->follow(names, {server.address()}, [this] { ++told; });
  }
  std::vector<std::string> texts(const std::string& name) const {
    std::vector<std::string> out;
    for (const auto& address : refresh->addresses(name)) out.push_back(address.text);
    return out;
  }
  std::chrono::milliseconds now() {
    return std::chrono::milliseconds(static_cast<std::int64_t>(fixture.loop.now_ms()));
  }
  bool until(const std::function<bool()>& done) { return fixture.run_until(done, 60s); }
  // Whether a sample of this family with this one label has the value.
  std::optional<double> metric(const std::string& family, const std::string& label) const {
    for (const auto& each : collector.Collect()) {
      if (each.name != family) continue;
      for (const auto& sample : each.metric) {
        if (sample.label.at(0).value == label) return sample.gauge.value + sample.counter.value;
      }
    }
    return std::nullopt;
  }

  DnsServer server;
  LoopFixture fixture;
  telemetry::Collector collector{{}};
  telemetry::Log log{{.level = telemetry::LogLevel::off}};
  int told = 0;
  int changes = 0;
  std::unique_ptr<NameRefresh> refresh =
      std::make_unique<NameRefresh>(fixture.loop, collector, log, [this] { ++changes; });
};

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("without names there is nothing to wait for", "[unit]") {
  Rig rig(silence);
  rig.follow({});
  CHECK(rig.told == 1);
  CHECK_FALSE(rig.refresh->waiting());
}

TEST_CASE("whoever follows is told with the last first answer, good or bad", "[unit]") {
  Rig rig([](const DnsQuery& query) {
    return query.name == "b.example" ? failing(kNxDomain)(query)
                                     : at({"10.0.0.2", "10.0.0.1"}, 30)(query);
  });
  rig.follow({"a.example", "b.example"});
  CHECK(rig.told == 0);
  REQUIRE(rig.until([&] {
    return rig.told == 1 && rig.changes == 1 &&
           rig.metric("hoplite_dns_lookups_total", "not_found") >= 1;
  }));
  CHECK(rig.texts("a.example") == Texts{"10.0.0.1", "10.0.0.2"});
  CHECK(rig.texts("b.example").empty());
  CHECK(rig.texts("c.example").empty());
  CHECK(rig.metric("hoplite_dns_lookups_total", "resolved") == 1);
  CHECK(rig.metric("hoplite_dns_addresses", "a.example") == 2);
  CHECK(rig.metric("hoplite_dns_addresses", "b.example") == 0);
  CHECK(rig.metric("hoplite_dns_last_answer_timestamp_seconds", "a.example") > 1e9);
  CHECK_FALSE(rig.metric("hoplite_dns_last_answer_timestamp_seconds", "b.example").has_value());
  // Known names are waited for no more; one that is not followed any longer is forgotten.
  rig.follow({"b.example"});
  CHECK(rig.told == 2);
  CHECK(rig.texts("a.example").empty());
  CHECK_FALSE(rig.metric("hoplite_dns_addresses", "a.example").has_value());
}

TEST_CASE("a silent name server holds nobody up for long", "[unit]") {
  Rig rig(silence);
  const auto start = rig.now();
  rig.follow({"a.example"});
  rig.fixture.settle();
  const int told = rig.told;
  if (rig.now() - start < NameRefresh::kFirstAnswers) CHECK(told == 0);
  rig.fixture.advance(NameRefresh::kFirstAnswers + 10ms);
  CHECK(rig.told == 1);
  // The answer is taken when it comes.
  rig.server.answer_with(at({"10.0.0.1"}, 30));
  REQUIRE(rig.until([&] { return rig.changes == 1; }));
  CHECK(rig.texts("a.example") == Texts{"10.0.0.1"});
}

TEST_CASE("a new answer is asked for when the TTL ends, within bounds", "[unit]") {
  struct Case {
    std::uint32_t ttl;
    std::chrono::milliseconds holds;
  };
  const auto [ttl, holds] =
      GENERATE(Case{0, NameRefresh::kWithoutTtl}, Case{1, NameRefresh::kShortest}, Case{10, 10s},
               Case{600, NameRefresh::kLongest}, Case{0x80000001, NameRefresh::kWithoutTtl});
  Rig rig(at({"10.0.0.1"}, ttl));
  const auto start = rig.now();
  rig.follow({"a.example"});
  REQUIRE(rig.until([&] { return rig.changes == 1; }));
  rig.server.answer_with(at({"10.0.0.2"}, 600));
  if (holds > 4s) rig.fixture.advance(holds - 4s);
  rig.fixture.settle();
  // Not before its time, if that is not over already on a slow machine.
  const auto answers = rig.metric("hoplite_dns_lookups_total", "resolved");
  if (rig.now() - start < holds) CHECK(answers == 1);
  rig.fixture.advance(holds + holds / 10 + 10ms);
  REQUIRE(rig.until([&] { return rig.changes == 2; }));
  CHECK(rig.texts("a.example") == Texts{"10.0.0.2"});
}

TEST_CASE("a failed refresh keeps the addresses, and is tried again", "[unit]") {
  const int rcode = GENERATE(kNxDomain, kServFail);
  Rig rig(at({"10.0.0.1"}, 1));
  rig.follow({"a.example"});
  REQUIRE(rig.until([&] { return rig.changes == 1; }));
  rig.server.answer_with(failing(rcode));
  const std::string outcome = rcode == kNxDomain ? "not_found" : "server_failure";
  for (int failures = 1; failures < 7; ++failures) {
    rig.fixture.advance(NameRefresh::kLastRetry + NameRefresh::kLastRetry / 10 + 10ms);
    REQUIRE(rig.until(
        [&] { return rig.metric("hoplite_dns_lookups_total", outcome).value_or(0) >= failures; }));
    CHECK(rig.texts("a.example") == Texts{"10.0.0.1"});
  }
  CHECK(rig.changes == 1);
  CHECK(rig.metric("hoplite_dns_addresses", "a.example") == 1);
  rig.server.answer_with(at({"10.0.0.9"}, 30));
  rig.fixture.advance(NameRefresh::kLastRetry);
  REQUIRE(rig.until([&] { return rig.changes == 2; }));
  CHECK(rig.texts("a.example") == Texts{"10.0.0.9"});
}

TEST_CASE("the same addresses in another order are no change", "[unit]") {
  Rig rig(at({"10.0.0.1", "10.0.0.2"}, 1));
  rig.follow({"a.example"});
  REQUIRE(rig.until([&] { return rig.changes == 1; }));
  rig.server.answer_with(at({"10.0.0.2", "10.0.0.1"}, 1));
  rig.fixture.advance(2s);
  REQUIRE(rig.until(
      [&] { return rig.metric("hoplite_dns_lookups_total", "resolved").value_or(0) >= 3; }));
  CHECK(rig.changes == 1);
}

TEST_CASE("names become endpoints, one for each address", "[unit]") {
  const auto endpoint = [](std::string host, std::uint16_t port) {
    config::Endpoint made;
    made.host = std::move(host);
    made.port = port;
    made.text = made.host + ":" + std::to_string(port);
    return made;
  };
  config::Endpoint literal = endpoint("10.9.9.9", 80);
  literal.addresses = {{"10.9.9.9", config::Family::ipv4}};
  config::Config config;
  config.inbound.app = endpoint("app.example", 1);
  config.outbound.services.resize(2);
  config.outbound.services[0].endpoints = {literal, endpoint("web.example", 80)};
  config.outbound.services[1].endpoints = {endpoint("web.example", 81)};
  CHECK(names_in(config) == std::set<std::string>{"app.example", "web.example"});

  const auto addresses_of = [](const std::string& name) -> std::vector<config::IpAddress> {
    if (name == "nowhere") return {};
    return {{"10.0.0.1", config::Family::ipv4}, {"fd00::1", config::Family::ipv6}};
  };
  const auto found = resolved({literal, endpoint("web.example", 80), endpoint("nowhere", 80),
                               endpoint("same.example", 80), endpoint("web.example", 81)},
                              addresses_of);
  std::vector<std::string> texts;
  for (const auto& each : found) {
    texts.push_back(each.text);
    REQUIRE(each.addresses.size() == 1);
    CHECK(each.addresses[0].text == each.host);
  }
  CHECK(texts ==
        Texts{"10.9.9.9:80", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.1:81", "[fd00::1]:81"});
}
