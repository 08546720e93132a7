// http2::ServerConnection: what requests and responses are on the wire.
// Not what all codecs share: tests/conformance.
#include <chrono>
#include <string>

#include "tests/support/catch.h"
#include "tests/unit/http2/server_rig.h"

namespace proxy::test {
namespace {

constexpr http::BodyLength kUnknown{http::BodyLength::Kind::unknown, 0};

std::string extended_connect() {
  return block({{":method", "CONNECT"},
                {":protocol", "websocket"},
                {":scheme", "http"},
                {":path", "/chat"},
                {":authority", "a.example"},
                {"sec-websocket-version", "13"}});
}

// The head that the server sent on `id`.
std::string head_of(H2ServerRig& rig, std::uint32_t id) {
  std::string text;
  for (const Frame& frame : rig.frames()) {
    if (frame.type != FrameType::headers) continue;
    const std::string decoded = rig.reader.decode(frame.payload);
    if (frame.id == id) text += decoded;
  }
  return text;
}

}  // namespace

TEST_CASE("a request is told in words that all versions share", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1,
                   post_block({{"cookie", "a=1"},
                               {"x-a", "1"},
                               {"cookie", "b=2"},
                               {"cookie", "c=3"},
                               {"te", "trailers"},
                               {"content-length", "5"},
                               {"host", "A.example:80"}}),
                   kWhole) +
           data(1, "he") + data(1, "llo") + headers(1, block({{"x-sum", "9"}, {"host", "evil"}})));
  CHECK(rig.request().notes.heads.at(0) ==
        "POST / a.example | cookie: a=1; b=2; c=3 | x-a: 1 | TE: trailers");
  CHECK(rig.request().request.body.kind == http::BodyLength::Kind::known);
  CHECK(rig.request().request.body.bytes == 5);
  CHECK(rig.request().request.version == http::Version::http2);
  CHECK(rig.request().notes.body == "hello");
  CHECK(rig.request().notes.trailers == " | x-sum: 9");
  rig.request().reply(200, "ok", {{"date", "d"}, {"X-Upper", "kept"}});
  CHECK(head_of(rig, 1) == ":status: 200\ncontent-length: 2\ndate: d\nx-upper: kept\n");
  CHECK(rig.body(1) == "ok");
  CHECK(rig.request().dones == 1);
  CHECK(rig.request().request_complete);
}

TEST_CASE("Host stands in for an absent :authority", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1, block({{":method", "GET"}, {":scheme", "https"}, {":path", "*"}}) +
                          block({{"host", "b.example"}})));
  CHECK(rig.handler.requests.size() == 1);
  CHECK(rig.request().notes.resets == 1);  // "*" is for OPTIONS
  rig.send(headers(3, block({{":method", "OPTIONS"}, {":scheme", "https"}, {":path", "*"}}) +
                          block({{"host", "b.example"}})));
  CHECK(rig.request().notes.heads.at(0) == "OPTIONS * b.example");
}

TEST_CASE("what can't be served is refused with an answer", "[http2]") {
  H2ServerRig rig;
  rig.handler.when_started = [](TestRequest& request) {
    request.when_refused = [&request] {
      request.reply(static_cast<std::uint16_t>(reply_status(request.notes.why.code)), "no");
    };
  };
  rig.send(headers(1, block({{":method", "CONNECT"}, {":authority", "a.example:443"}}), kWhole));
  CHECK(rig.request().notes.why.code == Code::connect_method);
  CHECK(head_of(rig, 1).starts_with(":status: 405\n"));
  CHECK(rig.reset_code(1) == ErrorCode::no_error);
  rig.send(headers(
      3, block({{":method", "BREW"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}})));
  CHECK(rig.request().notes.why.code == Code::unknown_method);
  CHECK(rig.request().dones == 1);
  // RFC 8441: protocols that are mapped to no upgrade.
  std::uint32_t id = 5;
  for (const std::string_view protocol : {"connect-udp", "h2c", "http", "tls", "websockets"}) {
    rig.send(headers(id,
                     block({{":method", "CONNECT"},
                            {":protocol", protocol},
                            {":scheme", "http"},
                            {":path", "/"},
                            {":authority", "a"}}),
                     kWhole));
    CHECK(rig.request().notes.why.code == Code::unknown_method);
    CHECK(head_of(rig, id).starts_with(":status: 501\n"));
    id += 2;
  }
  CHECK(rig.outcome() == "alive");
}

