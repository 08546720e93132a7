// Upgraded connections: bytes, half-closes in both orders, cuts, idle time.
// Not raw TCP (unit_tunnel).
#include "tests/unit/exchange/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

constexpr std::string_view kUpgrade =
    "GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
constexpr std::string_view kSwitch =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

struct Tunnel : ExchangeRig {
  Tunnel() {
    config.timeouts.tunnel_idle = 3600s;
    config.timeouts.body_idle = 60s;
  }
  void open() {
    client = &connect();
    client->send(kUpgrade);
    far = upstream();
    REQUIRE(far != nullptr);
    far->send(kSwitch);
    REQUIRE(until([&] { return client->has("101 Switching Protocols\r\n"); }));
    client->send("ping");
    REQUIRE(until([&] { return far->received.ends_with("\r\n\r\nping"); }));
    far->send("pong");
    REQUIRE(until([&] { return client->wire->received.ends_with("\r\n\r\npong"); }));
    CHECK(records().empty());
  }
  void check(unsigned code, std::string_view flags) {
    REQUIRE(until([&] { return pool.live() == 0; }));
    const auto all = records();
    REQUIRE(all.size() == 1);
    CHECK(all[0].code == code);
    CHECK(all[0].flags == flags);
    REQUIRE(until([&] { return open_upstream() == 0; }));
  }
  Client* client = nullptr;
  TcpPeer* far = nullptr;
};

}  // namespace

TEST_CASE("a tunnel carries the client's half-close first", "[unit]") {
  Tunnel t;
  t.open();
  t.client->send("bye");
  t.client->wire->shutdown();
  REQUIRE(t.until([&] { return t.far->eof; }));
  CHECK(t.far->received.ends_with("pingbye"));
  t.far->send("late words");
  REQUIRE(t.until([&] { return t.client->wire->received.ends_with("ponglate words"); }));
  CHECK(t.pool.live() == 1);
  t.far->close();
  REQUIRE(t.until([&] { return t.client->wire->eof; }));
  t.check(101, "-");
}

TEST_CASE("a tunnel carries the server's half-close first", "[unit]") {
  Tunnel t;
  t.open();
  t.far->send("bye");
  t.far->shutdown();
  REQUIRE(t.until([&] { return t.client->wire->eof; }));
  CHECK(t.client->wire->received.ends_with("pongbye"));
  const std::string large(300'000, 'x');
  t.client->send(large);
  REQUIRE(t.until([&] { return t.far->received.ends_with("ping" + large); }));
  CHECK(t.pool.live() == 1);
  t.client->wire->shutdown();
  REQUIRE(t.until([&] { return t.far->eof; }));
  t.check(101, "-");
}

TEST_CASE("a tunnel's last bytes reach a server that is slow to read", "[unit]") {
  Tunnel t;
  t.open();
  t.far->shutdown();
  REQUIRE(t.until([&] { return t.client->wire->eof; }));
  t.far->pause(true);
  const std::string large(40'000, 'x');
  t.client->send(large);
  t.client->wire->close();
  REQUIRE(t.until([&] { return t.pool.live() == 0; }));
  t.far->pause(false);
  REQUIRE(t.until([&] { return t.far->eof; }));
  CHECK(t.far->received.ends_with("ping" + large));
  t.check(101, "-");
}

TEST_CASE("a tunnel that is reset on one side is reset on the other", "[unit]") {
  Tunnel t;
  t.open();
  SECTION("by the client") {
    t.client->wire->reset();
    REQUIRE(t.until([&] { return t.far->closed; }));
    t.check(101, "DC");
  }
  SECTION("by the server") {
    t.far->reset();
    REQUIRE(t.until([&] { return t.client->wire->closed; }));
    t.check(101, "UC");
  }
}

TEST_CASE("a silent tunnel ends by its own idle time, half-closed or not", "[unit]") {
  const int half = GENERATE(0, 1, 2);
  INFO("half-closed by " << half);
  Tunnel t;
  t.config.timeouts.tunnel_idle = 600s;
  t.open();
  if (half == 1) {
    t.client->wire->shutdown();
    REQUIRE(t.until([&] { return t.far->eof; }));
  } else if (half == 2) {
    t.far->shutdown();
    REQUIRE(t.until([&] { return t.client->wire->eof; }));
  }
  t.fixture.advance(599s);
  CHECK(t.pool.live() == 1);
  t.fixture.advance(2s);
  t.check(101, "SI");
}

TEST_CASE("the request timeout ends with the switch of protocols", "[unit]") {
  Tunnel t;
  t.config.timeouts.request = 15s;
  t.open();
  t.fixture.advance(100s);
  CHECK(t.pool.live() == 1);
  t.client->wire->close();
  REQUIRE(t.until([&] { return t.far->eof; }));
  t.far->close();
  t.check(101, "-");
}

TEST_CASE("an upgrade that is refused is an ordinary exchange", "[unit]") {
  Tunnel t;
  auto& client = t.connect();
  client.send(kUpgrade);
  TcpPeer* upstream = t.upstream();
  REQUIRE(upstream != nullptr);
  upstream->send("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno");
  REQUIRE(t.until_records(1));
  CHECK(t.records().front().code == 400);
  CHECK_FALSE(client.gone());
  upstream->take();
  client.send("GET / HTTP/1.1\r\nHost: app\r\n\r\n");
  REQUIRE(t.until([&] { return t.server().last().has("\r\n\r\n"); }));
  t.server().last().send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
  REQUIRE(t.until_records(2));
}
