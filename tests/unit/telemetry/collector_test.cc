// The exposition: labels, bounds, sums, own metrics, memory, promtool.
#include "telemetry/collector.h"

#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <set>
#include <sstream>

#include <prometheus/text_serializer.h>

#include "telemetry/exposition.h"
#include "telemetry/record.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;

namespace {

Collector::Options options(std::size_t label_sets = 1000) {
  Collector::Options result;
  result.label_sets = label_sets;
  result.own = {.workload = "server",
                .workload_namespace = "shop",
                .canonical_service = "server",
                .canonical_revision = "v2",
                .app = "server",
                .version = "",
                .cluster = "Kubernetes"};
  result.version = "0.1.0";
  return result;
}

PeerLabels client() {
  PeerLabels peer;
  peer.workload = {.workload = "client",
                   .workload_namespace = "shop",
                   .canonical_service = "client",
                   .canonical_revision = "latest",
                   .app = "client",
                   .version = "unknown",
                   .cluster = "Kubernetes"};
  peer.peer_principal = "spiffe://cluster.local/ns/shop/sa/client";
  peer.own_principal = "spiffe://cluster.local/ns/shop/sa/server";
  return peer;
}

RequestFacts request(Shard& shard) {
  RequestFacts facts;
  facts.peer = shard.intern_peer(client());
  facts.destination = shard.intern_destination(
      {.service = "server", .service_name = "server", .service_namespace = "shop"});
  facts.policy = SecurityPolicy::mutual_tls;
  facts.response_code = 200;
  facts.duration_us = 1500;
  facts.request_bytes = 100;
  facts.response_bytes = 2000;
  return facts;
}

void complete(Shard& shard, const RequestFacts& facts) {
  SeriesCache cache;
  shard.request_started(1);
  record(shard, facts, 0, cache);
}

using Labels = std::vector<std::pair<std::string, std::string>>;

Labels labels_of_first(const std::vector<Sample>& samples, std::string_view name) {
  for (const Sample& sample : samples) {
    if (sample.name == name) return sample.labels;
  }
  return {};
}

}  // namespace

TEST_CASE("a destination's request has Istio's 25 labels in Istio's order", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  complete(shard, request(shard));
  const auto samples = read_samples(whole_text(collector.scrape()));
  const Labels golden{{"reporter", "destination"},
                      {"source_workload", "client"},
                      {"source_canonical_service", "client"},
                      {"source_canonical_revision", "latest"},
                      {"source_workload_namespace", "shop"},
                      {"source_principal", "spiffe://cluster.local/ns/shop/sa/client"},
                      {"source_app", "client"},
                      {"source_version", "unknown"},
                      {"source_cluster", "Kubernetes"},
                      {"destination_workload", "server"},
                      {"destination_workload_namespace", "shop"},
                      {"destination_principal", "spiffe://cluster.local/ns/shop/sa/server"},
                      {"destination_app", "server"},
                      {"destination_version", ""},
                      {"destination_service", "server"},
                      {"destination_canonical_service", "server"},
                      {"destination_canonical_revision", "v2"},
                      {"destination_service_name", "server"},
                      {"destination_service_namespace", "shop"},
                      {"destination_cluster", "Kubernetes"},
                      {"request_protocol", "http"},
                      {"response_code", "200"},
                      {"grpc_response_status", ""},
                      {"response_flags", "-"},
                      {"connection_security_policy", "mutual_tls"}};
  CHECK(labels_of_first(samples, "istio_requests_total") == golden);
  CHECK(labels_of_first(samples, "istio_response_bytes_sum") == golden);
  CHECK(sum_of(samples, "istio_requests_total") == 1);
}

TEST_CASE("a source's request has the own workload on the source side", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  RequestFacts facts = request(shard);
  facts.reporter = Reporter::source;
  facts.peer = shard.intern_peer(PeerLabels{});
  facts.policy = SecurityPolicy::unknown;
  facts.response_code = 0;
  facts.flags = Flags{Flag::uf} | Flag::urx;
  facts.protocol = Protocol::grpc;
  facts.grpc_status = 14;
  complete(shard, facts);
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "istio_requests_total",
               {{"reporter", "source"},
                {"source_workload", "server"},
                {"source_principal", "unknown"},
                {"source_version", ""},
                {"destination_workload", "unknown"},
                {"destination_canonical_revision", "latest"},
                {"destination_principal", "unknown"},
                {"destination_service", "server"},
                {"request_protocol", "grpc"},
                {"response_code", "0"},
                {"grpc_response_status", "14"},
                {"response_flags", "UF,URX"},
                {"connection_security_policy", "unknown"}}) == 1);
}