TEST_CASE("an extended CONNECT is an upgrade", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1, extended_connect(), kWhole) + data(1, "early"));
  CHECK(rig.request().notes.heads.at(0) ==
        "GET /chat a.example upgrade=websocket | sec-websocket-version: 13");
  CHECK(rig.request().request.websocket);
  CHECK(rig.request().notes.body.empty());
  CHECK(rig.request().notes.ends == 0);
  {
    net::Loop::Turn turn(rig.fixture.loop);
    http::ResponseHead head;
    head.status = 101;
    head.upgrade = head.headers.put("websocket");
    head.headers.add("Sec-WebSocket-Accept", "xyz");
    head.headers.add("date", "d");
    rig.request().stream->send_head(head);
  }
  CHECK(head_of(rig, 1) == ":status: 200\ndate: d\n");
  CHECK(rig.request().notes.body == "early");
  rig.request().data("down");
  rig.request().end();
  CHECK(rig.body(1) == "down");
  CHECK(rig.request().dones == 0);
  rig.send(data(1, "late", kEnd));
  CHECK(rig.request().notes.body == "earlylate");
  CHECK(rig.request().notes.ends == 1);
  CHECK(rig.request().dones == 1);
  CHECK(rig.outcome() == "alive");
}

TEST_CASE("a tunnel whose one half has ended is given up by either side", "[http2]") {
  H2ServerRig rig;
  const auto half_ended = [&rig](std::uint32_t id) -> TestRequest& {
    rig.send(headers(id, extended_connect(), kWhole));
    rig.request().upgrade("websocket");
    rig.request().end();
    CHECK(rig.request().dones == 0);
    return rig.request();
  };
  TestRequest& cancelled = half_ended(1);
  rig.send(rst(1, 8));
  CHECK(cancelled.notes.resets == 1);
  CHECK(cancelled.notes.why.code == Code::downstream_closed);
  CHECK(rig.connection->idle());
  half_ended(3).reset(make_error(Code::response_stalled, Side::upstream));
  CHECK(rig.outcome() == "RST 3 INTERNAL_ERROR");
  CHECK(rig.connection->idle());
}

TEST_CASE("an early response tells the client not to go on", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1, post_block(), kWhole) + data(1, "abc"));
  rig.request().reply(403, "no");
  CHECK(rig.request().dones == 1);
  CHECK_FALSE(rig.request().request_complete);
  CHECK(rig.reset_code(1) == ErrorCode::no_error);
  rig.send(data(1, "more") + data(1, "still", kEnd));  // crossed with the reset
  CHECK(rig.outcome() == "alive");
  CHECK(rig.request().notes.body == "abc");
}

