// Pools of HTTP/2 connections: how many streams a peer grants, and what becomes of who waits for
// one. Not the codec's own slots: tests/unit/http2/client_connection_test.cc.
#include "tests/unit/http2/frames.h"
#include "tests/unit/upstream/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;
using upstream::Codec;

namespace {

constexpr unsigned kStreams = 3;   // SETTINGS_MAX_CONCURRENT_STREAMS
constexpr unsigned kUpgrades = 8;  // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 3)
const std::string kNoStreams = settings({{kStreams, 0}});
const std::string kOk = block({{":status", "200"}});

struct H2Rig : ClusterRig {
  // Asks `count` times more.
  void ask(std::size_t count) {
    for (; count > 0; --count) {
      callers.push_back(std::make_unique<Caller>(*this));
      REQUIRE(callers.back()->ask(0, Codec::http2));
    }
  }
  // The server's side of the connection that came as number `at`, once it has begun to speak.
  TcpPeer& peer(std::size_t at) {
    REQUIRE(until([&] {
      return servers[0]->peers.size() > at && servers[0]->peers[at]->received.size() > 24;
    }));
    return *servers[0]->peers[at];
  }
  std::size_t ready() const {
    return static_cast<std::size_t>(
        std::count_if(callers.begin(), callers.end(), [](auto& c) { return c->ready(); }));
  }
  std::size_t failed(Code code) const {
    return static_cast<std::size_t>(std::count_if(callers.begin(), callers.end(), [&](auto& c) {
      return c->failures == 1 && c->why.code == code;
    }));
  }
  // One connection without a stream, and its peer grants none.
  TcpPeer& make_barren(const std::string& at_first = settings()) {
    make();
    ask(1);
    TcpPeer& server = peer(0);
    server.send(at_first + headers(1, kOk));
    REQUIRE(until([&] { return callers[0]->response.notes.ends == 1; }));
    callers.clear();
    server.take();
    server.send(kNoStreams);
    REQUIRE(until([&] { return server.received.size() >= http2::kFrameHeader; }));  // acknowledged
    server.take();
    return server;
  }

  std::vector<std::unique_ptr<Caller>> callers;
};

}  // namespace

TEST_CASE("a peer that grants no streams fails who waits, in the time of a connect", "[unit]") {
  H2Rig rig;
  rig.make();
  rig.ask(5);
  rig.peer(0).send(kNoStreams);
  // The first request went ahead of the settings. For the others one more connection is tried.
  TcpPeer& second = rig.peer(1);
  CHECK(rig.ready() == 1);
  if (GENERATE(true, false)) {
    second.send(kNoStreams);
    rig.fixture.settle(5);
  }
  rig.fixture.advance(rig.spec.connect.connect_timeout - 1s);
  CHECK(rig.failed(Code::connect_timeout) == 0);
  rig.fixture.advance(2s);
  CHECK(rig.failed(Code::connect_timeout) == 4);
  CHECK(rig.callers[0]->failures == 0);
  CHECK(rig.callers[0]->response.notes.resets == 0);
  CHECK(rig.accepted() == 2);
  CHECK_FALSE(second.has(block({{":path", "/"}})));
  REQUIRE(rig.until([&] { return second.gone(); }));
}

TEST_CASE("streams that are granted late are used", "[unit]") {
  H2Rig rig;
  rig.make();
  rig.ask(5);
  rig.peer(0).send(kNoStreams);
  TcpPeer& second = rig.peer(1);
  second.send(kNoStreams);
  rig.fixture.settle(5);
  CHECK(rig.ready() == 1);
  second.send(settings({{kStreams, 3}}));
  REQUIRE(rig.until([&] { return rig.ready() == 4; }));
  // The limit is known by now: one connection more for the fifth.
  REQUIRE(rig.until([&] { return rig.ready() == 5; }));
  CHECK(rig.accepted() == 3);
}

TEST_CASE("streams that are taken back, and granted again", "[unit]") {
  H2Rig rig;
  TcpPeer& server = rig.make_barren();
  rig.ask(2);
  rig.fixture.settle(5);
  CHECK(rig.ready() == 0);
  // To say it again prolongs nothing.
  rig.fixture.advance(rig.spec.connect.connect_timeout - 1s);
  server.send(kNoStreams);
  REQUIRE(rig.until([&] { return server.received.size() >= http2::kFrameHeader; }));
  SECTION("in time") {
    server.send(settings({{kStreams, 10}}));
    REQUIRE(rig.until([&] { return rig.ready() == 2; }));
    rig.fixture.advance(2s);
    CHECK(rig.ready() == 2);
    CHECK(rig.open() == 1);
  }
  SECTION("too late") {
    rig.fixture.advance(2s);
    CHECK(rig.failed(Code::connect_timeout) == 2);
  }
  CHECK(rig.accepted() == 1);
}

