// Bodies under credit: bounded memory both ways, early answers, replies while a body comes.
// Not the codec's own credit (unit_http1).
#include "proxy/http1/client_connection.h"
#include "tests/support/stream_users.h"
#include "tests/unit/exchange/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: app\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

}  // namespace

TEST_CASE("a large body passes both ways, byte for byte", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  std::string body;
  for (int i = 0; body.size() < 3'000'000; ++i) body += std::to_string(i) + ",";
  const std::string length = std::to_string(body.size());
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: " + length + "\r\n\r\n" + body);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  REQUIRE(rig.until([&] { return upstream->received.size() > body.size(); }));
  REQUIRE(rig.until([&] { return upstream->received.ends_with("\r\n\r\n" + body); }));
  upstream->send("HTTP/1.1 200 OK\r\nContent-Length: " + length + "\r\n\r\n" + body);
  REQUIRE(rig.until_records(1));
  REQUIRE(rig.until([&] { return client.wire->received.ends_with("\r\n\r\n" + body); }));
  CHECK(rig.records().front().code == 200);
}

TEST_CASE("a slow upstream holds the client, not memory", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 30000000\r\n\r\n");
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  upstream->pause(true);
  const std::size_t before = rig.fixture.loop.chunks().outstanding();
  for (int i = 0; i < 30; ++i) client.send(std::string(1'000'000, 'x'));
  rig.fixture.settle(100);
  // The pipe itself holds what the test has sent; the exchange no more than its window.
  CHECK(client.wire->transport().unsent() > 5'000'000);
  const std::size_t of_test = client.wire->transport().unsent() / 16'000 * 2 + 40;
  CHECK(rig.fixture.loop.chunks().outstanding() - before < of_test + 100);
  upstream->pause(false);
  REQUIRE(rig.until([&] { return upstream->received.size() > 30'000'000; }));
  upstream->send(kOk);
  REQUIRE(rig.until_records(1));
}