TEST_CASE("durations and sizes fall into Istio's buckets with exact sums", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  RequestFacts facts = request(shard);
  SeriesCache cache;
  for (const std::uint64_t us : {0U, 500U, 501U, 1000U, 1001U, 3'600'000'000U, 3'600'000'001U}) {
    facts.duration_us = us;
    facts.request_bytes = us == 0 ? 0 : 1;
    facts.response_bytes = 3'600'001;
    shard.request_started(1);
    record(shard, facts, 0, cache);
  }
  const auto samples = read_samples(whole_text(collector.scrape()));
  const auto bucket = [&](const std::string& name, const std::string& bound) {
    return sum_of(samples, name + "_bucket", {{"le", bound}});
  };
  const std::string duration = "istio_request_duration_milliseconds";
  CHECK(bucket(duration, "0.5") == 2);
  CHECK(bucket(duration, "1") == 4);
  CHECK(bucket(duration, "5") == 5);
  CHECK(bucket(duration, "1800000") == 5);
  CHECK(bucket(duration, "3600000") == 6);
  CHECK(bucket(duration, "+Inf") == 7);
  CHECK(sum_of(samples, duration + "_count") == 7);
  CHECK(sum_of(samples, duration + "_sum") == 7'200'003.003);
  CHECK(bucket("istio_request_bytes", "0.5") == 1);
  CHECK(bucket("istio_request_bytes", "1") == 7);
  CHECK(bucket("istio_response_bytes", "3600000") == 0);
  CHECK(sum_of(samples, "istio_response_bytes_sum") == 7 * 3'600'001.0);
  std::vector<std::string> bounds;
  for (const Sample& sample : samples) {
    if (sample.name == "istio_request_bytes_bucket") bounds.push_back(sample.label("le"));
  }
  CHECK(bounds == std::vector<std::string>{"0.5",    "1",      "5",       "10",      "25",
                                           "50",     "100",    "250",     "500",     "1000",
                                           "2500",   "5000",   "10000",   "30000",   "60000",
                                           "300000", "600000", "1800000", "3600000", "+Inf"});
}

TEST_CASE("each value falls into the first bucket whose bound is not below it", "[unit]") {
  const auto expected = [](double value) {
    std::size_t i = 0;
    while (i < kIstioBounds.size() && kIstioBounds[i] < value) ++i;
    return i;
  };
  std::vector<std::uint64_t> values{0, 1, UINT64_MAX};
  for (const double bound : kIstioBounds) {
    for (const std::uint64_t scale : {1U, 1000U}) {
      const auto at = static_cast<std::uint64_t>(bound * static_cast<double>(scale));
      values.insert(values.end(), {at, at + 1, at == 0 ? 0 : at - 1});
    }
  }
  for (unsigned bit = 0; bit < 63; ++bit) values.push_back(std::uint64_t{1} << bit);
  for (const std::uint64_t value : values) {
    CAPTURE(value);
    CHECK(size_bucket(value) == expected(static_cast<double>(value)));
    CHECK(duration_bucket(value) == expected(static_cast<double>(value) / 1000));
  }
}

TEST_CASE("shards are merged and retired shards stay counted", "[unit]") {
  Collector collector(options());
  Shard& first = collector.add_shard();
  Shard& second = collector.add_shard();
  complete(first, request(first));
  complete(second, request(second));
  complete(second, request(second));
  first.add(Counter::retries, 3);
  first.gauge_add(Gauge::connections_open, 2, Direction::inbound);
  second.gauge_add(Gauge::connections_open, -2, Direction::inbound);
  first.observe(Histogram::event_loop_lag, 150);
  for (int round = 0; round < 2; ++round) {
    const auto samples = read_samples(whole_text(collector.scrape()));
    CHECK(count_of(samples, "istio_requests_total") == 1);
    CHECK(sum_of(samples, "istio_requests_total") == 3);
    CHECK(sum_of(samples, "hoplite_requests_started_total") == 3);
    CHECK(sum_of(samples, "hoplite_requests_completed_total") == 3);
    CHECK(sum_of(samples, "hoplite_retries_total") == 3);
    CHECK(sum_of(samples, "hoplite_connections_open", {{"direction", "inbound"}}) == 0);
    CHECK(sum_of(samples, "hoplite_event_loop_lag_seconds_sum") == 0.00015);
    CHECK(sum_of(samples, "hoplite_event_loop_lag_seconds_bucket", {{"le", "0.0001"}}) == 0);
    CHECK(sum_of(samples, "hoplite_event_loop_lag_seconds_bucket", {{"le", "0.00025"}}) == 1);
    if (round == 0) collector.retire(first);
  }
  complete(second, request(second));
  Shard& third = collector.add_shard();
  complete(third, request(third));
  CHECK(sum_of(read_samples(whole_text(collector.scrape())), "istio_requests_total") == 5);
}

