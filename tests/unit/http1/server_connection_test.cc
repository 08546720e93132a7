// ServerConnection over a pipe: order, persistence, early answers, refusals, closing.
// Not the parser, and not a pair of codecs (tests/conformance).
#include "proxy/http1/server_connection.h"

#include "proxy/http/reply.h"
#include "tests/support/catch.h"
#include "tests/support/hostile_requests.h"
#include "tests/unit/http1/server_rig.h"

namespace proxy::test {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr http::BodyLength kUnknown{http::BodyLength::Kind::unknown, 0};

http::BodyLength known(std::uint64_t bytes) {
  return {http::BodyLength::Kind::known, bytes};
}

void refuse_politely(TestRequest& request) {
  request.when_refused = [&request] {
    const http::Reply reply = http::make_reply(request.notes.why);
    request.reply(reply.head.status, reply.body);
  };
}

}  // namespace

TEST_CASE("a request starts with its first byte", "[unit]") {
  ServerRig rig;
  rig.client->send("\r\n");
  CHECK(rig.handler.requests.empty());
  rig.client->send("G");
  REQUIRE(rig.handler.requests.size() == 1);
  CHECK(rig.request().notes.heads.empty());
  CHECK_FALSE(rig.connection->idle());
  rig.client->send("ET / HTTP/1.1\r\nHost: a\r\n\r\n");
  CHECK(rig.request().notes.heads == std::vector<std::string>{"GET / a"});
  CHECK(rig.request().notes.ends == 1);
  rig.request().reply(200, "hi", {{"X-A", "b"}});
  CHECK(rig.got() == "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: 2\r\n\r\nhi");
  CHECK(rig.request().dones == 1);
  CHECK(rig.request().request_complete);
  CHECK(rig.request().notes.sent == 2);
  CHECK(rig.request().notes.wire.received == kGet.size());
  CHECK(rig.request().notes.wire.sent > 50);
  CHECK(rig.connection->idle());
}

TEST_CASE("a response without Date gets one, one with Date keeps its own", "[unit]") {
  ServerRig rig;
  rig.client->send(kGet);
  rig.request().reply(204, "");
  const std::string first = rig.client->take();
  CHECK(first.find("\r\nDate: ") != std::string::npos);
  CHECK(first.find(" GMT\r\n") != std::string::npos);
  rig.client->send(kGet);
  rig.request().reply(204, "", {{"date", "today"}});
  CHECK(rig.client->take() == "HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n");
}

