// Every ending once: who ends it, how and when; one record each, the right code, nothing left.
// Not retries or bodies in detail (retry_test.cc, body_test.cc).
#include "tests/unit/exchange/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

enum class How : std::uint8_t { close, reset, stall };
enum class When : std::uint8_t { before_head, in_head, in_body, after_end };

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: app\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

struct Row {
  How how;
  When when;
  std::size_t records;
  unsigned code;
  std::string_view flags;
};

std::string describe(const Row& row) {
  constexpr std::array<std::string_view, 3> kHow{"close", "reset", "stall"};
  constexpr std::array<std::string_view, 4> kWhen{"before head", "in head", "in body", "after end"};
  return std::string(kHow[static_cast<std::size_t>(row.how)]) + " " +
         std::string(kWhen[static_cast<std::size_t>(row.when)]);
}

void check_records(ExchangeRig& rig, const Row& row) {
  const auto records = rig.records();
  REQUIRE(records.size() == row.records);
  CHECK(rig.started() == row.records);
  CHECK(rig.pool.live() == 0);
  if (row.records == 0) return;
  CHECK(records.front().code == row.code);
  CHECK(records.front().flags == row.flags);
}

void end_client(ExchangeRig::Client& client, How how) {
  if (how == How::close) client.wire->close();
  if (how == How::reset) client.wire->reset();
}

}  // namespace

TEST_CASE("every ending once: the client", "[unit]") {
  const Row row = GENERATE(values<Row>({
      {How::close, When::before_head, 0, 0, ""},
      {How::reset, When::before_head, 0, 0, ""},
      {How::stall, When::before_head, 0, 0, ""},
      {How::close, When::in_head, 1, 0, "DC"},
      {How::reset, When::in_head, 1, 0, "DC"},
      {How::stall, When::in_head, 1, 408, "-"},
      {How::close, When::in_body, 1, 0, "DC"},
      {How::reset, When::in_body, 1, 0, "DC"},
      {How::stall, When::in_body, 1, 408, "SI"},
      {How::reset, When::after_end, 1, 0, "DC"},
  }));
  INFO(describe(row));
  ExchangeRig rig;
  rig.config.timeouts.header = 10s;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect();
  switch (row.when) {
    case When::before_head:
      break;
    case When::in_head:
      client.send("GET / HTTP/1.1\r\nHo");
      break;
    case When::in_body:
      client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\n12345");
      REQUIRE(rig.upstream("12345") != nullptr);
      break;
    case When::after_end:
      client.send(kGet);
      REQUIRE(rig.upstream() != nullptr);
      break;
  }
  end_client(client, row.how);
  if (row.how == How::stall) rig.fixture.advance(76s);
  REQUIRE(rig.until([&] { return rig.pool.live() == 0 && client.connection == nullptr; }));
  if (row.how == How::stall && row.records == 1) {
    CHECK(client.has("HTTP/1.1 408 "));
  }
  check_records(rig, row);
}

TEST_CASE("a client that half-closes after its request gets the response", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  client.wire->shutdown();
  upstream->send(kOk);
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(client.has("\r\n\r\nhi"));
  check_records(rig, {How::close, When::after_end, 1, 200, "-"});
}

TEST_CASE("a client that does not take its response is cut off in time", "[unit]") {
  // In the body, and after its end has come from upstream: both wait for the client alone.
  const bool complete = GENERATE(false, true);
  INFO("complete " << complete);
  ExchangeRig rig;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect({.capacity = 1024});
  client.wire->pause(true);
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" +
                 std::string(complete ? 20000 : 19999, 'x'));
  REQUIRE(rig.until([&] { return client.wire->transport().unread() == 1024; }));
  rig.fixture.settle(10);
  rig.fixture.advance(59s);
  CHECK(rig.pool.live() == 1);
  rig.fixture.advance(2s);
  REQUIRE(rig.until([&] { return rig.pool.live() == 0; }));
  check_records(rig, {How::stall, When::after_end, 1, 200, "SI"});
  client.wire->pause(false);
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(client.wire->received.size() < 19'000);  // it can tell
}

