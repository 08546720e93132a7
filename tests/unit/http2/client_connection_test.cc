// http2::ClientConnection against a server of raw frames: slots, errors, replays.
// Not what all codecs share: tests/conformance.
#include <memory>
#include <string>
#include <vector>

#include "proxy/http2/client_connection.h"
#include "tests/support/catch.h"
#include "tests/unit/http2/server_rig.h"

namespace proxy::test {
namespace {

const std::string kOk = block({{":status", "200"}});

struct ClientRig {
  explicit ClientRig(http2::ClientConnectionOptions options = {}, bool greet = true) {
    options.observer = &observer;
    auto [ours, theirs] = PipeTransport::make(fixture.loop, {});
    owner.when_closed = [this](http::ClientConnection&) {
      fixture.loop.reap(std::move(connection));
    };
    {
      net::Loop::Turn turn(fixture.loop);
      connection = std::make_unique<http2::ClientConnection>(std::move(ours), owner, options);
      connection->start();
      server = std::make_unique<PipePeer>(std::move(theirs));
    }
    server->received.erase(0, kPreface.size());
    if (greet) send(settings() + settings_ack());
  }
  ~ClientRig() {
    if (connection != nullptr) {
      net::Loop::Turn turn(fixture.loop);
      connection->abort({});
    }
    CHECK(connection == nullptr);
    CHECK(owner.closed == 1);
    CHECK(observer.open == 0);
    for (const auto& user : users) CHECK_FALSE(user->stream.joined());
  }
  void send(std::string_view bytes) { server->send(bytes); }
  const std::vector<Frame>& frames() {
    reader.read(server->take());
    return reader.frames;
  }
  TestResponse& open() {
    net::Loop::Turn turn(fixture.loop);
    users.push_back(std::make_unique<TestResponse>(fixture.loop));
    connection->open_stream(*users.back());
    return *users.back();
  }
  TestResponse& get() {
    TestResponse& user = open();
    user.request("GET", "/");
    user.end();
    return user;
  }

