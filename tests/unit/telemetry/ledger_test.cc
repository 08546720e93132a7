// The hard rule: every scrape balances exactly, whatever the workers do meanwhile.
#include <atomic>
#include <thread>
#include <vector>

#include "telemetry/collector.h"
#include "telemetry/exposition.h"
#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;

namespace {

// A worker with up to 64 requests in flight, over more label sets than the cap allows.
void work(Shard& shard, std::uint32_t seed, const std::atomic<bool>& stop, std::uint64_t& done) {
  std::vector<PartyRef> peers;
  for (int i = 0; i < 4; ++i) {
    PeerLabels peer;
    peer.workload.workload = "w" + std::to_string(i);
    peers.push_back(shard.intern_peer(peer));
  }
  const DestinationRef destination = shard.intern_destination({});
  SeriesCache cache;
  std::uint64_t in_flight = 0;
  std::uint32_t random = seed;
  while (!stop.load(std::memory_order_relaxed) || in_flight > 0) {
    random = random * 1664525 + 1013904223;
    const bool stopping = stop.load(std::memory_order_relaxed);
    if (!stopping && in_flight < 64 && (random >> 16 & 1) != 0) {
      shard.request_started(++in_flight);
    } else if (in_flight > 0) {
      RequestFacts facts;
      facts.peer = peers[random >> 17 & 3];
      facts.destination = destination;
      facts.response_code = static_cast<std::uint16_t>(200 + (random >> 20 & 3));
      facts.duration_us = random >> 10;
      facts.request_bytes = random >> 20;
      facts.response_bytes = 1;
      record(shard, facts, --in_flight, cache);
      ++done;
    }
  }
}

}  // namespace

TEST_CASE("1,000 scrapes under full load balance exactly", "[unit]") {
  Collector::Options options;
  options.label_sets = 8;
  Collector collector(options);
  constexpr std::size_t kWorkers = 2;
  std::atomic<bool> stop = false;
  std::array<std::uint64_t, kWorkers> done{};
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kWorkers; ++i) {
    Shard& shard = collector.add_shard();
    threads.emplace_back(
        [&, i, shard = &shard] { work(*shard, static_cast<std::uint32_t>(i + 1), stop, done[i]); });
  }
  double last_completed = 0;
  int unbalanced = 0;
  int moved = 0;
  int busy = 0;
  // Scrapes that saw nothing move prove nothing; how many do is the scheduler's choice.
  const auto proven = [&] { return moved > 200 && busy > 200; };
  for (int scrape = 0; scrape < 1000 || (!proven() && scrape < 100'000); ++scrape) {
    const Ledger ledger = read_ledger(collector);
    const bool exact = ledger.balanced() && ledger.sent == ledger.requests && ledger.expired == 0;
    if (!exact || ledger.completed < last_completed) ++unbalanced;
    if (ledger.completed > last_completed) ++moved;
    if (ledger.in_flight > 0) ++busy;
    last_completed = ledger.completed;
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(unbalanced == 0);
  CHECK(proven());
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "istio_requests_total") == static_cast<double>(done[0] + done[1]));
  CHECK(sum_of(samples, "hoplite_requests_in_flight") == 0);
  CHECK(sum_of(samples, "hoplite_label_sets") == 8 + 4);
  CHECK(sum_of(samples, "hoplite_requests_overflowed_total") ==
        sum_of(samples, "istio_requests_total", {{"source_workload", "_overflow"}}));
}

TEST_CASE("in flight is the level the worker gave, not a difference", "[unit]") {
  Collector collector(Collector::Options{});
  Shard& shard = collector.add_shard();
  shard.request_started(7);
  auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "hoplite_requests_in_flight") == 7);
  samples = read_samples(whole_text(collector.scrape()));  // nothing happened between
  CHECK(sum_of(samples, "hoplite_requests_in_flight") == 7);
  CHECK(sum_of(samples, "hoplite_requests_started_total") == 1);
}
