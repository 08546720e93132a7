// gRPC through an exchange: its labels, its replies, its deadline and its messages. Over HTTP/1,
// which an exchange can't tell from HTTP/2.
#include "telemetry/collector.h"
#include "tests/unit/exchange/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kAnswer =
    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n"
    "Trailer: grpc-status\r\n\r\n";

std::string chunk(std::string_view text) {
  return fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

std::string message(std::size_t size) {
  return std::string{'\0', '\0', '\0', static_cast<char>(size >> 8), static_cast<char>(size)} +
         std::string(size, 'm');
}

std::string call(std::string_view headers = "", std::string_view type = "application/grpc") {
  return fmt::format(
      "POST /grpc.health.v1.Health/Check HTTP/1.1\r\nHost: app\r\nContent-Type: {}\r\n"
      "TE: trailers\r\n{}Transfer-Encoding: chunked\r\n\r\n",
      type, headers);
}

struct Calls : ExchangeRig {
  // What the series of messages of this rig say: requests and responses.
  std::pair<std::uint64_t, std::uint64_t> messages() {
    std::pair<std::uint64_t, std::uint64_t> sums;
    for (std::size_t i = 0; i < shard.series_count(); ++i) {
      const telemetry::Series& series = shard.series(i);
      if (series.key.kind != telemetry::SeriesKind::messages) continue;
      const auto& cells = series.banks[0].cells;
      sums.first += cells[telemetry::kRequestMessagesCell].get();
      sums.second += cells[telemetry::kResponseMessagesCell].get();
    }
    return sums;
  }
  void check(unsigned code, std::string_view flags, std::string_view grpc) {
    REQUIRE(until_records(1));
    const Record last = records().back();
    CHECK(last.code == code);
    CHECK(last.flags == flags);
    INFO(last.line);
    CHECK((last.line.find(fmt::format("\"grpc_status\":{}", grpc)) != std::string::npos) ==
          !grpc.empty());
    CHECK((last.line.find("grpc_status") != std::string::npos) == !grpc.empty());
  }
};

using Counts = std::pair<std::uint64_t, std::uint64_t>;

}  // namespace

