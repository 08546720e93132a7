// The ring, the lines, the writer thread.
#include "telemetry/access_log.h"

#include "telemetry/protobuf_struct.h"  // before other protobuf headers

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "telemetry/collector.h"
#include "tests/support/catch.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace telemetry;
using namespace telemetry::testing;

namespace {

RequestFacts request() {
  RequestFacts facts;
  facts.response_code = 200;
  facts.start_unix_us = 1'700'000'000'123'456;
  facts.duration_us = 12'345;
  facts.upstream_us = 9'007;
  facts.request_bytes = 77;
  facts.response_bytes = 1'000;
  facts.method = "GET";
  facts.authority = "server:80";
  facts.path = "/a?b=c";
  facts.protocol_text = "HTTP/1.1";
  facts.upstream_address = "127.0.0.1:9898";
  facts.request_id = "11111111-2222-4333-8444-555555555555";
  facts.peer_principal = "spiffe://cluster.local/ns/shop/sa/client";
  return facts;
}

std::string line_of(const RequestFacts& facts, LineFormat format) {
  std::string line;
  format_line(facts, format, line);
  return line;
}

bool is_json_object(const std::string& text, google::protobuf::Struct& object) {
  return google::protobuf::util::JsonStringToMessage(text, &object).ok();
}

// A file without a name.
class TempFile {
 public:
  TempFile() {
    char path[] = "/tmp/telemetry-access-XXXXXX";
    fd_ = mkstemp(path);
    unlink(path);
  }
  ~TempFile() { close(fd_); }
  int fd() const { return fd_; }
  std::vector<std::string> lines() const {
    std::string text;
    char buffer[65536];
    for (off_t at = 0;;) {
      const ssize_t n = pread(fd_, buffer, sizeof buffer, at);
      if (n <= 0) break;
      text.append(buffer, static_cast<std::size_t>(n));
      at += n;
    }
    std::vector<std::string> lines;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    return lines;
  }

 private:
  int fd_ = -1;
};

}  // namespace

TEST_CASE("a line is one JSON object with the request's facts", "[unit]") {
  const std::string line = line_of(request(), LineFormat::json);
  CHECK(
      line ==
      "{\"start\":\"2023-11-14T22:13:20.123456Z\",\"reporter\":\"destination\",\"method\":\"GET\","
      "\"authority\":\"server:80\",\"path\":\"/a?b=c\",\"protocol\":\"HTTP/1.1\",\"code\":200,"
      "\"flags\":\"-\",\"details\":\"\",\"bytes_received\":77,\"bytes_sent\":1000,"
      "\"duration_ms\":12.345,\"upstream_ms\":9.007,\"first_byte_ms\":null,"
      "\"peer_principal\":\"spiffe://cluster.local/ns/shop/sa/client\","
      "\"upstream_address\":\"127.0.0.1:9898\","
      "\"request_id\":\"11111111-2222-4333-8444-555555555555\"}\n");
  RequestFacts traced = request();
  traced.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  traced.flags = Flags{Flag::uf} | Flag::urx;
  const std::string with_trace = line_of(traced, LineFormat::json);
  CHECK(with_trace.find("\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\"") != std::string::npos);
  CHECK(with_trace.find("\"flags\":\"UF,URX\"") != std::string::npos);
}

