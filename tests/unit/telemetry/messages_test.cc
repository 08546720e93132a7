// The counters of gRPC messages: their labels, their deltas, their part in expiry and overflow.
#include <chrono>
#include <string>

#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;
using namespace std::chrono_literals;

namespace {

constexpr auto kRequests = "istio_request_messages_total";
constexpr auto kResponses = "istio_response_messages_total";

struct Bed {
  explicit Bed(std::size_t label_sets = 1000, std::chrono::microseconds expiry = 0us)
      : collector(Collector::Options{.label_sets = label_sets,
                                     .idle_expiry = expiry,
                                     .own = {.workload = "server", .workload_namespace = "shop"}}),
        shard(collector.add_shard()) {
    facts.peer = shard.intern_peer(PeerLabels{});
    facts.destination = shard.intern_destination({"app", "app", "shop"});
  }
  void tell(std::uint64_t requests, std::uint64_t responses, std::uint64_t in_flight = 1) {
    facts.request_messages = requests;
    facts.response_messages = responses;
    record(shard, facts, in_flight, cache);
  }
  void complete(std::uint16_t code = 200) {
    RequestFacts request;
    request.protocol = Protocol::grpc;
    request.grpc_status = 0;
    request.response_code = code;
    request.peer = facts.peer;
    request.destination = facts.destination;
    shard.request_started(1);
    record(shard, request, 0, request_cache);
  }
  auto samples(Collector::Clock::time_point now = Collector::Clock::now()) {
    return read_samples(whole_text(collector.scrape(now)));
  }

  Collector collector;
  Shard& shard;
  MessageFacts facts;
  SeriesCache cache;
  SeriesCache request_cache;
};

}  // namespace

TEST_CASE("messages have the first 20 labels and add up", "[unit]") {
  Bed bed;
  bed.tell(0, 0);
  auto samples = bed.samples();
  CHECK(count_of(samples, kRequests) == 1);  // there from the first report on
  CHECK(sum_of(samples, kRequests) == 0);
  bed.tell(3, 1);
  bed.tell(0, 7);
  samples = bed.samples();
  CHECK(sum_of(samples, kRequests,
               {{"reporter", "destination"},
                {"source_workload", "unknown"},
                {"destination_workload", "server"},
                {"destination_service", "app"}}) == 3);
  CHECK(sum_of(samples, kResponses) == 8);
  for (const Sample& sample : samples) {
    if (sample.name != kRequests && sample.name != kResponses) continue;
    CHECK(sample.labels.size() == 20);
    CHECK(sample.label("request_protocol") == "(absent)");
    CHECK(sample.label("destination_cluster") != "(absent)");
  }
  CHECK(count_of(samples, "istio_requests_total") == 0);
  CHECK(sum_of(samples, "hoplite_label_sets") == 1);
  CHECK(sum_of(samples, "hoplite_series") == static_cast<double>(samples.size()));
}

TEST_CASE("messages leave the ledger as it is", "[unit]") {
  Bed bed;
  bed.shard.request_started(1);
  bed.tell(1, 1, 1);
  auto samples = bed.samples();
  CHECK(sum_of(samples, "hoplite_requests_in_flight") == 1);
  CHECK(sum_of(samples, "hoplite_requests_completed_total") == 0);
  bed.tell(1, 1, 1);  // the only thing between two scrapes
  samples = bed.samples();
  CHECK(sum_of(samples, "hoplite_requests_in_flight") == 1);
  CHECK(sum_of(samples, "hoplite_requests_started_total") == 1);
}

TEST_CASE("the families stand beside those of requests in one scrape", "[unit]") {
  Bed bed;
  bed.complete();
  bed.tell(2, 2);
  bed.complete(503);
  const auto samples = bed.samples();
  CHECK(count_of(samples, "istio_requests_total") == 2);
  CHECK(sum_of(samples, "istio_request_bytes_count") == 2);
  CHECK(count_of(samples, kRequests) == 1);
  CHECK(sum_of(samples, kRequests) == 2);
  CHECK(bed.collector.Collect().size() > kIstioFamilies);
}

TEST_CASE("messages beyond the cap go to one set of their reporter", "[unit]") {
  Bed bed(10);
  for (int i = 0; i < 30; ++i) {
    bed.facts.destination = bed.shard.intern_destination({"app" + std::to_string(i), "app", "x"});
    bed.tell(1, 2);
  }
  const auto samples = bed.samples();
  CHECK(sum_of(samples, kRequests) == 30);
  CHECK(sum_of(samples, kResponses) == 60);
  CHECK(count_of(samples, kRequests) == 11);
  CHECK(sum_of(samples, kRequests,
               {{"destination_service", "_overflow"},
                {"source_workload", "_overflow"},
                {"reporter", "destination"}}) == 20);
  bed.complete();
  CHECK(sum_of(bed.samples(), "hoplite_requests_overflowed_total") == 1);  // requests alone
}

TEST_CASE("a set of messages that expires is no request", "[unit]") {
  Bed bed(1000, 1s);
  const auto start = Collector::Clock::now();
  bed.tell(5, 5);
  CHECK(count_of(bed.samples(start), kRequests) == 1);
  const auto samples = bed.samples(start + 10s);
  CHECK(count_of(samples, kRequests) == 0);
  CHECK(sum_of(samples, "hoplite_requests_expired_total") == 0);
  bed.tell(1, 0);
  CHECK(sum_of(bed.samples(start + 11s), kRequests) == 1);
}