TEST_CASE("a call is counted with the status of its trailers and its messages", "[unit]") {
  Calls rig;
  auto& client = rig.connect();
  client.send(call());
  client.send(chunk(message(3).substr(0, 2)));
  client.send(chunk(message(3).substr(2) + message(300)));
  client.send("0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  upstream->send(std::string(kAnswer) + chunk(message(0) + message(9).substr(0, 6)));
  upstream->send(chunk(message(9).substr(6)) + "0\r\ngrpc-status: 5\r\n\r\n");
  rig.check(200, "-", "5");
  CHECK(rig.messages() == Counts{2, 2});
  CHECK(client.has("grpc-status: 5\r\n"));
}

TEST_CASE("what is not gRPC has no status and no messages", "[unit]") {
  const auto* type = GENERATE("application/grpc-web+proto", "application/json");
  Calls rig;
  auto& client = rig.connect();
  client.send(call("", type) + chunk(message(3)) + "0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 200 OK\r\ngrpc-status: 3\r\nContent-Length: 0\r\n\r\n");
  rig.check(200, "-", "");
  CHECK(rig.messages() == Counts{0, 0});
}

TEST_CASE("a status in the headers, or from the HTTP status", "[unit]") {
  struct Row {
    std::string_view answer;
    unsigned code;
    std::string_view status;
  };
  const Row row = GENERATE(values<Row>({
      {"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: 12\r\n"
       "Content-Length: 0\r\n\r\n",
       200, "12"},
      {"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n", 200, "2"},
      {"HTTP/1.1 200 OK\r\ngrpc-status: abc\r\nContent-Length: 0\r\n\r\n", 200, "-1"},
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nno such", 404, "12"},
      {"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n", 503, "14"},
  }));
  Calls rig;
  auto& client = rig.connect();
  client.send(call() + "0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  upstream->send(row.answer);
  rig.check(row.code, "-", row.status);
  CHECK(rig.messages() == Counts{0, 0});  // an error page is no message
}

TEST_CASE("our own answers to gRPC are gRPC", "[unit]") {
  Calls rig;
  SECTION("nobody listens") {
    rig.server().stop();
    auto& client = rig.connect();
    client.send(call() + "0\r\n\r\n");
    rig.check(200, "UF", "14");
    CHECK(client.has("HTTP/1.1 200 OK\r\n"));
    CHECK(client.has("content-type: application/grpc\r\n"));
    CHECK(client.has("grpc-status: 14\r\n"));
    CHECK(client.has("grpc-message: upstream connect error\r\n"));
    CHECK(client.has("Content-Length: 0\r\n"));
  }
  SECTION("the upstream leaves without a word") {
    auto& client = rig.connect();
    client.send(call() + "0\r\n\r\n");
    TcpPeer* upstream = rig.upstream("0\r\n\r\n");
    REQUIRE(upstream != nullptr);
    upstream->close();
    rig.check(200, "UC", "14");
    CHECK(client.has("grpc-status: 14\r\n"));
  }
  SECTION("the whole request takes too long") {
    rig.config.timeouts.request = 1s;
    auto& client = rig.connect();
    client.send(call() + "0\r\n\r\n");
    REQUIRE(rig.upstream("0\r\n\r\n") != nullptr);
    rig.fixture.advance(2s);
    rig.check(200, "UT", "4");
    CHECK(client.has("grpc-status: 4\r\n"));
  }
}

TEST_CASE("a client that leaves before the answer has no status", "[unit]") {
  Calls rig;
  auto& client = rig.connect();
  client.send(call() + chunk(message(3)));
  TcpPeer* upstream = rig.upstream(message(3));
  REQUIRE(upstream != nullptr);
  client.wire->reset();
  rig.check(0, "DC", "");
  CHECK(rig.messages() == Counts{1, 0});
  REQUIRE(rig.until([&] { return upstream->gone(); }));
}

TEST_CASE("a deadline is enforced 50 ms after it passed", "[unit]") {
  Calls rig;
  auto& client = rig.connect();
  const std::uint64_t began_us = rig.fixture.loop.precise_now_us();
  client.send(call("grpc-timeout: 10S\r\n") + chunk(message(1)) + "0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  // Real time goes on, too: only a fast machine can tell what happens within the 50 ms.
  const auto still_in_time = [&] {
    return rig.fixture.loop.precise_now_us() - began_us < 10'050'000;
  };
  SECTION("by a reply") {
    rig.fixture.advance(10'000ms);
    const auto live = rig.pool.live();
    if (still_in_time()) CHECK(live == 1);
    rig.fixture.advance(51ms);
    rig.check(200, "UT", "4");
    CHECK(rig.records().back().details == "grpc_deadline_exceeded");
    CHECK(client.has("grpc-status: 4\r\n"));
    CHECK(client.has("grpc-message: deadline exceeded\r\n"));
    REQUIRE(rig.until([&] { return upstream->gone(); }));  // it is told at once
    CHECK(rig.counter(telemetry::Counter::timeouts, telemetry::Timeout::grpc_deadline) == 1);
  }
  SECTION("not when the server answers within these") {
    rig.fixture.advance(10'000ms);
    upstream->send(std::string(kAnswer) + "0\r\ngrpc-status: 4\r\n\r\n");
    REQUIRE(rig.until([&] { return rig.pool.live() == 0; }));
    if (still_in_time()) {
      rig.check(200, "-", "4");
      rig.fixture.advance(100ms);
      CHECK(rig.counter(telemetry::Counter::timeouts, telemetry::Timeout::grpc_deadline) == 0);
    }
  }
  SECTION("by trailers when the response has begun") {
    upstream->send(std::string(kAnswer) + chunk(message(2)));
    REQUIRE(rig.until([&] { return client.has(message(2)); }));
    rig.fixture.advance(10'051ms);
    rig.check(200, "UT", "4");
    CHECK(client.has("0\r\ngrpc-status: 4\r\ngrpc-message: deadline exceeded\r\n\r\n"));
    CHECK(rig.messages() == Counts{1, 1});
    REQUIRE(rig.until([&] { return upstream->gone(); }));
  }
  SECTION("by a cut when the response has a length") {
    upstream->send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    REQUIRE(rig.until([&] { return client.has("half"); }));
    rig.fixture.advance(10'051ms);
    rig.check(200, "UT", "2");
    REQUIRE(rig.until([&] { return client.gone(); }));
  }
}

TEST_CASE("a malformed deadline is none", "[unit]") {
  Calls rig;
  auto& client = rig.connect();
  client.send(call("grpc-timeout: 1ms\r\n") + "0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  CHECK(upstream->has("grpc-timeout: 1ms\r\n"));
  rig.fixture.advance(30s);
  CHECK(rig.pool.live() == 1);
  upstream->send(std::string(kAnswer) + "0\r\ngrpc-status: 0\r\n\r\n");
  rig.check(200, "-", "0");
}

TEST_CASE("messages are told of every 5 s while the stream lives", "[unit]") {
  Calls rig;
  auto& client = rig.connect();
  client.send(call() + chunk(message(1) + message(2)));
  TcpPeer* upstream = rig.upstream(message(2));
  REQUIRE(upstream != nullptr);
  upstream->send(std::string(kAnswer) + chunk(message(0)));
  REQUIRE(rig.until([&] { return client.has(message(0)); }));
  CHECK(rig.messages() == Counts{0, 0});
  rig.fixture.advance(5001ms);
  CHECK(rig.messages() == Counts{2, 1});
  client.send(chunk(message(7)));
  REQUIRE(rig.until([&] { return upstream->has(message(7)); }));
  CHECK(rig.messages() == Counts{2, 1});
  rig.fixture.advance(5001ms);
  CHECK(rig.messages() == Counts{3, 1});
  upstream->send("0\r\ngrpc-status: 0\r\n\r\n");
  rig.check(200, "-", "0");
  CHECK(rig.messages() == Counts{3, 1});
}

TEST_CASE("a silent stream is a watch; one that is held up is not", "[unit]") {
  Calls rig;
  rig.config.timeouts.body_idle = 60s;
  rig.config.timeouts.tunnel_idle = 600s;
  const bool held_up = GENERATE(false, true);
  INFO("held up " << held_up);
  auto& client = rig.connect({.capacity = 1024});
  client.send(call() + chunk(message(1)) + "0\r\n\r\n");
  TcpPeer* upstream = rig.upstream("0\r\n\r\n");
  REQUIRE(upstream != nullptr);
  client.wire->pause(held_up);
  upstream->send(std::string(kAnswer) + chunk(message(3000)));
  REQUIRE(rig.until([&] {
    return held_up ? client.wire->transport().unread() == 1024 : client.has(message(3000));
  }));
  rig.fixture.settle(10);
  rig.fixture.advance(59s);
  CHECK(rig.pool.live() == 1);
  rig.fixture.advance(2s);
  if (!held_up) {
    CHECK(rig.pool.live() == 1);
    rig.fixture.advance(600s);
  }
  rig.check(200, "SI", "2");
}