TEST_CASE("a connection without streams is no place that HTTP/1 lacks", "[unit]") {
  H2Rig rig;
  rig.spec.max_connections = 1;
  rig.make_barren();
  rig.ask(1);
  Caller other(rig);
  REQUIRE(other.ask(0, Codec::http1));
  REQUIRE(rig.until([&] { return other.ready(); }));
  CHECK(rig.open() == 1);
  CHECK(rig.ready() == 0);
  TcpPeer& served = rig.peer(1);
  REQUIRE(rig.until([&] { return served.has("\r\n\r\n"); }));
  other.finish(served);
  // Its place is free for HTTP/2 again.
  rig.peer(2).send(settings());
  REQUIRE(rig.until([&] { return rig.ready() == 1; }));
}

TEST_CASE("who waits for streams to be granted is counted as pending", "[unit]") {
  H2Rig rig;
  rig.spec.max_pending = 2;
  rig.make_barren();
  rig.ask(2);
  Caller refused(rig);
  CHECK_FALSE(refused.ask(0, Codec::http2));
  CHECK(refused.why.code == Code::overloaded);
  CHECK(rig.pending_refused() == 1);
}

TEST_CASE("connections that end before they serve anybody are not opened for ever", "[unit]") {
  H2Rig rig;
  TcpPeer& server = rig.make_barren();
  rig.ask(3);
  server.close();
  rig.peer(1).close();
  REQUIRE(rig.until([&] { return rig.failed(Code::connect_failed) == 3; }));
  rig.fixture.settle(5);
  CHECK(rig.accepted() == 2);
  CHECK(rig.open() == 0);
}

TEST_CASE("a GOAWAY together with the settings sends who waits to another connection", "[unit]") {
  H2Rig rig;
  rig.make();
  rig.ask(3);
  rig.peer(0).send(settings() + goaway(1, ErrorCode::no_error));
  rig.peer(1).send(settings());
  REQUIRE(rig.until([&] { return rig.ready() == 3; }));
  CHECK(rig.accepted() == 2);
}

// Closing it for that would be the second time, or while it is still used.
TEST_CASE("at the limit, an upgrade goes on in the place of the connection that takes none",
          "[unit]") {
  H2Rig rig;
  rig.spec.max_connections = 1;
  const bool barren = GENERATE(false, true);
  if (barren) {
    rig.make_barren(settings({{kUpgrades, 1}})).close();
    REQUIRE(rig.until([&] { return rig.open() == 0; }));
  } else {
    rig.make();
  }
  Caller upgrade(rig);
  upgrade.upgrade = true;
  REQUIRE(upgrade.ask(0, Codec::http2));
  TcpPeer& server = rig.peer(barren ? 1 : 0);
  SECTION("by its settings") {
    server.send(settings());
  }
  SECTION("and no requests either") {
    server.send(kNoStreams);
  }
  SECTION("by its end, without a word") {
    server.close();
  }
  REQUIRE(rig.until([&] { return upgrade.ready(); }));
  CHECK(rig.open() == 1);
  upgrade.finish(rig.peer(barren ? 2 : 1));
  // It was counted out once: there is a place, and only one.
  Caller other(rig);
  REQUIRE(other.ask(0, Codec::http1));
  CHECK(other.ready());
  rig.ask(1);
  rig.fixture.settle(5);
  CHECK(rig.open() == 1);
  CHECK(rig.ready() == 0);
  CHECK(upgrade.failures == 0);
}

TEST_CASE("a place that comes free while a connection is looked for", "[unit]") {
  ClusterRig rig(2);
  rig.spec.max_connections = 3;
  rig.spec.max_age = 60s;
  rig.spec.idle_timeout = 0s;
  rig.make();
  std::vector<std::unique_ptr<Caller>> waiting;
  const auto ask = [&] {
    waiting.push_back(std::make_unique<Caller>(rig));
    REQUIRE(waiting.back()->ask(0, Codec::http2));
  };
  // Two idle connections to the second endpoint, which get too old.
  {
    Caller one(rig);
    Caller other(rig);
    REQUIRE(one.ask(1));
    REQUIRE(other.ask(1));
    REQUIRE(rig.until([&] { return one.ready() && other.ready(); }));
    REQUIRE(rig.until([&] { return rig.servers[1]->peers.size() == 2; }));
    for (const auto& peer : rig.servers[1]->peers) peer->send(Caller::kOk);
    REQUIRE(
        rig.until([&] { return one.response.notes.ends == 1 && other.response.notes.ends == 1; }));
  }
  rig.fixture.settle();
  rig.fixture.advance(61s);
  // The first endpoint grants no streams to more requests than one connection is hoped to take.
  ask();
  REQUIRE(rig.until([&] { return rig.servers[0]->peers.size() == 1; }));
  rig.servers[0]->last().send(kNoStreams);
  REQUIRE(rig.until([&] { return rig.servers[0]->last().received.size() > 24; }));
  rig.servers[0]->last().send(headers(1, kOk));
  REQUIRE(rig.until([&] { return waiting[0]->response.notes.ends == 1; }));
  rig.fixture.settle();
  for (int i = 0; i < 103; ++i) ask();
  Caller retry(rig);
  waiting[1]->when_failed = [&] { CHECK(retry.ask(1)); };
  rig.fixture.advance(rig.spec.connect.connect_timeout + 1s);
  CHECK(waiting[1]->failures == 1);
  CHECK(rig.open() <= 3);
  REQUIRE(rig.until([&] { return retry.ready(); }));
}