TEST_CASE("windows come back: of slow streams, of streams that were reset", "[http2]") {
  http2::ServerConnectionOptions options;
  options.stream_window = 65'535;
  options.connection_window = 100'000;
  H2ServerRig rig(options);
  rig.handler.when_started = [](TestRequest& request) { request.auto_consume = false; };
  const std::string piece(16'000, 'x');
  // Far more than the connection's window, by streams that die with all of it unread.
  for (std::uint32_t id = 1; id < 61; id += 2) {
    rig.send(headers(id, post_block(), kWhole) + data(id, piece) + data(id, piece) + rst(id));
  }
  CHECK(rig.outcome() == "alive");
  rig.send(headers(61, post_block(), kWhole) + data(61, piece));
  CHECK(rig.request().notes.owed == 16'000);
  CHECK(rig.count(FrameType::window_update, 61) == 0);
  rig.request().consume(16'000);
  for (int i = 0; i < 3; ++i) rig.send(data(61, piece));
  rig.request().consume(48'000);
  CHECK(rig.count(FrameType::window_update, 61) > 0);
}

TEST_CASE("a body beyond the window is the client's error", "[http2]") {
  H2ServerRig rig;
  rig.handler.when_started = [](TestRequest& request) { request.auto_consume = false; };
  rig.send(headers(1, post_block(), kWhole));
  for (int i = 0; i < 5; ++i) rig.send(data(1, std::string(16'384, 'x')));
  CHECK(rig.reset_code(1) == ErrorCode::flow_control_error);
  CHECK(rig.request().notes.resets == 1);
  CHECK(rig.request().notes.owed <= 65'536 + 16'384);
  CHECK(rig.observer.flooded(http2::FloodKind::window_overflow) == 1);
}

TEST_CASE("a drain: two GOAWAYs, what came before the second is served", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1, get_block()));
  {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.connection->begin_drain();
  }
  REQUIRE(rig.count(FrameType::goaway) == 1);
  CHECK(rig.frames().at(rig.frames().size() - 2).number() == 0x7fffffff);
  REQUIRE(rig.frames().back().type == FrameType::ping);
  rig.send(headers(3, get_block()));  // was on its way
  rig.send(ping(http2::kAck, rig.frames().back().payload));
  REQUIRE(rig.count(FrameType::goaway) == 2);
  CHECK(rig.frames().back().number() == 3);
  rig.send(headers(5, get_block()));
  CHECK(rig.handler.requests.size() == 2);
  for (const auto& request : rig.handler.requests) request->reply(200, "x");
  CHECK(rig.body(3) == "x");
  CHECK(rig.client->gone());
}

TEST_CASE("a drain does not wait for a client that answers no PING", "[http2]") {
  H2ServerRig rig;
  {
    net::Loop::Turn turn(rig.fixture.loop);
    rig.connection->begin_drain();
  }
  CHECK_FALSE(rig.client->gone());
  rig.fixture.advance(std::chrono::milliseconds(1100));
  CHECK(rig.count(FrameType::goaway) == 2);
  CHECK(rig.client->gone());
}

TEST_CASE("idle connections end, dead ones are found out", "[http2]") {
  http2::ServerConnectionOptions options;
  options.idle_timeout = std::chrono::seconds(5);
  H2ServerRig idle(options);
  idle.fixture.advance(std::chrono::seconds(6));
  CHECK(idle.count(FrameType::goaway) == 1);
  CHECK(idle.client->gone());

  options.idle_timeout = {};
  options.ping_interval = std::chrono::seconds(5);
  options.ping_timeout = std::chrono::seconds(2);
  H2ServerRig dead(options);
  dead.fixture.advance(std::chrono::seconds(6));
  REQUIRE(dead.frames().back().type == FrameType::ping);
  dead.send(ping(http2::kAck, dead.frames().back().payload));
  dead.fixture.advance(std::chrono::seconds(3));
  CHECK_FALSE(dead.closed());
  dead.fixture.advance(std::chrono::seconds(3));
  dead.fixture.advance(std::chrono::seconds(3));
  CHECK(dead.closed());
}

TEST_CASE("the wire's bytes of a stream are its frames", "[http2]") {
  H2ServerRig rig;
  const std::string head = headers(1, post_block(), kWhole);
  const std::string body = data(1, "hello", kEnd);
  rig.send(head + body);
  rig.request().reply(200, "ok");
  CHECK(rig.request().notes.wire.received == head.size() + body.size());
  std::size_t sent = 0;
  for (const Frame& frame : rig.frames()) {
    if (frame.id == 1) sent += 9 + frame.payload.size();
  }
  CHECK(rig.request().notes.wire.sent == sent);
}

TEST_CASE("small frames that wait to be told are kept together", "[http2]") {
  H2ServerRig rig;
  rig.send(headers(1, extended_connect(), kWhole));
  std::string frames;
  for (int i = 0; i < 1000; ++i) frames += data(1, "x");
  for (int i = 0; i < 10; ++i) rig.send(frames);
  CHECK(rig.fixture.loop.chunks().outstanding() < 50);
  rig.request().upgrade("websocket");
  CHECK(rig.request().notes.body == std::string(10'000, 'x'));
  rig.request().reset(make_error(Code::upstream_truncated, Side::upstream));
}

TEST_CASE("a stream that is given up while a frame of it waits for room", "[http2]") {
  H2ServerRig rig;
  rig.send(settings({{4, 1 << 20}}) + window_update(0, 1 << 20) + headers(1, get_block()));
  rig.client->pause(true);
  rig.request().head(200, kUnknown);
  rig.request().data(std::string(500'000, 'x'));
  rig.request().reset(make_error(Code::upstream_truncated, Side::upstream));
  rig.client->pause(false);
  REQUIRE(rig.reset_code(1));
  std::string seen;
  for (const Frame& frame : rig.frames()) {
    if (frame.id == 1 && frame.type == FrameType::data) seen += frame.payload;
  }
  CHECK(seen.size() < 500'000);
  CHECK(seen == std::string(seen.size(), 'x'));
  CHECK(rig.frames().back().type == FrameType::rst_stream);
  rig.send(headers(3, get_block()));
  rig.request().reply(200, "ok");
  CHECK(rig.request().dones == 1);
}

TEST_CASE("many streams take turns on one connection", "[http2]") {
  H2ServerRig rig({}, {.capacity = 1 << 20, .piece = 1 << 20});
  rig.send(window_update(0, 1 << 20));
  for (std::uint32_t id = 1; id <= 9; id += 2) rig.send(headers(id, get_block()));
  {
    net::Loop::Turn turn(rig.fixture.loop);
    for (const auto& request : rig.handler.requests) {
      request->head(200, kUnknown);
      request->data(std::string(40'000, 'x'));
      request->end();
    }
  }
  // The first frame of the last stream came before the last of the first.
  std::vector<std::uint32_t> order;
  for (const Frame& frame : rig.frames()) {
    if (frame.type == FrameType::data) order.push_back(frame.id);
  }
  const auto first_of_last = std::find(order.begin(), order.end(), 9U);
  const auto last_of_first = std::find(order.rbegin(), order.rend(), 1U).base() - 1;
  CHECK(first_of_last < last_of_first);
  for (const auto& request : rig.handler.requests) CHECK(request->dones == 1);
}

}  // namespace proxy::test