TEST_CASE("facts become increments", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  connection_opened(shard, Direction::inbound);
  connection_opened(shard, Direction::outbound);
  record(shard, ConnectionFacts{.direction = Direction::outbound, .duration_us = 5, .requests = 1});
  record(shard, HandshakeFacts{.direction = Direction::inbound,
                               .cause = HandshakeCause::unknown_ca,
                               .duration_us = 7});
  record(shard, HandshakeFacts{.cause = HandshakeCause::resumed, .duration_us = 2'000'000});
  record(shard, ConnectFacts{.outcome = ConnectOutcome::refused, .duration_us = 7});
  shard.add(Counter::upstream_requests, 2, ConnectionUse::reused);
  const RuleRef rule = collector.registry().intern_rule("only-frontend");
  shard.add_allowed(rule);
  shard.add_denied(rule, DenyMode::enforced);
  shard.add_denied(rule, DenyMode::audit);
  collector.count_reload(Reload::certificates, ReloadResult::rejected);
  collector.set_certificate_expiry(1'900'000'000);
  const auto samples = read_samples(whole_text(collector.scrape()));
  const auto is = [&](std::string_view name, const std::map<std::string, std::string>& labels) {
    return sum_of(samples, name, labels);
  };
  CHECK(is("hoplite_connections_accepted_total", {{"direction", "outbound"}}) == 1);
  CHECK(is("hoplite_connections_open", {{"direction", "inbound"}}) == 1);
  CHECK(is("hoplite_connections_open", {{"direction", "outbound"}}) == 0);
  CHECK(is("hoplite_connection_duration_seconds_count", {}) == 1);
  CHECK(is("hoplite_tls_handshakes_total", {{"direction", "inbound"}, {"cause", "unknown_ca"}}) ==
        1);
  CHECK(is("hoplite_tls_handshake_duration_seconds_sum", {}) == 2);
  CHECK(is("hoplite_upstream_connects_total", {{"outcome", "refused"}}) == 1);
  CHECK(is("hoplite_upstream_connect_duration_seconds_count", {}) == 0);
  CHECK(is("hoplite_upstream_requests_total", {{"connection", "reused"}}) == 2);
  CHECK(is("hoplite_requests_allowed_total", {{"rule", "only-frontend"}}) == 1);
  CHECK(is("hoplite_requests_denied_total", {{"rule", "only-frontend"}, {"mode", "enforced"}}) ==
        1);
  CHECK(is("hoplite_requests_denied_total", {{"rule", "only-frontend"}, {"mode", "audit"}}) == 1);
  CHECK(is("hoplite_reloads_total", {{"what", "certificates"}, {"result", "rejected"}}) == 1);
  CHECK(is("hoplite_certificate_expiry_timestamp_seconds", {}) == 1'900'000'000);
  CHECK(is("hoplite_build_info", {{"version", "0.1.0"}}) == 1);
  CHECK(is("istio_build", {{"component", "proxy"}, {"tag", "unknown"}}) == 1);
  CHECK(is("process_resident_memory_bytes", {}) > 1'000'000);
  CHECK(is("process_open_fds", {}) >= 3);
  CHECK(is("process_start_time_seconds", {}) > 1'500'000'000);
  CHECK(is("hoplite_workers", {}) == 1);
}

TEST_CASE("every family of the list is in a scrape, and hoplite_series counts the lines",
          "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  const RequestFacts facts = request(shard);
  complete(shard, facts);
  SeriesCache cache;
  record(shard, MessageFacts{.peer = facts.peer, .destination = facts.destination}, 0, cache);
  SeriesCache tcp_cache;
  record(shard, TcpFacts{.peer = facts.peer, .destination = facts.destination, .flags = {}},
         tcp_cache);
  collector.registry().intern_rule("r");
  collector.set_certificate_expiry(1);
  collector.set_dns_name("web.example", 2, std::chrono::system_clock::now());
  collector.set_dns_endpoints({{"web:80", 2}});
  const std::string text = whole_text(collector.scrape());
  const auto samples = read_samples(text);
  CHECK(sum_of(samples, "hoplite_series") == static_cast<double>(samples.size()));
  CHECK(sum_of(samples, "hoplite_label_sets") == 3);
  std::multiset<std::string> types;
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (line.starts_with("# TYPE ")) types.insert(line.substr(7, line.find(' ', 7) - 7));
  }
  for (const std::string_view name : metric_names()) {
    CAPTURE(name);
    CHECK(types.count(std::string(name)) == 1);
  }
  CHECK(types.size() == metric_names().size());
}

TEST_CASE("the streamed text equals the serializer's of all families at once", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  for (std::uint16_t code = 200; code < 300; ++code) {
    RequestFacts facts = request(shard);
    facts.response_code = code;
    complete(shard, facts);
  }
  const auto istio_only = [](const std::string& text) {
    return text.substr(0, text.find("# HELP hoplite_"));
  };
  const std::string whole = prometheus::TextSerializer().Serializer::Serialize(collector.Collect());
  const std::string streamed = whole_text(collector.scrape());
  CHECK(istio_only(whole).size() > 1'000'000);
  CHECK((istio_only(whole) == istio_only(streamed)));
}

TEST_CASE("a scrape of 1,000 label sets never holds more than a piece", "[unit]") {
  Collector collector(options());
  Shard& shard = collector.add_shard();
  RequestFacts facts = request(shard);
  for (std::uint16_t i = 0; i < 1000; ++i) {
    facts.response_code = i;
    complete(shard, facts);
  }
  Scrape scrape = collector.scrape();
  std::size_t total = 0;
  std::size_t largest = 0;
  std::string piece;
  while (scrape.next(piece)) {
    total += piece.size();
    largest = std::max(largest, piece.size());
    piece.clear();
  }
  CHECK(total > 40'000'000);
  // A piece and one label set of a histogram more: 22 lines.
  CHECK(largest < Scrape::kPieceBytes + 22 * 1200);
  CHECK(sizeof(Snapshot::Row) <= 640);
}

TEST_CASE("promtool finds nothing but names that Istio fixed", "[unit]") {
  if (access("/usr/bin/promtool", X_OK) != 0) {
    WARN("promtool is not installed");
    return;
  }
  Collector collector(options(5));
  Shard& shard = collector.add_shard();
  for (const std::string& name : {std::string("ok"), std::string("a\"b\\c\n"), std::string("\xFF"),
                                  std::string("\xED\xA0\x80"), std::string(10'000, 'x')}) {
    PeerLabels peer = client();
    peer.workload.workload = name;
    RequestFacts facts = request(shard);
    facts.peer = shard.intern_peer(peer);
    for (std::uint16_t code = 200; code < 203; ++code) {
      facts.response_code = code;
      complete(shard, facts);
    }
  }
  collector.registry().intern_rule("r");
  collector.set_certificate_expiry(1'900'000'000);
  char path[] = "/tmp/telemetry-promtool-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  const std::string text = whole_text(collector.scrape());
  REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  close(fd);
  const std::string command = std::string("/usr/bin/promtool check metrics < ") + path + " 2>&1";
  struct Close {
    void operator()(FILE* pipe) const noexcept { pclose(pipe); }
  };
  std::string said;
  {
    const std::unique_ptr<FILE, Close> pipe(popen(command.c_str(), "r"));
    REQUIRE(pipe);
    std::array<char, 4096> buffer{};
    while (const std::size_t n = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
      said.append(buffer.data(), n);
    }
  }
  unlink(path);
  std::istringstream lines(said);
  std::string line;
  while (std::getline(lines, line)) {
    CAPTURE(line);
    CHECK(line.starts_with("istio_request_duration_milliseconds "));
  }
}