  CountingObserver observer;
  LoopFixture fixture;
  TestClientOwner owner;
  std::unique_ptr<http2::ClientConnection> connection;
  std::unique_ptr<PipePeer> server;
  std::vector<std::unique_ptr<TestResponse>> users;
  FrameReader reader;
};

}  // namespace

TEST_CASE("slots follow the server's SETTINGS", "[http2]") {
  ClientRig rig({}, false);
  CHECK(rig.connection->free_slots() == 1);
  CHECK_FALSE(rig.connection->settings_received());
  TestResponse& user = rig.get();
  CHECK(rig.connection->free_slots() == 0);
  rig.send(settings({{3, 2}, {8, 1}}));
  CHECK(rig.owner.available == 1);
  CHECK(rig.connection->settings_received());
  CHECK(rig.connection->takes_extended_connect());
  CHECK(rig.connection->free_slots() == 1);
  rig.get();
  CHECK(rig.connection->free_slots() == 0);
  rig.send(headers(1, kOk));
  CHECK(user.notes.ends == 1);
  CHECK(rig.owner.available == 2);
  CHECK(rig.connection->free_slots() == 1);
  rig.send(headers(3, kOk));
  CHECK(rig.connection->idle());
}

TEST_CASE("what the server did not look at may be replayed always", "[http2]") {
  ClientRig rig;
  TestResponse& refused = rig.get();
  rig.send(rst(1, 7));
  CHECK(refused.notes.why.code == Code::upstream_reset);
  CHECK(refused.notes.why.replay == Replay::always);
  TestResponse& served = rig.get();
  TestResponse& above = rig.get();
  rig.send(goaway(3, ErrorCode::no_error));
  CHECK(above.notes.why.replay == Replay::always);
  CHECK(rig.connection->free_slots() == 0);
  CHECK(served.notes.resets == 0);
  rig.send(headers(3, kOk));
  CHECK(served.notes.ends == 1);
  CHECK(rig.connection == nullptr);
  CHECK(rig.observer.goaways_received[0] == 1);
}

TEST_CASE("resets before, in and after the response", "[http2]") {
  ClientRig rig;
  TestResponse& before = rig.get();
  TestResponse& within = rig.get();
  TestResponse& after = rig.open();
  after.request("POST", "/", {http::BodyLength::Kind::unknown, 0});
  rig.send(rst(1, 2) + headers(3, kOk, kWhole) + data(3, "ab") + rst(3, 2) +
           headers(5, kOk, kWhole) + data(5, "all", kEnd) + rst(5, 0));
  CHECK(before.notes.why.code == Code::upstream_reset);
  CHECK(before.notes.why.replay == Replay::never);
  CHECK(within.notes.why.code == Code::upstream_reset);
  CHECK(within.notes.body == "ab");
  CHECK(after.notes.ends == 1);
  CHECK(after.notes.resets == 0);
  after.data("goes nowhere");
  CHECK(after.notes.sent == 12);
  after.end();
  CHECK_FALSE(after.stream.joined());
  CHECK(rig.connection->free_slots() > 0);
}

TEST_CASE("a connection that dies", "[http2]") {
  ClientRig rig;
  TestResponse& untouched = rig.get();
  TestResponse& begun = rig.get();
  rig.send(headers(3, kOk, kWhole));
  rig.server->close();
  CHECK(untouched.notes.why.code == Code::upstream_closed);
  CHECK(untouched.notes.why.replay == Replay::if_idempotent);
  CHECK(begun.notes.why.code == Code::upstream_truncated);
}

TEST_CASE("an upload that ends while a frame of it waits for room", "[http2]") {
  ClientRig rig;
  rig.send(settings({{4, 1 << 20}}) + window_update(0, 1 << 20));
  rig.server->pause(true);
  TestResponse& user = rig.open();
  user.request("POST", "/", {http::BodyLength::Kind::unknown, 0});
  user.data(std::string(500'000, 'x'));
  SECTION("it is given up") {
    user.reset(make_error(Code::downstream_closed, Side::downstream));
  }
  SECTION("the server resets it") {
    rig.send(rst(1, 2));
    CHECK(user.notes.why.code == Code::upstream_reset);
  }
  SECTION("the server answers it, and resets the rest") {
    rig.send(headers(1, kOk) + rst(1, 0));
    CHECK(user.notes.ends == 1);
    user.end();
    CHECK(user.notes.sent == 500'000);
  }
  rig.server->pause(false);
  TestResponse& next = rig.get();
  rig.send(headers(3, kOk));
  CHECK(next.notes.ends == 1);
  std::size_t seen = 0;
  for (const Frame& frame : rig.frames()) {
    if (frame.id == 1 && frame.type == FrameType::data) seen += frame.payload.size();
  }
  CHECK(seen < 500'000);
}

TEST_CASE("small pieces of an upload that waits for a window are kept together", "[http2]") {
  ClientRig rig;
  rig.send(settings({{4, 0}}));
  TestResponse& user = rig.open();
  user.request("POST", "/", {http::BodyLength::Kind::unknown, 0});
  for (int i = 0; i < 5000; ++i) user.data("x");
  CHECK(rig.fixture.loop.chunks().outstanding() < 50);
  CHECK(rig.fixture.loop.chunks().outstanding_bytes() < 64 * 1024);
  rig.send(window_update(1, 5000));
  CHECK(user.notes.sent == 5000);
  user.reset(make_error(Code::downstream_closed, Side::downstream));
}

TEST_CASE("malformed responses", "[http2]") {
  const std::vector<std::string> bad = {
      headers(1, block({{"x", "y"}})),
      headers(1, block({{":status", "2x0"}})),
      headers(1, block({{":status", "101"}})),
      headers(1, block({{":status", "200"}, {":status", "200"}})),
      headers(1, block({{":status", "200"}, {"connection", "close"}})),
      headers(1, block({{":status", "200"}, {"X", "y"}})),
      headers(1, block({{":status", "200"}, {"x", "a\nb"}})),
      headers(1, block({{":status", "200"}, {":path", "/"}})),
      headers(1, block({{":status", "200"}, {"content-length", "5"}})),
      headers(1, block({{":status", "200"}, {"content-length", "5"}}), kWhole) + data(1, "123456"),
      headers(1, block({{":status", "200"}, {"content-length", "5"}}), kWhole) + data(1, "1", kEnd),
      headers(1, block({{":status", "200"}, {"content-length", "0"}}), kWhole) + data(1, "1", kEnd),
      headers(1, block({{":status", "204"}}), kWhole) + data(1, "1", kEnd),
      headers(1, block({{":status", "103"}})),
      headers(1, block({{":status", "103"}}), kWhole) + data(1, "1"),
      headers(1, block({{":status", "103"}}), kWhole) + data(1, "", kEnd),
      headers(1, kOk, kWhole) + headers(1, block({{"x", "y"}}), kWhole),
      headers(1, kOk, kWhole) + headers(1, block({{":status", "200"}})),
  };
  for (const std::string& bytes : bad) {
    CAPTURE(bytes);
    ClientRig rig;
    TestResponse& user = rig.get();
    rig.send(bytes);
    CHECK(user.notes.resets == 1);
    CHECK(user.notes.why.code == Code::bad_response);
    CHECK(user.notes.why.side == Side::upstream);
    CHECK(rig.frames().back().type == FrameType::rst_stream);
    // The connection goes on.
    TestResponse& next = rig.get();
    rig.send(headers(3, kOk));
    CHECK(next.notes.ends == 1);
  }
}

TEST_CASE("a server that breaks the protocol ends all its streams", "[http2]") {
  for (const std::string& bytes :
       {std::string("HTTP/1.1 400 Bad Request\r\n\r\n"), headers(1, "\x80"),
        frame(FrameType::push_promise, kWhole, 1, be(2, 4) + get_block())}) {
    ClientRig rig({}, bytes.front() != 'H');
    TestResponse& user = rig.get();
    rig.send(bytes);
    CHECK(user.notes.resets == 1);
    CHECK(user.notes.why.code == Code::bad_response);
  }
}

TEST_CASE("cancelling is told at once and leaves the connection", "[http2]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  user.reset(make_error(Code::request_timeout, Side::local));
  REQUIRE(rig.frames().back().type == FrameType::rst_stream);
  CHECK(rig.frames().back().number() == 8);
  rig.send(headers(1, kOk, kWhole) + data(1, "crossed", kEnd));
  CHECK(rig.get().stream.joined());
  rig.send(headers(3, kOk));
  CHECK(rig.users.back()->notes.ends == 1);
}

TEST_CASE("a WebSocket client of HTTP/1 gets the accept it waits for", "[http2]") {
  ClientRig rig({}, false);
  rig.send(settings({{8, 1}}) + settings_ack());
  TestResponse& user = rig.open();
  user.request("GET", "/chat", {}, {{"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}},
               "websocket");
  std::string head;
  for (const Frame& frame : rig.frames()) {
    if (frame.type == FrameType::headers) head = rig.reader.decode(frame.payload);
  }
  CHECK(head ==
        ":method: CONNECT\n:scheme: http\n:authority: app.example\n:path: /chat\n:protocol: "
        "websocket\n");
  rig.send(headers(1, kOk, kWhole));
  CHECK(user.notes.heads.at(0) ==
        "101 upgrade=websocket | Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
  rig.send(data(1, "x", kEnd));
  user.end();
  CHECK(user.notes.ends == 1);
}

TEST_CASE("1xx, then padding, PINGs and SETTINGS between the frames of a response", "[http2]") {
  ClientRig rig;
  TestResponse& user = rig.get();
  rig.send(
      headers(1, block({{":status", "103"}, {"link", "</x>"}}), kWhole) + ping() +
      headers(1, block({{":status", "200"}, {"content-length", "4"}}), kWhole) + settings() +
      frame(FrameType::data, http2::kPadded, 1, std::string("\x03") + "ab" + std::string(3, '\0')) +
      ping() + data(1, "") +
      frame(FrameType::data, http2::kPadded, 1,
            std::string("\x01", 1) + "cd" + std::string(1, '\0')) +
      headers(1, block({{"grpc-status", "0"}})));
  CHECK(user.notes.heads == std::vector<std::string>{"103 | link: </x>", "200"});
  CHECK(user.notes.body == "abcd");
  CHECK(user.notes.trailers == " | grpc-status: 0");
  CHECK(user.notes.ends == 1);
}

}  // namespace proxy::test
