// Retries: what may be sent again, what is sent then, and what comes of the client's bytes.
// Not the retry budget by itself (unit_upstream).
#include "tests/unit/exchange/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: app\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

// Leaves one connection idle in the pool, used once.
TcpPeer& warm_up(ExchangeRig& rig) {
  auto& client = rig.connect();
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->take();
  upstream->send(kOk);
  REQUIRE(rig.until_records(1));
  REQUIRE(rig.until([&] { return client.has("hi"); }));
  return *upstream;
}

std::uint64_t retries(ExchangeRig& rig) {
  constexpr telemetry::CounterCell<> kCell(telemetry::Counter::retries);
  return rig.shard.counter(kCell.first);
}

}  // namespace

TEST_CASE("a request that lost the race with an idle timer is sent again, once", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.close();
  TcpPeer* fresh = rig.upstream("\r\n\r\n", 1);
  REQUIRE(fresh != nullptr);
  CHECK(fresh->received.starts_with("GET /a HTTP/1.1\r\n"));
  CHECK(fresh->has("x-envoy-attempt-count: 2"));
  fresh->send(kOk);
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 200);
  CHECK(rig.records().back().flags == "-");
  CHECK(retries(rig) == 1);
}

TEST_CASE("a fresh connection that closes is no race, and POST is never sent again", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n");
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.close();
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 503);
  CHECK(rig.records().back().flags == "UC");
  CHECK(rig.server().peers.size() == 1);
  CHECK(retries(rig) == 0);
}

TEST_CASE("a response that began is never asked for twice", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.send("HTTP/1.1 200");
  rig.fixture.settle();
  old.close();
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 503);
  CHECK(rig.server().peers.size() == 1);
}

TEST_CASE("after an interim response there is no retry", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.send("HTTP/1.1 100 Continue\r\n\r\n");
  REQUIRE(rig.until([&] { return client.has("100 Continue"); }));
  client.send("ab");
  REQUIRE(rig.until([&] { return old.has("ab"); }));
  old.close();
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 503);
  CHECK(rig.records().back().flags == "UC");
}

TEST_CASE("an expecting client's request is sent again before any answer to it", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.close();
  TcpPeer* fresh = rig.upstream("\r\n\r\n", 1);
  REQUIRE(fresh != nullptr);
  CHECK(fresh->has("Expect: 100-continue"));
  fresh->send("HTTP/1.1 100 Continue\r\n\r\n");
  REQUIRE(rig.until([&] { return client.has("100 Continue\r\n\r\n"); }));
  client.send("ab");
  REQUIRE(rig.until([&] { return fresh->received.ends_with("\r\n\r\nab"); }));
  fresh->send(kOk);
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 200);
}

TEST_CASE("a replay carries the body so far, the rest follows, trailers too", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  auto& client = rig.connect();
  const bool all_sent = GENERATE(false, true);
  INFO("all sent before " << all_sent);
  const std::string rest = "3\r\ndef\r\n0\r\nX-Sum: 7\r\n\r\n";
  client.send(
      "PUT / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
      "3\r\nabc\r\n");
  REQUIRE(rig.until([&] { return old.has("abc"); }));
  if (all_sent) {
    client.send(rest);
    REQUIRE(rig.until([&] { return old.has("X-Sum: 7\r\n\r\n"); }));
  }
  old.close();
  TcpPeer* fresh = rig.upstream("abc", 1);
  REQUIRE(fresh != nullptr);
  if (!all_sent) client.send(rest);
  REQUIRE(rig.until([&] { return fresh->has("0\r\nX-Sum: 7\r\n\r\n"); }));
  std::string body = fresh->received.substr(fresh->received.find("\r\n\r\n") + 4);
  CHECK(body.find("abc") != std::string::npos);
  CHECK(body.find("def") != std::string::npos);
  CHECK(body.find("abc") == body.rfind("abc"));
  CHECK(body.find("def") == body.rfind("def"));
  fresh->send(kOk);
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 200);
}