TEST_CASE("pipelined requests are answered in order, one at a time", "[unit]") {
  ServerRig rig;
  rig.client->send(std::string(kGet) +
                   "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab" +
                   std::string(kGet));
  REQUIRE(rig.handler.requests.size() == 1);
  rig.request().reply(200, "1");
  REQUIRE(rig.handler.requests.size() == 2);
  CHECK(rig.request().notes.body == "ab");
  rig.request().reply(200, "2");
  REQUIRE(rig.handler.requests.size() == 3);
  rig.request().reply(200, "3");
  CHECK(rig.got() ==
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2"
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n3");
}

TEST_CASE("pipelined bytes wait in bounded memory", "[unit]") {
  ServerRig rig({}, {.capacity = 4096, .piece = 1000});
  std::string many;
  for (int i = 0; i < 5000; ++i) many += kGet;
  rig.client->send(many);
  CHECK(rig.handler.requests.size() == 1);
  CHECK_FALSE(rig.wire->reading());
  CHECK(rig.fixture.loop.chunks().outstanding_bytes() < many.size() + 200'000);
  rig.handler.when_started = [](TestRequest& request) {
    request.when_end = [&request] { request.reply(200, ""); };
  };
  rig.request().reply(200, "");
  CHECK(rig.handler.requests.size() == 5000);
  CHECK(rig.request().dones == 1);
  CHECK(rig.handler.requests.front()->dones == 1);
}

TEST_CASE("Connection: close is honoured and said", "[unit]") {
  ServerRig rig;
  rig.client->send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  rig.request().reply(200, "x");
  CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
  CHECK(rig.client->eof);
  CHECK(rig.closed());
}

TEST_CASE("HTTP/1.0 clients", "[unit]") {
  ServerRig rig;
  SECTION("close by default, and never chunked") {
    rig.client->send("GET / HTTP/1.0\r\n\r\n");
    rig.request().inform(103);
    rig.request().head(200, kUnknown);
    rig.request().data("all");
    rig.request().end();
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall");
    CHECK(rig.client->eof);
  }
  SECTION("keep-alive when asked") {
    rig.client->send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    rig.request().reply(200, "x");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\nx");
    CHECK_FALSE(rig.client->gone());
    rig.client->send("GET / HTTP/1.0\r\n\r\n");
    CHECK(rig.handler.requests.size() == 2);
  }
  SECTION("a cut until-close body is a reset") {
    rig.client->send("GET / HTTP/1.0\r\n\r\n");
    rig.request().head(200, kUnknown);
    rig.request().data("half");
    rig.request().reset(make_error(Code::upstream_truncated, Side::upstream));
    CHECK(rig.client->closed);
    CHECK_FALSE(rig.client->eof);
  }
}

TEST_CASE("bodies with no length are chunked, one chunk a turn", "[unit]") {
  ServerRig rig;
  rig.client->send(kGet);
  {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.request().head(200, kUnknown, {{"X", "y"}});
    rig.request().data("ab");
    rig.request().data("cd");
  }
  CHECK(rig.got() == "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n");
  CHECK(rig.request().notes.sent == 4);
  rig.request().end({{"T", "1"}});
  CHECK(rig.got() == "0\r\nT: 1\r\n\r\n");
  CHECK(rig.request().dones == 1);
}

TEST_CASE("answers without a body", "[unit]") {
  ServerRig rig;
  SECTION("HEAD keeps the declared length and drops a body") {
    rig.client->send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.request().head(200, known(5));
    rig.request().data("hello");
    rig.request().end();
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    CHECK(rig.request().notes.sent == 5);
  }
  SECTION("204 says nothing of length") {
    rig.client->send(kGet);
    rig.request().reply(204, "");
    CHECK(rig.got() == "HTTP/1.1 204 No Content\r\n\r\n");
  }
  SECTION("200 without a body says 0") {
    rig.client->send(kGet);
    rig.request().reply(200, "");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  }
  CHECK(rig.request().dones == 1);
  CHECK(rig.connection->idle());
}

TEST_CASE("a body shorter or longer than promised is a cut", "[unit]") {
  ServerRig rig;
  rig.client->send(kGet);
  rig.request().head(200, known(5));
  SECTION("shorter") {
    rig.request().data("hell");
  }
  SECTION("longer") {
    rig.request().data("hello!");
  }
  rig.request().end();
  CHECK(rig.request().notes.resets == 1);
  CHECK(rig.client->gone());
  CHECK(rig.closed());
  CHECK(rig.got().find("hello!") == std::string::npos);
}

TEST_CASE("1xx and 100-continue", "[unit]") {
  ServerRig rig;
  rig.client->send(
      "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  CHECK(rig.request().request.expect_continue);
  SECTION("passed on") {
    rig.request().inform(103, {{"Link", "</x>"}});
    rig.request().inform(100);
    CHECK(rig.got() ==
          "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n");
    rig.client->send("ab");
    rig.request().reply(200, "");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(rig.connection->idle());
  }
  SECTION("a final answer instead closes") {
    rig.request().reply(403, "no");
    CHECK(rig.got() ==
          "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
    CHECK(rig.request().dones == 1);
    CHECK_FALSE(rig.request().request_complete);
    CHECK(rig.client->eof);
    CHECK_FALSE(rig.client->closed);
    rig.client->close();
    CHECK(rig.closed());
  }
}

TEST_CASE("an early answer: a short rest is thrown away, a long one ends the connection",
          "[unit]") {
  ServerRig rig;
  SECTION("short") {
    rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    rig.request().reply(200, "x");
    CHECK(rig.request().dones == 1);
    CHECK_FALSE(rig.request().request_complete);
    rig.client->send("defghij" + std::string(kGet));
    CHECK(rig.handler.requests.size() == 2);
    CHECK(rig.handler.requests[0]->notes.body == "abc");
  }
  SECTION("chunked") {
    rig.client->send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    rig.request().reply(200, "x");
    rig.client->send("2\r\nde\r\n0\r\n\r\n" + std::string(kGet));
    CHECK(rig.handler.requests.size() == 2);
  }
  SECTION("long") {
    rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    rig.request().reply(200, "x");
    CHECK(rig.client->eof);
    rig.client->send(std::string(200'000, 'x'));
    CHECK_FALSE(rig.client->closed);
    CHECK_FALSE(rig.closed());
    rig.client->close();
    CHECK(rig.closed());
  }
  SECTION("never") {
    rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    rig.request().reply(200, "x");
    rig.fixture.advance(std::chrono::seconds(3));
    CHECK(rig.closed());
  }
}

TEST_CASE("a refused request is answered once, and the connection closed", "[unit]") {
  for (const HostileRequest& hostile : kHostileRequests) {
    CAPTURE(hostile.name);
    ServerRig rig;
    rig.handler.when_started = refuse_politely;
    rig.client->send(std::string(hostile.raw) + std::string(kGet));
    REQUIRE(rig.handler.requests.size() == 1);
    CHECK(rig.request().refusals == 1);
    CHECK(rig.request().dones == 1);
    CHECK(rig.request().notes.ends == 0);
    const std::string got = rig.got();
    CHECK(got.starts_with("HTTP/1.1 " + std::to_string(hostile.status) + " "));
    CHECK(got.find("Connection: close\r\n") != std::string::npos);
    CHECK(rig.client->eof);
    CHECK_FALSE(rig.client->closed);  // no RST before the client has read it
  }
}

TEST_CASE("an answer before the head is complete (408) closes", "[unit]") {
  ServerRig rig;
  rig.client->send("GET / HT");
  rig.request().reply(408, "slow");
  CHECK(rig.got() ==
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\nConnection: close\r\n\r\nslow");
  CHECK(rig.client->eof);
  CHECK(rig.request().dones == 1);
  rig.client->send("TP/1.1\r\nHost: a\r\n\r\n");
  CHECK(rig.handler.requests.size() == 1);
}

TEST_CASE("backpressure on the request body", "[unit]") {
  ServerRig rig({}, {.capacity = 8192, .piece = 4096});
  rig.handler.when_started = [](TestRequest& request) { request.auto_consume = false; };
  rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n" +
                   std::string(300'000, 'x'));
  CHECK(rig.request().notes.owed >= 64 * 1024);
  CHECK(rig.request().notes.owed <= 64 * 1024 + 4096);
  CHECK_FALSE(rig.wire->reading());
  int rounds = 0;
  while (rig.request().notes.ends == 0 && ++rounds < 1000) {
    rig.request().consume(std::min<std::size_t>(rig.request().notes.owed, 1000));
  }
  CHECK(rig.request().notes.body.size() == 300'000);
  CHECK(rig.request().notes.ends == 1);
}

TEST_CASE("backpressure on the response: on_sent follows what left", "[unit]") {
  ServerRig rig({}, {.capacity = 1000});
  rig.client->pause(true);
  rig.client->send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  rig.request().head(200, kUnknown);
  rig.request().data(std::string(10'000, 'x'));
  CHECK(rig.request().notes.sent < 1000);
  CHECK(rig.request().notes.sent > 800);
  rig.request().end();
  CHECK(rig.request().dones == 0);
  rig.client->pause(false);
  CHECK(rig.request().notes.sent == 10'000);
  CHECK(rig.request().dones == 1);
}

TEST_CASE("the client goes away", "[unit]") {
  ServerRig rig;
  SECTION("idle") {
    rig.client->close();
  }
  SECTION("in the head") {
    rig.client->send("GET / HT");
    rig.client->close();
    CHECK(rig.request().notes.resets == 1);
    CHECK(rig.request().notes.why.code == Code::downstream_closed);
  }
  SECTION("in the body") {
    rig.client->send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    rig.client->shutdown();
    CHECK(rig.request().notes.resets == 1);
    CHECK(rig.request().notes.body == "abc");
  }
  SECTION("by reset while it waits") {
    rig.client->send(kGet);
    rig.client->reset();
    CHECK(rig.request().notes.resets == 1);
    CHECK(rig.request().notes.why.code == Code::downstream_closed);
  }
  CHECK(rig.closed());
}

TEST_CASE("a half-close after the request", "[unit]") {
  http1::ServerConnectionOptions options;
  SECTION("gets its answer") {
    ServerRig rig(options);
    rig.client->send(kGet);
    rig.client->shutdown();
    CHECK(rig.request().notes.resets == 0);
    rig.request().reply(200, "x");
    CHECK(rig.got() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
    CHECK(rig.closed());
  }
  SECTION("is taken for gone when the answer does not begin in time") {
    ServerRig rig(options);
    rig.client->send(kGet);
    rig.client->shutdown();
    CHECK(rig.request().notes.resets == 0);
    rig.fixture.advance(std::chrono::milliseconds(600));
    CHECK(rig.request().notes.resets == 1);
    CHECK(rig.request().notes.why.code == Code::downstream_closed);
    CHECK(rig.closed());
  }
  SECTION("is taken for gone at once when so configured") {
    options.half_close_grace = {};
    ServerRig rig(options);
    rig.client->send(kGet);
    rig.client->shutdown();
    CHECK(rig.request().notes.resets == 1);
    CHECK(rig.closed());
  }
  SECTION("pipelined requests before it are served") {
    ServerRig rig(options);
    rig.client->send(std::string(kGet) + std::string(kGet));
    rig.client->shutdown();
    rig.request().reply(200, "1");
    CHECK(rig.handler.requests.size() == 2);
    rig.request().reply(200, "2");
    CHECK(rig.closed());
  }
}

}  // namespace proxy::test
