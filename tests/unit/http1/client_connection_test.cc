// ClientConnection over a pipe: what is written, what is believed, what may be replayed.
// Not the parser, and not a pair of codecs (tests/conformance).
#include "proxy/http1/client_connection.h"

#include <memory>

#include "tests/support/catch.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/stream_users.h"

namespace proxy::test {
namespace {

constexpr http::BodyLength kUnknown{http::BodyLength::Kind::unknown, 0};

http::BodyLength known(std::uint64_t bytes) {
  return {http::BodyLength::Kind::known, bytes};
}

struct ClientRig {
  explicit ClientRig(PipeOptions pipe = {}) {
    auto [ours, theirs] = PipeTransport::make(fixture.loop, pipe);
    wire = ours.get();
    owner.when_closed = [this](http::ClientConnection&) {
      fixture.loop.reap(std::move(connection));
    };
    net::Loop::Turn turn(fixture.loop);
    connection = std::make_unique<http1::ClientConnection>(std::move(ours), owner,
                                                           http1::ClientConnectionOptions{});
    connection->start();
    server = std::make_unique<PipePeer>(std::move(theirs));
  }
  ~ClientRig() {
    if (connection != nullptr) {
      net::Loop::Turn turn(fixture.loop);
      connection->abort({});
    }
    CHECK(connection == nullptr);
    CHECK(owner.closed == 1);
  }
  TestResponse& open() {
    net::Loop::Turn turn(fixture.loop);
    REQUIRE(connection != nullptr);
    REQUIRE(connection->free_slots() == 1);
    users.push_back(std::make_unique<TestResponse>(fixture.loop));
    connection->open_stream(*users.back());
    return *users.back();
  }
  // A stream with a GET on its way.
  TestResponse& get(std::string_view target = "/") {
    net::Loop::Turn turn(fixture.loop);
    TestResponse& user = open();
    user.request("GET", target);
    user.end();
    return user;
  }
  bool closed() const { return connection == nullptr; }

