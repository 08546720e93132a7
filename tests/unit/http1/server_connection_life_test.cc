// A ServerConnection's life: draining, limits, upgrades, giving up, memory between requests.
// Not its requests and answers (server_connection_test.cc).
#include "proxy/http1/server_connection.h"

#include "tests/support/catch.h"
#include "tests/unit/http1/server_rig.h"

namespace proxy::test {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

http::BodyLength known(std::uint64_t bytes) {
  return {http::BodyLength::Kind::known, bytes};
}

}  // namespace

TEST_CASE("draining", "[unit]") {
  ServerRig rig;
  const auto drain = [&] {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.connection->begin_drain();
  };
  SECTION("without a request yet: one may still come, for a second") {
    drain();
    rig.fixture.advance(std::chrono::milliseconds(500));
    CHECK_FALSE(rig.client->eof);
    rig.fixture.advance(std::chrono::milliseconds(600));
    CHECK(rig.client->eof);
  }
  SECTION("between requests: the next may be on its way") {
    rig.client->send(kGet);
    rig.request().reply(200, "x");
    rig.client->received.clear();
    drain();
    rig.fixture.advance(std::chrono::milliseconds(500));
    CHECK_FALSE(rig.client->eof);
    SECTION("it comes") {
      rig.client->send(kGet);
      rig.request().reply(200, "y");
      CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\ny");
      CHECK(rig.client->eof);
      rig.client->close();
    }
    SECTION("it does not") {
      rig.fixture.advance(std::chrono::milliseconds(600));
      CHECK(rig.client->eof);
    }
  }
  SECTION("before the head: said in it") {
    rig.client->send(kGet);
    drain();
    rig.request().reply(200, "x");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    CHECK(rig.client->eof);
    rig.client->close();
  }
  SECTION("after the head: closed soon after the response") {
    rig.client->send(kGet);
    rig.request().head(200, known(2));
    drain();
    rig.request().data("ab");
    rig.request().end();
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab");
    rig.fixture.advance(std::chrono::milliseconds(1100));
    CHECK(rig.client->eof);
  }
  CHECK(rig.closed());
}

TEST_CASE("limits of a connection's life", "[unit]") {
  http1::ServerConnectionOptions options;
  options.max_requests = 2;
  options.idle_timeout = std::chrono::seconds(5);
  ServerRig rig(options);
  SECTION("requests") {
    rig.client->send(kGet);
    rig.request().reply(200, "");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rig.client->send(kGet);
    rig.request().reply(200, "");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    CHECK(rig.client->eof);
  }
  SECTION("idle before the first request") {
    rig.fixture.advance(std::chrono::milliseconds(4000));
    CHECK_FALSE(rig.closed());
    rig.fixture.advance(std::chrono::milliseconds(1100));
    CHECK(rig.closed());
    CHECK(rig.handler.close_reason.code == Code::idle);
  }
  SECTION("idle between requests, not during one") {
    rig.client->send(kGet);
    rig.fixture.advance(std::chrono::seconds(60));
    CHECK_FALSE(rig.closed());
    rig.request().reply(200, "");
    rig.fixture.advance(std::chrono::seconds(6));
    CHECK(rig.closed());
    CHECK(rig.client->eof);
  }
}

TEST_CASE("without an idle time a connection waits for ever, also behind an early answer",
          "[unit]") {
  http1::ServerConnectionOptions options;
  options.idle_timeout = std::chrono::seconds(0);
  ServerRig rig(options);
  rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  rig.request().reply(200, "");
  rig.client->send("cde");
  rig.fixture.advance(std::chrono::seconds(60));
  CHECK_FALSE(rig.closed());
  CHECK_FALSE(rig.client->eof);
}

TEST_CASE("an upgrade becomes a tunnel with half-close", "[unit]") {
  ServerRig rig;
  rig.client->send(
      "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly");
  CHECK(rig.request().request.websocket);
  CHECK(rig.request().notes.ends == 0);
  SECTION("yes") {
    rig.request().upgrade("websocket");
    CHECK(rig.got() ==
          "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
          "websocket\r\n\r\n");
    CHECK(rig.request().notes.body == "early");
    rig.request().data("down");
    CHECK(rig.got() == "down");
    rig.client->send("up");
    CHECK(rig.request().notes.body == "earlyup");
    SECTION("the client first") {
      rig.client->shutdown();
      CHECK(rig.request().notes.ends == 1);
      CHECK(rig.request().dones == 0);
      rig.request().data("last");
      rig.request().end();
      CHECK(rig.got() == "last");
    }
    SECTION("the server first") {
      rig.request().end();
      CHECK(rig.client->eof);
      rig.client->send("more");
      CHECK(rig.request().notes.body == "earlyupmore");
      CHECK(rig.request().dones == 0);
      rig.client->shutdown();
    }
    CHECK(rig.request().dones == 1);
    CHECK(rig.closed());
  }
  SECTION("no") {
    TestRequest& request = rig.request();
    request.reply(403, "no");
    CHECK(request.notes.ends == 1);
    CHECK(request.dones == 1);
    CHECK(request.request_complete);
    CHECK(rig.handler.requests.size() == 2);  // "early" begins another one
    CHECK(rig.got() == "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
  }
}

TEST_CASE("a user that gives up before answering closes the connection", "[unit]") {
  ServerRig rig;
  rig.client->send(kGet);
  rig.request().reset(make_error(Code::overloaded, Side::local));
  CHECK(rig.client->gone());
  CHECK(rig.closed());
  CHECK(rig.request().notes.resets == 0);
}

TEST_CASE("the next request's memory is the last one's", "[unit]") {
  ServerRig rig;
  rig.handler.when_started = [](TestRequest& request) {
    request.when_end = [&request] { request.reply(200, "x"); };
  };
  for (int i = 0; i < 50; ++i) rig.client->send(kGet);
  CHECK(rig.handler.requests.size() == 50);
  CHECK(rig.fixture.leaked() == 0);  // an idle connection holds no chunk
}

}  // namespace proxy::test