TEST_CASE("every ending once: the upstream", "[unit]") {
  const Row row = GENERATE(values<Row>({
      {How::close, When::before_head, 1, 503, "UC"},
      {How::reset, When::before_head, 1, 503, "UC"},
      {How::stall, When::before_head, 1, 504, "UT"},
      {How::close, When::in_head, 1, 503, "UC"},
      {How::reset, When::in_head, 1, 503, "UC"},
      {How::stall, When::in_head, 1, 504, "UT"},
      {How::close, When::in_body, 1, 200, "UC"},
      {How::reset, When::in_body, 1, 200, "UC"},
      {How::stall, When::in_body, 1, 200, "SI"},
      {How::close, When::after_end, 1, 200, "-"},
      {How::reset, When::after_end, 1, 200, "-"},
      {How::stall, When::after_end, 1, 200, "-"},
  }));
  const bool chunked = GENERATE(false, true);
  INFO(describe(row) << (chunked ? ", chunked" : ""));
  ExchangeRig rig;
  const bool in_body = row.when == When::in_body;
  rig.config.timeouts.request = in_body ? 0s : 30s;
  rig.config.timeouts.body_idle = in_body ? 20s : 60s;
  auto& client = rig.connect();
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  const std::string head = chunked ? "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                                   : "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
  switch (row.when) {
    case When::before_head:
      break;
    case When::in_head:
      upstream->send("HTTP/1.1 200 OK\r\nContent-Le");
      break;
    case When::in_body:
      upstream->send(head + (chunked ? "2\r\nhi\r\n" : "hi"));
      REQUIRE(rig.until([&] { return client.has("hi"); }));
      break;
    case When::after_end:
      upstream->send(head + (chunked ? "2\r\nhi\r\n0\r\n\r\n" : "hihi"));
      REQUIRE(rig.until_records(1));
      break;
  }
  if (row.how == How::close) upstream->close();
  if (row.how == How::reset) upstream->reset();
  if (row.how == How::stall) rig.fixture.advance(31s);
  REQUIRE(rig.until([&] { return rig.pool.live() == 0; }));
  check_records(rig, row);
  if (row.code >= 500) {
    CHECK(client.has("HTTP/1.1 " + std::to_string(row.code) + " "));
    CHECK_FALSE(client.gone());  // the proxy's own answer does not cost the connection
  }
  if (row.when == When::in_body) {
    REQUIRE(rig.until([&] { return client.gone(); }));
    CHECK_FALSE(client.has("0\r\n\r\n"));
    CHECK_FALSE(client.has("hihi"));
  }
  if (row.when == When::after_end && row.how != How::stall) {
    REQUIRE(rig.until([&] { return rig.open_upstream() == 0; }));
  }
}

TEST_CASE("an upstream that says nothing is given up without a request timeout, too", "[unit]") {
  ExchangeRig rig;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.upstream() != nullptr);
  rig.fixture.advance(61s);
  REQUIRE(rig.until_records(1));
  check_records(rig, {How::stall, When::before_head, 1, 504, "SI"});
  CHECK(client.has("HTTP/1.1 504 "));
}

TEST_CASE("an answer that cannot be read costs 502 and its connection", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nhi");
  REQUIRE(rig.until_records(1));
  check_records(rig, {How::close, When::in_head, 1, 502, "UPE"});
  REQUIRE(rig.until([&] { return rig.open_upstream() == 0 && client.has("502"); }));
}

TEST_CASE("a refused request is answered once, whatever follows", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(client.wire->received.starts_with("HTTP/1.1 400 "));
  check_records(rig, {How::close, When::in_head, 1, 400, "DPE"});
  CHECK(rig.server().peers.empty());
}

TEST_CASE("why a request was refused is said, too, when its client leaves early", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect({.capacity = 32});
  client.wire->pause(true);  // the answer can't leave
  client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
  rig.fixture.settle(10);
  CHECK(rig.pool.live() == 1);
  client.wire->reset();
  REQUIRE(rig.until([&] { return rig.pool.live() == 0; }));
  const auto records = rig.records();
  REQUIRE(records.size() == 1);
  CHECK(records.front().code == 400);
  CHECK(records.front().line.find("\"flags\":\"DC,DPE\"") != std::string::npos);
  CHECK(records.front().details == "bad_request:repeated_host");
}

TEST_CASE("a body that turns out malformed ends the attempt, and the client is told", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  TcpPeer* upstream = rig.upstream("abc");
  REQUIRE(upstream != nullptr);
  client.send("zz\r\n");
  REQUIRE(rig.until([&] { return client.gone() && upstream->gone(); }));
  CHECK(client.wire->received.starts_with("HTTP/1.1 400 "));
  CHECK_FALSE(upstream->has("0\r\n\r\n"));
  check_records(rig, {How::close, When::in_body, 1, 400, "DPE"});
}