  LoopFixture fixture;
  TestClientOwner owner;
  std::vector<std::unique_ptr<TestResponse>> users;
  PipeTransport* wire = nullptr;
  std::unique_ptr<http1::ClientConnection> connection;
  std::unique_ptr<PipePeer> server;
};

}  // namespace

TEST_CASE("a request and its response, and another one", "[unit]") {
  ClientRig rig;
  TestResponse& first = rig.open();
  first.request("GET", "/x", {}, {{"X-A", "1"}, {"x-b", "2"}});
  first.end();
  CHECK(rig.server->take() == "GET /x HTTP/1.1\r\nHost: app.example\r\nX-A: 1\r\nx-b: 2\r\n\r\n");
  CHECK_FALSE(first.stream->on_reused_connection());
  rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi");
  CHECK(first.notes.heads == std::vector<std::string>{"200 | X: y"});
  CHECK(first.notes.body == "hi");
  CHECK(first.notes.ends == 1);
  CHECK_FALSE(first.stream.joined());
  CHECK(rig.owner.available == 1);
  CHECK(rig.connection->free_slots() == 1);

  TestResponse& second = rig.get();
  CHECK(second.stream->on_reused_connection());
  rig.server->send("HTTP/1.1 204 No Content\r\n\r\n");
  CHECK(second.notes.ends == 1);
  CHECK(rig.connection->streams_opened() == 2);
  CHECK(rig.fixture.leaked() == 0);
}

TEST_CASE("request bodies are framed anew", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.open();
  SECTION("known") {
    user.request("POST", "/", known(5));
    user.data("hello");
    user.end();
    CHECK(rig.server->take() ==
          "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 5\r\n\r\nhello");
    CHECK(user.notes.sent == 5);
  }
  SECTION("unknown, with trailers") {
    user.request("POST", "/", kUnknown);
    user.data("hello");
    user.end({{"T", "1"}});
    CHECK(rig.server->take() ==
          "POST / HTTP/1.1\r\nHost: app.example\r\nTransfer-Encoding: "
          "chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n");
  }
  SECTION("none for POST") {
    user.request("POST", "/");
    user.end();
    CHECK(rig.server->take() ==
          "POST / HTTP/1.1\r\nHost: app.example\r\nContent-Length: 0\r\n\r\n");
  }
  SECTION("upgrade and TE") {
    user.request("GET", "/", {}, {{"TE", "trailers"}}, "websocket");
    CHECK(rig.server->take() ==
          "GET / HTTP/1.1\r\nHost: app.example\r\nTE: trailers\r\nConnection: "
          "Upgrade, TE\r\nUpgrade: websocket\r\n\r\n");
  }
}

TEST_CASE("an answer to nothing closes the connection", "[unit]") {
  ClientRig rig;
  SECTION("before any request") {
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(rig.owner.close_reason.code == Code::bad_response);
  }
  SECTION("between requests") {
    TestResponse& user = rig.get();
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(user.notes.ends == 1);
    CHECK_FALSE(rig.closed());
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    CHECK(rig.owner.close_reason.code == Code::bad_response);
  }
  SECTION("behind a response") {
    TestResponse& user = rig.get();
    rig.server->send(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\nContent-Length: "
        "0\r\n\r\n");
    CHECK(user.notes.body == "1");
    CHECK(user.notes.ends == 1);
    CHECK(rig.owner.available == 0);
    CHECK(rig.owner.close_reason.code == Code::bad_response);
  }
  SECTION("to a request that was not written yet") {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.open();
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  }
  CHECK(rig.closed());
  for (const auto& user : rig.users) CHECK_FALSE(user->stream.joined());
}

TEST_CASE("an answer in the turn the request is opened is not its answer", "[unit]") {
  ClientRig rig;
  {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rig.open();  // its head is not written before the answer is read
  }
  CHECK(rig.users[0]->notes.heads.empty());
  CHECK(rig.users[0]->notes.resets == 1);
  CHECK(rig.users[0]->notes.why.code == Code::upstream_closed);
  CHECK(rig.users[0]->notes.why.replay == Replay::always);
}

TEST_CASE("the server closes an idle connection", "[unit]") {
  ClientRig rig;
  rig.server->close();
  CHECK(rig.closed());
  CHECK(rig.owner.closed == 1);
}

TEST_CASE("the server closes too early", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  Code code = Code::upstream_closed;
  Replay replay = Replay::if_idempotent;
  SECTION("before anything") {
    rig.server->close();
  }
  SECTION("by reset") {
    rig.server->reset();
  }
  SECTION("in the head") {
    rig.server->send("HTTP/1.1 200 OK\r\nCont");
    rig.server->close();
    replay = Replay::never;
  }
  SECTION("in a body of known length") {
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
    rig.server->close();
    code = Code::upstream_truncated;
    replay = Replay::never;
  }
  SECTION("in a chunked body") {
    rig.server->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    rig.server->close();
    code = Code::upstream_truncated;
    replay = Replay::never;
  }
  SECTION("by reset in an until-close body") {
    rig.server->send("HTTP/1.1 200 OK\r\n\r\nhell");
    rig.server->reset();
    code = Code::upstream_truncated;
    replay = Replay::never;
  }
  CHECK(user.notes.resets == 1);
  CHECK(user.notes.ends == 0);
  CHECK(user.notes.why.code == code);
  CHECK(user.notes.why.replay == replay);
  CHECK(rig.closed());
}

TEST_CASE("a malformed response is refused", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  rig.server->send("HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello");
  CHECK(user.notes.heads.empty());
  CHECK(user.notes.why.code == Code::bad_response);
  CHECK(rig.closed());
}

TEST_CASE("when a connection is not used again", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  SECTION("Connection: close") {
    rig.server->send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  }
  SECTION("HTTP/1.0") {
    rig.server->send("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
  }
  SECTION("until close") {
    rig.server->send("HTTP/1.1 200 OK\r\n\r\nall");
    rig.server->close();
    CHECK(user.notes.body == "all");
  }
  SECTION("draining") {
    {
      net::Loop::Turn turn(rig.fixture.loop);
      rig.connection->begin_drain();
    }
    CHECK(rig.connection->free_slots() == 0);
    rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  }
  CHECK(user.notes.ends == 1);
  CHECK(rig.owner.available == 0);
  CHECK(rig.closed());
}

TEST_CASE("HTTP/1.0 with keep-alive is used again", "[unit]") {
  ClientRig rig;
  rig.get();
  rig.server->send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n");
  CHECK(rig.owner.available == 1);
}

TEST_CASE("giving up", "[unit]") {
  ClientRig rig;
  SECTION("before anything was written keeps the connection") {
    {
      net::Loop::Turn turn(rig.fixture.loop);
      TestResponse& user = rig.open();
      user.request("GET", "/");
      user.reset(make_error(Code::request_timeout, Side::local));
    }
    CHECK(rig.server->take().empty());
    CHECK(rig.owner.available == 1);
    rig.get("/again");
    CHECK(rig.server->take() == "GET /again HTTP/1.1\r\nHost: app.example\r\n\r\n");
  }
  SECTION("afterwards ends it") {
    TestResponse& user = rig.get();
    user.reset(make_error(Code::request_timeout, Side::local));
    CHECK(user.notes.resets == 0);
    CHECK(rig.server->closed);
    CHECK(rig.closed());
  }
}

TEST_CASE("an early response", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.open();
  user.request("POST", "/", known(10));
  user.data("abc");
  rig.server->take();
  rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
  CHECK(user.notes.ends == 1);
  CHECK(user.stream.joined());
  SECTION("the user goes on") {
    user.data("defghij");
    user.end();
    CHECK(rig.server->take() == "defghij");
    CHECK_FALSE(user.stream.joined());
    CHECK(rig.owner.available == 1);
  }
  SECTION("the user resets") {
    user.reset(make_error(Code::none, Side::local));
    CHECK(rig.server->gone());
    CHECK(rig.closed());
  }
  SECTION("the server closes") {
    rig.server->reset();
    CHECK(user.notes.resets == 1);
    CHECK(rig.closed());
  }
}

TEST_CASE("backpressure on the response body", "[unit]") {
  ClientRig rig({.capacity = 8192, .piece = 4096});
  TestResponse& user = rig.get();
  user.auto_consume = false;
  rig.server->send("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + std::string(300'000, 'x'));
  CHECK(user.notes.owed >= 64 * 1024);
  CHECK(user.notes.owed <= 64 * 1024 + 4096);
  CHECK_FALSE(rig.wire->reading());
  int rounds = 0;
  while (user.notes.ends == 0 && ++rounds < 1000) {
    user.consume(std::min<std::size_t>(user.notes.owed, 1000));
  }
  CHECK(user.notes.body.size() == 300'000);
  CHECK(user.notes.ends == 1);
  CHECK(rig.owner.available == 1);
}

TEST_CASE("what was read before a reset waits for the user's credit", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  user.auto_consume = false;
  // Read in one piece, told in one piece: the end of it is parsed after the credit comes back.
  rig.server->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
  rig.server->send("fff0\r\n" + std::string(65520, 'x') + "\r\n");
  rig.server->send("20\r\n" + std::string(32, 'y') + "\r\n");
  rig.server->send("5\r\nabcde\r\n0\r\n\r\n");
  rig.server->close();
  CHECK(user.notes.ends == 0);
  user.consume(user.notes.owed);
  user.consume(user.notes.owed);
  CHECK(user.notes.ends == 1);
  CHECK(user.notes.body.ends_with("abcde"));
  CHECK(rig.closed());
}

TEST_CASE("a tunnel ends with its server, also when that had ended its side before", "[unit]") {
  ClientRig rig;
  TestResponse& user = rig.open();
  user.request("GET", "/ws", {}, {}, "websocket");
  rig.server->send(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  rig.server->shutdown();
  CHECK(user.status == 101);
  CHECK(user.notes.ends == 1);
  CHECK(user.stream.joined());
  user.data("said into the void");
  CHECK(user.notes.resets == 0);
  rig.server->reset();
  CHECK(user.notes.resets == 1);
  CHECK(rig.closed());
}

}  // namespace proxy::test