TEST_CASE("one-byte pieces of a body that waits pin no chunk each", "[unit]") {
  ExchangeRig rig;
  rig.spec.max_connections = 1;
  auto& first = rig.connect();
  first.send(kGet);
  TcpPeer* upstream = rig.upstream();
  REQUIRE(upstream != nullptr);
  auto& client = rig.connect({.capacity = 64 * 1024, .piece = 1});
  client.send("PUT / HTTP/1.1\r\nHost: app\r\nContent-Length: 2000\r\n\r\n");
  const std::size_t before = rig.fixture.loop.chunks().outstanding();
  // Each piece comes in a chunk of its own, as it does where many connections take turns.
  for (int i = 0; i < 1000; ++i) {
    client.send("x");
    rig.fixture.loop.chunks().get(16'000).reset();
  }
  rig.fixture.settle(20);
  CHECK(rig.fixture.loop.chunks().outstanding() - before < 40);
  client.send(std::string(1000, 'y'));
  upstream->take();
  upstream->send(kOk);
  REQUIRE(rig.until([&] {
    return upstream->received.ends_with(std::string(1000, 'x') + std::string(1000, 'y'));
  }));
  upstream->send(kOk);
  REQUIRE(rig.until_records(2));
}

TEST_CASE("an early answer reaches the client, whatever it still sends", "[unit]") {
  const bool slow_upstream = GENERATE(false, true);
  const std::size_t more = GENERATE(std::size_t{0}, std::size_t{500'000});
  INFO("slow " << slow_upstream << " more " << more);
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 1000000\r\n\r\nstart");
  TcpPeer* upstream = rig.upstream("start");
  REQUIRE(upstream != nullptr);
  if (slow_upstream) upstream->pause(true);
  if (more > 0) client.send(std::string(more, 'x'));
  upstream->send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
  REQUIRE(rig.until_records(1));
  REQUIRE(rig.until([&] { return client.has("\r\n\r\nno"); }));
  CHECK(rig.records().front().code == 413);
  CHECK(rig.records().front().flags == "-");
  REQUIRE(rig.until([&] { return rig.open_upstream() == 0; }));
}

TEST_CASE("an early answer's head does not stop the upload", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 10\r\n\r\n12345");
  TcpPeer* upstream = rig.upstream("12345");
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
  REQUIRE(rig.until([&] { return client.has("hi"); }));
  client.send("67890");
  REQUIRE(rig.until([&] { return upstream->has("1234567890"); }));
  upstream->send("0\r\n\r\n");
  REQUIRE(rig.until_records(1));
  CHECK(rig.records().front().code == 200);
  REQUIRE(rig.until([&] { return client.has("0\r\n\r\n"); }));
  CHECK_FALSE(client.gone());
}

TEST_CASE("a server that has answered and never reads the rest of its request is cut off",
          "[unit]") {
  LoopFixture fixture;
  TestClientOwner owner;
  TestResponse response(fixture.loop);
  auto [ours, theirs] = PipeTransport::make(fixture.loop, {.capacity = 16});
  std::unique_ptr<http1::ClientConnection> connection;
  owner.when_closed = [&](http::ClientConnection&) { fixture.loop.reap(std::move(connection)); };
  {
    const net::Loop::Turn turn(fixture.loop);
    connection = std::make_unique<http1::ClientConnection>(std::move(ours), owner,
                                                           http1::ClientConnectionOptions{});
    connection->start();
  }
  PipePeer server(std::move(theirs));
  server.pause(true);
  {
    const net::Loop::Turn turn(fixture.loop);
    connection->open_stream(response);
    response.request("GET", "/");
    response.end();
  }
  server.send(kOk.substr(0, 16));
  server.send(kOk.substr(16, 16));
  server.send(kOk.substr(32));
  CHECK(response.notes.ends == 1);
  CHECK(owner.available == 0);  // not while the request is still on its way out
  fixture.advance(9s);
  CHECK(owner.closed == 0);
  fixture.advance(2s);
  CHECK(owner.closed == 1);
}

TEST_CASE("the answer to a denied request does not wait for its body", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.refusal = make_error(Code::untrusted_peer, Side::downstream);
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\n12345");
  REQUIRE(rig.until([&] { return client.has("HTTP/1.1 403 "); }));
  CHECK(rig.records().size() == 1);
  client.send(std::string(99'995, 'x'));
  REQUIRE(rig.until([&] { return client.gone(); }));
  CHECK(rig.records().size() == 1);
  CHECK(rig.server().peers.empty());
}

TEST_CASE("a body that waits for a connection is taken back when there is none", "[unit]") {
  ExchangeRig rig;
  rig.server().stop();
  auto& client = rig.connect();
  client.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 60000\r\n\r\n" +
              std::string(60'000, 'x') + std::string(kGet));
  REQUIRE(rig.until_records(2));  // the connection went on to the next request
  for (const Record& record : rig.records()) CHECK(record.flags == "UF");
}

TEST_CASE("pipelined requests are answered in order", "[unit]") {
  ExchangeRig rig;
  auto& client = rig.connect();
  client.send(
      "GET /1 HTTP/1.1\r\nHost: app\r\n\r\nGET /2 HTTP/1.1\r\nHost: app\r\n\r\n"
      "GET /3 HTTP/1.1\r\nHost: app\r\n\r\n");
  for (int i = 1; i <= 3; ++i) {
    TcpPeer* upstream = rig.upstream("GET /" + std::to_string(i) + " ");
    REQUIRE(upstream != nullptr);
    CHECK_FALSE(upstream->has("GET /" + std::to_string(i + 1)));
    upstream->send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + std::to_string(i));
    REQUIRE(rig.until_records(static_cast<std::size_t>(i)));
  }
  CHECK(rig.server().peers.size() == 1);
  REQUIRE(rig.until([&] { return client.wire->received.ends_with("\r\n\r\n3"); }));
}