TEST_CASE("body that comes while a replay waits for its connection is not lost", "[unit]") {
  // More in all than is kept for replays: what waits must not push out what was sent before.
  ExchangeRig rig;
  rig.spec.max_connections = 2;
  TcpPeer& old = warm_up(rig);
  const std::string first(40'000, 'a');
  const std::string second(40'000, 'b');
  auto& client = rig.connect({.capacity = 256 * 1024});
  client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 80000\r\n\r\n" + first);
  REQUIRE(rig.until([&] {
    return old.received.ends_with(std::string(1000, 'a')) && old.received.size() > first.size();
  }));
  // Another request takes the one connection that is left, so that the retry has to wait.
  auto& other = rig.connect();
  other.send(kGet);
  TcpPeer* busy = rig.upstream("\r\n\r\n", 1);
  REQUIRE(busy != nullptr);
  auto& third = rig.connect();
  third.send(kGet);  // waits before it
  old.close();
  // The freed place goes to the third request; the retry waits behind it.
  TcpPeer* for_third = rig.upstream("\r\n\r\n", 2);
  REQUIRE(for_third != nullptr);
  client.send(second);
  rig.fixture.settle(5);
  busy->take();
  busy->send(kOk);
  REQUIRE(rig.until([&] { return busy->received.size() > 80'000; }));
  const std::string body = busy->received.substr(busy->received.find("\r\n\r\n") + 4);
  CHECK(body == first + second);
  busy->send(kOk);
  for_third->send(kOk);
  REQUIRE(rig.until_records(4));
  for (const Record& record : rig.records()) CHECK(record.code == 200);
}

TEST_CASE("an upload over the replay limit goes on, and is not retried", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  const std::string body(200'000, 'x');
  auto& client = rig.connect({.capacity = 512 * 1024});
  client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 200001\r\n\r\n" + body);
  REQUIRE(rig.until([&] { return old.received.size() > body.size(); }));
  old.close();
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 503);
  CHECK(rig.records().back().flags == "UC");
}

TEST_CASE("a refused endpoint is passed over, with any body and method", "[unit]") {
  ExchangeRig rig(2);
  rig.server(0).stop();
  const std::string body(GENERATE(std::size_t{0}, std::size_t{100}, std::size_t{150'000}), 'x');
  INFO(body.size());
  auto& client = rig.connect({.capacity = 512 * 1024});
  for (std::size_t i = 0; i < 2; ++i) {  // whichever endpoint comes first
    client.wire->take();
    client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: " + std::to_string(body.size()) +
                "\r\n\r\n" + body);
    TcpPeer* upstream = rig.upstream("\r\n\r\n", 0, 1);
    REQUIRE(upstream != nullptr);
    REQUIRE(rig.until([&] {
      return upstream->received.size() > body.size() + 20 &&
             upstream->received.ends_with("\r\n\r\n" + body);
    }));
    upstream->take();
    upstream->send(kOk);
    REQUIRE(rig.until_records(i + 1));
    CHECK(rig.records().back().code == 200);
    REQUIRE(rig.until([&] { return client.has("hi"); }));
  }
}

TEST_CASE("when all endpoints refuse, there is one answer", "[unit]") {
  ExchangeRig rig(3);
  for (auto& server : rig.servers) server->stop();
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.until_records(1));
  CHECK(rig.records().size() == 1);
  CHECK(rig.records().front().code == 503);
  CHECK(rig.records().front().flags == "UF");
  REQUIRE(rig.until([&] { return client.has("HTTP/1.1 503 "); }));
}

TEST_CASE("an answer that waited on a pooled connection is not taken for the next", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  old.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
  REQUIRE(rig.until([&] { return rig.open_upstream() == 0; }));
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 0\r\n\r\n");
  TcpPeer* fresh = rig.upstream("\r\n\r\n", 1);
  if (fresh != nullptr) fresh->send(kOk);
  REQUIRE(rig.until_records(2));
  CHECK_FALSE(client.has("evil"));
}

TEST_CASE("a client that leaves while its retry waits", "[unit]") {
  ExchangeRig rig;
  TcpPeer& old = warm_up(rig);
  rig.server().stop();
  TestServer silent(rig.fixture.loop);
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.until([&] { return old.has("\r\n\r\n"); }));
  old.close();
  client.wire->reset();
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().flags.find("DC") != std::string::npos);
  CHECK(rig.records().size() == 2);
}

TEST_CASE("the retry budget is given back", "[unit]") {
  ExchangeRig rig(2);
  rig.server(0).stop();
  rig.server(1).stop();
  auto& client = rig.connect();
  for (std::size_t i = 1; i <= 20; ++i) {
    client.send(kGet);
    REQUIRE(rig.until_records(i));
  }
  // Each of them had its retries: a budget that leaked would be used up after three.
  CHECK(retries(rig) == 40);
}
