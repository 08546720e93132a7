// Label sets that leave after stats.idle_expiry, and come back.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "telemetry/collector.h"
#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;
using namespace std::chrono_literals;

namespace {

struct Bed {
  explicit Bed(std::chrono::microseconds expiry, std::size_t label_sets = 1000)
      : collector(Collector::Options{.label_sets = label_sets, .idle_expiry = expiry}) {}

  void send(Shard& shard, const std::string& name) {
    PeerLabels peer;
    peer.workload.workload = name;
    RequestFacts facts;
    facts.peer = shard.intern_peer(peer);
    facts.destination = shard.intern_destination({});
    facts.response_code = 200;
    shard.request_started(1);
    record(shard, facts, 0, cache);
  }
  std::vector<Sample> scrape(std::chrono::microseconds at) {
    auto samples = read_samples(whole_text(collector.scrape(start + at)));
    const double completed = sum_of(samples, "hoplite_requests_completed_total");
    CHECK(completed == sum_of(samples, "istio_requests_total") +
                           sum_of(samples, "hoplite_requests_expired_total"));
    CHECK(completed == sum_of(samples, "hoplite_requests_started_total"));
    return samples;
  }

  Collector collector;
  SeriesCache cache;
  Collector::Clock::time_point start{1h};
};

double requests_of(const std::vector<Sample>& samples, const std::string& name) {
  return sum_of(samples, "istio_requests_total", {{"source_workload", name}});
}

}  // namespace

TEST_CASE("label sets stay for ever by default", "[unit]") {
  Bed bed(0s);
  Shard& shard = bed.collector.add_shard();
  bed.send(shard, "a");
  bed.scrape(0s);
  CHECK(requests_of(bed.scrape(10'000h), "a") == 1);
}

TEST_CASE("an idle label set leaves, frees its place and the ledger balances", "[unit]") {
  Bed bed(60s, 2);
  Shard& shard = bed.collector.add_shard();
  bed.send(shard, "a");
  bed.send(shard, "a");
  bed.send(shard, "b");
  bed.send(shard, "c");
  auto samples = bed.scrape(0s);
  CHECK(requests_of(samples, "a") == 2);
  CHECK(requests_of(samples, "_overflow") == 1);

  bed.send(shard, "b");
  samples = bed.scrape(59s);
  CHECK(sum_of(samples, "hoplite_label_sets") == 3);
  samples = bed.scrape(61s);  // a and the overflow set have been idle for a minute; b has not
  CHECK(requests_of(samples, "a") == 0);
  CHECK(requests_of(samples, "b") == 2);
  CHECK(sum_of(samples, "hoplite_label_sets") == 1);
  CHECK(sum_of(samples, "hoplite_requests_expired_total") == 3);

  bed.send(shard, "c");  // takes the place that became free
  samples = bed.scrape(62s);
  CHECK(requests_of(samples, "c") == 1);
  CHECK(requests_of(samples, "_overflow") == 0);
  bed.send(shard, "a");  // there is none for it now
  samples = bed.scrape(63s);
  CHECK(requests_of(samples, "a") == 0);
  CHECK(requests_of(samples, "_overflow") == 1);

  samples = bed.scrape(1000s);
  CHECK(sum_of(samples, "hoplite_label_sets") == 0);
  bed.send(shard, "a");  // starts from nothing
  samples = bed.scrape(1001s);
  CHECK(requests_of(samples, "a") == 1);
  CHECK(sum_of(samples, "hoplite_requests_completed_total") == 8);
}

TEST_CASE("the same label set expires in all workers and returns in each", "[unit]") {
  Bed bed(60s);
  Shard& first = bed.collector.add_shard();
  Shard& second = bed.collector.add_shard();
  bed.send(first, "a");
  bed.cache = {};
  bed.send(second, "a");
  bed.scrape(0s);
  CHECK(requests_of(bed.scrape(100s), "a") == 0);
  bed.send(second, "a");
  bed.cache = {};
  bed.send(first, "b");
  CHECK(requests_of(bed.scrape(101s), "a") == 1);
  bed.collector.retire(second);
  CHECK(requests_of(bed.scrape(102s), "a") == 1);
  CHECK(requests_of(bed.scrape(200s), "a") == 0);
}

TEST_CASE("years of changing peers fit into the same memory", "[unit]") {
  Bed bed(60s, 10);
  Shard& shard = bed.collector.add_shard();
  for (int i = 0; i < 400; ++i) {
    bed.send(shard, "pod-" + std::to_string(i));
    const auto samples = bed.scrape(i * 30s);
    CHECK(requests_of(samples, "pod-" + std::to_string(i)) == 1);
    CHECK(requests_of(samples, "_overflow") == 0);
  }
  CHECK(shard.series_count() <= 10);
}

TEST_CASE("expiry under load loses nothing", "[unit]") {
  Collector collector(Collector::Options{.label_sets = 5, .idle_expiry = 1us});
  std::atomic<bool> stop = false;
  std::array<std::uint64_t, 2> sent{};
  std::vector<std::thread> threads;
  for (std::size_t worker = 0; worker < sent.size(); ++worker) {
    Shard* shard = &collector.add_shard();
    threads.emplace_back([&stop, &sent, worker, shard] {
      SeriesCache cache;
      const DestinationRef destination = shard->intern_destination({});
      const PartyRef peer = shard->intern_peer({});
      while (!stop.load(std::memory_order_relaxed)) {
        RequestFacts facts;
        facts.destination = destination;
        facts.peer = peer;
        // One code for a while, then the next: all others are idle meanwhile.
        facts.response_code = static_cast<std::uint16_t>(200 + (sent[worker] / 4096) % 16);
        shard->request_started(1);
        record(*shard, facts, 0, cache);
        ++sent[worker];
      }
    });
  }
  int unbalanced = 0;
  bool expired = false;
  for (int i = 0; i < 300 || (!expired && i < 100'000); ++i) {
    const Ledger seen = read_ledger(collector);
    if (!seen.balanced()) ++unbalanced;
    expired = seen.expired > 0;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(unbalanced == 0);
  const Ledger ledger = read_ledger(collector);
  CHECK(ledger.balanced());
  CHECK(ledger.completed == static_cast<double>(sent[0] + sent[1]));
  CHECK(ledger.expired > 0);
}