TEST_CASE("any bytes in a request give a line that a JSON parser takes", "[unit]") {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  RequestFacts facts = request();
  facts.path = all;
  facts.authority = "\xED\xA0\x80\xF0\x9F\x98";
  facts.method = "\"},{\"x\":\"";
  const std::string line = line_of(facts, LineFormat::json);
  CHECK(std::count(line.begin(), line.end(), '\n') == 1);
  google::protobuf::Struct object;
  REQUIRE(is_json_object(line, object));
  CHECK(object.fields().at("method").string_value() == "\"},{\"x\":\"");
  CHECK(object.fields().at("code").number_value() == 200);
  CHECK(object.fields().size() == 17);
  const std::string text = line_of(facts, LineFormat::text);
  CHECK(std::count(text.begin(), text.end(), '\n') == 1);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("the ring gives back what it took, in order, also around its end", "[unit]") {
  AccessRing ring(1500);
  std::string storage;
  RequestFacts got;
  CHECK_FALSE(ring.pop(ring.pushed(), got, storage));
  for (int i = 0; i < 1000; ++i) {
    RequestFacts facts = request();
    const std::string path = "/" + std::string(static_cast<std::size_t>(i % 97), 'p');
    facts.path = path;
    facts.duration_us = static_cast<std::uint64_t>(i);
    REQUIRE(ring.push(facts));
    REQUIRE(ring.push(facts));
    for (int twice = 0; twice < 2; ++twice) {
      REQUIRE(ring.pop(ring.pushed(), got, storage));
      CHECK(got.path == path);
      CHECK(got.duration_us == static_cast<std::uint64_t>(i));
      CHECK(got.peer_principal == request().peer_principal);
    }
    REQUIRE_FALSE(ring.pop(ring.pushed(), got, storage));
  }
}

TEST_CASE("a full ring refuses whole records and long fields are cut", "[unit]") {
  AccessRing ring(20'000);
  std::string storage;
  RequestFacts got;
  RequestFacts facts = request();
  const std::string path(100'000, 'p');
  facts.path = path;
  REQUIRE(ring.push(facts));
  REQUIRE(ring.push(facts));
  CHECK_FALSE(ring.half_full());
  REQUIRE(ring.push(facts));
  CHECK(ring.half_full());
  REQUIRE(ring.push(facts));
  REQUIRE_FALSE(ring.push(facts));
  for (int i = 0; i < 4; ++i) {
    REQUIRE(ring.pop(ring.pushed(), got, storage));
    CHECK(got.path.size() == AccessRing::kMaxFieldBytes);
    CHECK(got.peer_principal == request().peer_principal);
  }
  CHECK(ring.push(facts));
}

TEST_CASE("modes choose the lines", "[unit]") {
  Collector collector(Collector::Options{});
  Shard& shard = collector.add_shard();
  TempFile file;
  AccessLog log({.mode = AccessMode::errors, .fd = file.fd()});
  auto& producer = log.add_producer(shard);
  RequestFacts facts = request();
  producer.push(facts);
  facts.response_code = 503;
  producer.push(facts);
  facts.response_code = 0;
  producer.push(facts);
  facts.response_code = 200;
  facts.flags = Flag::dc;
  producer.push(facts);
  log.flush();
  CHECK(file.lines().size() == 3);
  log.set_mode(AccessMode::off);
  producer.push(facts);
  log.set_mode(AccessMode::all);
  log.set_format(LineFormat::text);
  producer.push(request());
  log.flush();
  REQUIRE(file.lines().size() == 4);
  CHECK(file.lines().back().starts_with("2023-11-14T22:13:20.123456Z destination GET server:80 "));
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "hoplite_access_log_lines_total") == 4);
  CHECK(sum_of(samples, "hoplite_access_log_dropped_total") == 0);
}

TEST_CASE("lines of several workers arrive whole and each once", "[unit]") {
  Collector collector(Collector::Options{});
  TempFile file;
  constexpr std::size_t kWorkers = 2;
  constexpr int kLines = 20'000;
  {
    AccessLog log({.mode = AccessMode::all, .fd = file.fd(), .ring_bytes = 64 * 1024});
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kWorkers; ++i) {
      auto& producer = log.add_producer(collector.add_shard());
      threads.emplace_back([&producer, i] {
        RequestFacts facts = request();
        facts.upstream_address = i == 0 ? "one" : "two";
        for (int n = 0; n < kLines; ++n) {
          facts.duration_us = static_cast<std::uint64_t>(n);
          producer.push(facts);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  const auto samples = read_samples(whole_text(collector.scrape()));
  const double written = sum_of(samples, "hoplite_access_log_lines_total");
  const double dropped = sum_of(samples, "hoplite_access_log_dropped_total");
  CHECK(written + dropped == static_cast<double>(kWorkers) * kLines);
  const auto lines = file.lines();
  CHECK(static_cast<double>(lines.size()) == written);
  for (const std::string& line : lines) {
    if (!line.starts_with("{\"start\"") || !line.ends_with("}")) FAIL_CHECK(line);
  }
}

TEST_CASE("a reader that stops reading costs lines, not the worker nor the end", "[unit]") {
  Collector collector(Collector::Options{});
  Shard& shard = collector.add_shard();
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const auto begin = std::chrono::steady_clock::now();
  {
    AccessLog log({.mode = AccessMode::all, .fd = ends[1], .ring_bytes = 16 * 1024});
    auto& producer = log.add_producer(shard);
    for (int i = 0; i < 100'000; ++i) producer.push(request());
  }
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::minutes(2));
  close(ends[0]);
  close(ends[1]);
  const auto samples = read_samples(whole_text(collector.scrape()));
  CHECK(sum_of(samples, "hoplite_access_log_dropped_total") > 90'000);
  CHECK(sum_of(samples, "hoplite_access_log_dropped_total") +
            sum_of(samples, "hoplite_access_log_lines_total") ==
        100'000);
}
