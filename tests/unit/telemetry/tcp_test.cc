// The counters of TCP connections: their labels, their deltas, their part in expiry and overflow.
#include <chrono>
#include <string>

#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto kOpened = "istio_tcp_connections_opened_total";
constexpr auto kClosed = "istio_tcp_connections_closed_total";
constexpr auto kSent = "istio_tcp_sent_bytes_total";
constexpr auto kReceived = "istio_tcp_received_bytes_total";

struct Bed {
  explicit Bed(std::size_t label_sets = 1000, std::chrono::microseconds expiry = 0us)
      : collector(Collector::Options{.label_sets = label_sets,
                                     .idle_expiry = expiry,
                                     .own = {.workload = "server", .workload_namespace = "shop"}}),
        shard(collector.add_shard()) {
    facts.policy = SecurityPolicy::mutual_tls;
    facts.peer = shard.intern_peer(PeerLabels{});
    facts.destination = shard.intern_destination({"app", "app", "shop"});
  }
  void tell(bool opened, bool closed, std::uint64_t sent, std::uint64_t received) {
    facts.opened = opened;
    facts.closed = closed;
    facts.sent_bytes = sent;
    facts.received_bytes = received;
    record(shard, facts, cache);
  }
  auto samples(Collector::Clock::time_point now = Collector::Clock::now()) {
    return read_samples(whole_text(collector.scrape(now)));
  }

  Collector collector;
  Shard& shard;
  TcpFacts facts;
  SeriesCache cache;
};

}  // namespace

TEST_CASE("TCP connections have 23 labels and add up", "[unit]") {
  Bed bed;
  bed.tell(true, false, 0, 0);
  auto samples = bed.samples();
  for (const auto* name : {kOpened, kClosed, kSent, kReceived}) CHECK(count_of(samples, name) == 1);
  CHECK(sum_of(samples, kOpened) == 1);
  bed.tell(false, false, 100, 7);
  bed.tell(false, true, 20, 0);
  samples = bed.samples();
  CHECK(sum_of(samples, kClosed,
               {{"reporter", "destination"},
                {"destination_service", "app"},
                {"request_protocol", "tcp"},
                {"response_flags", "-"},
                {"connection_security_policy", "mutual_tls"}}) == 1);
  CHECK(sum_of(samples, kSent) == 120);
  CHECK(sum_of(samples, kReceived) == 7);
  CHECK(sum_of(samples, "hoplite_series") == static_cast<double>(samples.size()));
  CHECK(sum_of(samples, "hoplite_label_sets") == 1);
  for (const Sample& sample : samples) {
    if (sample.name != kOpened && sample.name != kSent) continue;
    CHECK(sample.labels.size() == 23);
    CHECK(sample.label("response_code") == "(absent)");
    CHECK(sample.label("grpc_response_status") == "(absent)");
  }
  CHECK(count_of(samples, "istio_requests_total") == 0);
  CHECK(read_ledger(bed.collector).balanced());
}

TEST_CASE("TCP and requests in flight do not disturb each other", "[unit]") {
  Bed bed;
  bed.shard.request_started(1);
  (void)bed.samples();
  bed.tell(true, false, 1, 1);
  const Ledger ledger = read_ledger(bed.collector);
  CHECK(ledger.in_flight == 1);
  CHECK(ledger.balanced());
}

TEST_CASE("an idle TCP label set leaves and comes back", "[unit]") {
  Bed bed(1000, 1h);
  const auto now = Collector::Clock::now();
  bed.tell(true, false, 5, 0);
  CHECK(count_of(bed.samples(now), kOpened) == 1);
  CHECK(count_of(bed.samples(now + 2h), kOpened) == 0);
  CHECK(read_ledger(bed.collector).expired == 0);
  bed.tell(false, true, 3, 0);
  const auto samples = bed.samples(now + 2h);
  CHECK(sum_of(samples, kClosed) == 1);
  CHECK(sum_of(samples, kSent) == 3);
}

TEST_CASE("TCP beyond the cap overflows without touching the requests", "[unit]") {
  Bed bed(10);
  for (int i = 0; i < 400; ++i) {
    SeriesCache cache;
    TcpFacts facts = bed.facts;
    facts.opened = true;
    // Flags make overflow sets of their own, until those are used up, too.
    facts.flags = Flags::from_bits(static_cast<std::uint32_t>(i));
    record(bed.shard, facts, cache);
  }
  const auto samples = bed.samples();
  CHECK(sum_of(samples, kOpened) == 400);
  CHECK(count_of(samples, "istio_requests_total") == 0);
  CHECK(sum_of(samples, "hoplite_series") == static_cast<double>(samples.size()));
  CHECK(sum_of(samples, kOpened, {{"request_protocol", "_overflow"}}) > 0);
  CHECK(read_ledger(bed.collector).balanced());
}