TEST_CASE("an answer that was given outlives a body that turns out malformed", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.refusal = make_error(Code::untrusted_peer, Side::downstream);
  client.send("POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(client.wire->received.starts_with("HTTP/1.1 403 "));
  CHECK(client.has("not trusted any more"));
  REQUIRE(rig.records().size() == 1);
  CHECK(rig.records().front().code == 403);
}

TEST_CASE("a head that comes after its 408 is not served", "[unit]") {
  ExchangeRig rig;
  rig.config.timeouts.header = 10s;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect({.capacity = 32});
  client.wire->pause(true);  // the answer can't leave
  client.send("GET / HTTP/1.1\r\nHo");
  rig.fixture.advance(11s);
  CHECK(rig.pool.live() == 1);
  client.send("st: app\r\n\r\n");
  rig.fixture.settle(10);
  CHECK(rig.server().peers.empty());
  client.wire->pause(false);
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(client.wire->received.starts_with("HTTP/1.1 408 "));
  check_records(rig, {How::stall, When::in_head, 1, 408, "-"});
}

TEST_CASE("two deadlines in one tick give one answer", "[unit]") {
  ExchangeRig rig;
  rig.config.timeouts.request = 60s;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\n");
  REQUIRE(rig.upstream() != nullptr);
  rig.fixture.advance(61s);
  REQUIRE(rig.until_records(1));
  const auto records = rig.records();
  REQUIRE(records.size() == 1);
  CHECK(((records[0].code == 504 && records[0].flags == "UT") ||
         (records[0].code == 408 && records[0].flags == "SI")));
  CHECK(client.has("HTTP/1.1 " + std::to_string(records[0].code)));
}

TEST_CASE("two deadlines in one tick cut a response once", "[unit]") {
  ExchangeRig rig;
  rig.config.timeouts.request = 60s;
  rig.config.timeouts.body_idle = 60s;
  auto& client = rig.connect();
  client.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi");
  REQUIRE(rig.until([&] { return client.has("hi"); }));
  rig.fixture.advance(61s);
  REQUIRE(rig.until_records(1));
  CHECK(rig.records().size() == 1);
  CHECK(rig.pool.live() == 0);
}

TEST_CASE("a client that leaves while its request waits for a connection", "[unit]") {
  ExchangeRig rig;
  rig.spec.max_connections = 1;
  auto& first = rig.connect();
  auto& second = rig.connect();
  first.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  second.send(kGet);
  CHECK(rig.pool.live() == 2);
  second.wire->reset();
  REQUIRE(rig.until_records(1));
  CHECK(rig.records().front().flags == "DC");
  upstream->send(kOk);
  REQUIRE(rig.until_records(2));
  CHECK(rig.records().back().code == 200);
  CHECK(rig.open_upstream() == 1);
}

TEST_CASE("interim responses pass, and the metadata in them does not", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->send(
      "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nx-envoy-peer-metadata-id: me\r\n\r\n"
      "HTTP/1.1 100 Continue\r\n\r\n");
  REQUIRE(rig.until([&] { return client.has("100 Continue\r\n\r\n"); }));
  CHECK(client.has("103 Early Hints"));
  CHECK(client.has("Link: </a>"));
  CHECK_FALSE(client.has("x-envoy-peer-metadata"));
  client.send("ab");
  REQUIRE(rig.until([&] { return upstream->has("ab"); }));
  upstream->send(kOk);
  REQUIRE(rig.until_records(1));
  check_records(rig, {How::close, When::after_end, 1, 200, "-"});
  CHECK_FALSE(client.gone());
}

TEST_CASE("no endpoint, refused connections and too many waiting", "[unit]") {
  SECTION("no endpoint") {
    ExchangeRig rig(0);
    auto& client = rig.connect();
    client.send(kGet);
    REQUIRE(rig.until_records(1));
    check_records(rig, {How::close, When::before_head, 1, 503, "UH"});
    CHECK(client.has("x-request-id: "));
  }
  SECTION("refused") {
    ExchangeRig rig;
    rig.server().stop();
    auto& client = rig.connect();
    client.send(kGet);
    REQUIRE(rig.until_records(1));
    check_records(rig, {How::close, When::before_head, 1, 503, "UF"});
    CHECK(client.has("x-request-id: "));
  }
  SECTION("too many") {
    ExchangeRig rig;
    rig.spec.max_connections = 1;
    rig.spec.max_pending = 0;
    rig.connect().send(kGet);
    REQUIRE(rig.upstream() != nullptr);
    auto& second = rig.connect();
    second.send(kGet);
    REQUIRE(rig.until_records(1));
    CHECK(rig.records().front().code == 503);
    CHECK(rig.records().front().flags == "UO");
  }
}

TEST_CASE("a drain deadline ends what is left, counted once", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send(kGet);
  REQUIRE(rig.upstream() != nullptr);
  {
    const net::Loop::Turn turn(rig.fixture.loop);
    client.connection->abort(make_error(Code::drain_deadline, Side::local));
  }
  CHECK(rig.completed() == 1);
  CHECK(rig.pool.live() == 0);
}
