// Names that strangers invent: the cap, the sums and an honest peer's series stand.
#include <set>
#include <string>

#include "telemetry/collector.h"
#include "telemetry/peer_metadata.h"
#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;

namespace {

struct Sender {
  Shard& shard;
  SeriesCache cache;

  void send(PartyRef peer, DestinationRef destination, std::uint16_t code = 200) {
    RequestFacts facts;
    facts.peer = peer;
    facts.destination = destination;
    facts.response_code = code;
    facts.duration_us = 1234;
    facts.request_bytes = 10;
    facts.policy = SecurityPolicy::none;
    shard.request_started(1);
    record(shard, facts, 0, cache);
  }
};

PeerLabels named(const std::string& name) {
  PeerLabels peer;
  peer.workload.workload = name;
  return peer;
}

}  // namespace

TEST_CASE("100,000 hostile peers leave cap, sums and an honest peer's series", "[unit]") {
  Collector collector(Collector::Options{.label_sets = 1000});
  Shard& shard = collector.add_shard();
  Shard& other = collector.add_shard();
  Sender sender{shard, {}};
  Sender elsewhere{other, {}};
  const DestinationRef service = shard.intern_destination({.service = "server"});
  for (int i = 0; i < 10; ++i) sender.send(shard.intern_peer(named("honest")), service);
  for (int i = 0; i < 100'000; ++i) {
    PeerLabels hostile = named("hostile-" + std::to_string(i));
    if (i % 3 == 0) hostile.workload.app += static_cast<char>(0xFF);
    if (i % 5 == 0) hostile.workload.version = std::string(300, 'v');
    Sender& by = i % 2 == 0 ? sender : elsewhere;
    by.send(by.shard.intern_peer(hostile), service, i % 7 == 0 ? 503 : 200);
  }
  // The honest peer on its old worker and, for the first time, on another one.
  for (int i = 0; i < 10; ++i) sender.send(shard.intern_peer(named("honest")), service);
  for (int i = 0; i < 10; ++i) elsewhere.send(other.intern_peer(named("honest")), service);

  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "istio_requests_total", {{"source_workload", "honest"}}) == 30);
  CHECK(sum_of(samples, "istio_requests_total") == 100'030);
  CHECK(sum_of(samples, "hoplite_requests_completed_total") == 100'030);
  CHECK(sum_of(samples, "istio_request_duration_milliseconds_count") == 100'030);
  CHECK(sum_of(samples, "istio_request_bytes_sum") == 1'000'300);
  CHECK(count_of(samples, "istio_requests_total") == 1000 + 2);
  CHECK(sum_of(samples, "hoplite_label_sets") == 1002);
  CHECK(sum_of(samples, "hoplite_requests_overflowed_total") == 100'030 - 30 - 999);
  CHECK(sum_of(samples, "hoplite_label_values_replaced_total") > 50'000);
  // What the overflow sets keep, and what not.
  const std::set<std::string> kept{"reporter", "request_protocol", "response_code",
                                   "response_flags", "connection_security_policy"};
  for (const Sample& sample : samples) {
    if (sample.name != "istio_requests_total") continue;
    for (const auto& [key, value] : sample.labels) {
      if (value.size() > 256) FAIL_CHECK(key << " is too long");
      if (sample.label("source_workload") == "_overflow") {
        if ((value == "_overflow") == kept.contains(key)) FAIL_CHECK(key << " is " << value);
      }
    }
  }
  CHECK(sum_of(samples, "istio_requests_total",
               {{"source_workload", "_overflow"}, {"response_code", "503"}}) > 10'000);
}

TEST_CASE("of 100,000 unmatched hosts a hundred keep their name", "[unit]") {
  Collector collector(Collector::Options{.label_sets = 1000});
  Shard& first = collector.add_shard();
  Shard& second = collector.add_shard();
  Sender a{first, {}};
  Sender b{second, {}};
  const PartyRef nobody = first.intern_peer(PeerLabels{});
  for (int i = 0; i < 100'000; ++i) {
    Sender& by = i % 2 == 0 ? a : b;
    const std::string host = "host-" + std::to_string(i) + ".example";
    by.send(nobody, by.shard.intern_unmatched_host(host, "BlackHoleCluster", "unknown"), 502);
  }
  // The first ones are still known, on both workers.
  b.send(nobody, second.intern_unmatched_host("host-0.example", "BlackHoleCluster", "unknown"),
         502);
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(count_of(samples, "istio_requests_total") == 101);
  CHECK(sum_of(samples, "istio_requests_total",
               {{"destination_service", "_other"},
                {"destination_service_name", "BlackHoleCluster"}}) == 99'900);
  CHECK(sum_of(samples, "istio_requests_total", {{"destination_service", "host-0.example"}}) == 2);
  CHECK(sum_of(samples, "istio_requests_total") == 100'001);
  CHECK(sum_of(samples, "hoplite_hosts_folded_total") == 99'900);
  CHECK(sum_of(samples, "hoplite_requests_overflowed_total") == 0);
}

TEST_CASE("very many codes and flags meet a last set, and nothing is lost", "[unit]") {
  Collector collector(Collector::Options{.label_sets = 1});
  Shard& shard = collector.add_shard();
  Sender sender{shard, {}};
  const PartyRef peer = shard.intern_peer(named("p"));
  const DestinationRef service = shard.intern_destination({});
  for (std::uint16_t code = 0; code < 900; ++code) sender.send(peer, service, code);
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "istio_requests_total") == 900);
  CHECK(count_of(samples, "istio_requests_total") == 1 + kOverflowSets + 1);
  CHECK(sum_of(samples, "istio_requests_total",
               {{"reporter", "destination"}, {"response_code", "_overflow"}}) ==
        900 - 1 - static_cast<double>(kOverflowSets));
}

TEST_CASE("a reference whose place was given away counts as overflow, never as somebody else",
          "[unit]") {
  Collector collector(Collector::Options{.label_sets = 1});
  Shard& shard = collector.add_shard();
  Sender sender{shard, {}};
  const DestinationRef service = shard.intern_destination({});
  sender.send(shard.intern_peer(named("first")), service);
  const PartyRef stale = shard.intern_peer(named("stale"));
  REQUIRE(shard.alive(stale));
  for (int i = 0; i < 1000; ++i) {
    const PartyRef ref = shard.intern_peer(named("n" + std::to_string(i)));
    CHECK(shard.alive(ref));
  }
  CHECK_FALSE(shard.alive(stale));
  CHECK(shard.alive(shard.intern_peer(named("first"))));
  sender.send(stale, service);
  sender.send(shard.intern_peer(named("first")), service);
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "istio_requests_total", {{"source_workload", "first"}}) == 2);
  CHECK(sum_of(samples, "istio_requests_total", {{"source_workload", "_overflow"}}) == 1);
}

TEST_CASE("rules and own labels are bounded", "[unit]") {
  Collector collector(Collector::Options{});
  Shard& shard = collector.add_shard();
  for (int i = 0; i < 300; ++i) {
    shard.add_denied(collector.registry().intern_rule("rule-" + std::to_string(i)),
                     DenyMode::enforced);
    WorkloadLabels own;
    own.workload = std::to_string(i);
    shard.set_own(collector.registry().intern_own(own));
  }
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(count_of(samples, "hoplite_requests_denied_total") == 2 * kMaxRules);
  CHECK(sum_of(samples, "hoplite_requests_denied_total") == 300);
  CHECK(sum_of(samples, "hoplite_requests_denied_total", {{"rule", "_other"}}) ==
        300 - static_cast<double>(kMaxRules) + 1);
}
