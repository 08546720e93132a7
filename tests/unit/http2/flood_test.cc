// Floods: each legal frame by itself, too many of them; the end is ENHANCE_YOUR_CALM, and counted.
// Not violations: h2spec_test.cc.
#include <chrono>
#include <string>

#include "tests/support/catch.h"
#include "tests/unit/http2/server_rig.h"

namespace proxy::test {
namespace {

using http2::FloodKind;

// Sends `bytes` again and again until the server has had enough; how often that was.
int flood(H2ServerRig& rig, const std::string& bytes, int most = 20'000) {
  for (int i = 1; i <= most; ++i) {
    rig.send(bytes);
    if (rig.goaway_code()) return i;
  }
  return most + 1;
}

void check_calm(H2ServerRig& rig, FloodKind kind) {
  CHECK(rig.outcome() == "GOAWAY ENHANCE_YOUR_CALM");
  CHECK(rig.observer.flooded(kind) == 1);
  CHECK(rig.observer.goaways_sent[static_cast<std::size_t>(ErrorCode::enhance_your_calm)] == 1);
  CHECK(rig.fixture.loop.chunks().outstanding_bytes() < 512 * 1024);
}

http2::ServerConnectionOptions slow_refill() {
  http2::ServerConnectionOptions options;
  options.floods.resets = {100, 0};
  options.floods.provoked_resets = {50, 0};
  options.floods.settings = {100, 0};
  options.floods.pings = {100, 0};
  options.floods.empty_data = {100, 0};
  options.floods.window_updates = {100, 0};
  options.floods.priorities = {100, 0};
  options.floods.goaways = {100, 0};
  options.floods.extensions = {100, 0};
  return options;
}

}  // namespace

TEST_CASE("a bucket empties, and fills up by the clock and by useful work", "[http2]") {
  http2::Bucket bucket({2, 10});
  CHECK(bucket.take(1000));
  CHECK(bucket.take(1000));
  CHECK_FALSE(bucket.take(1050));
  CHECK(bucket.take(1100));
  CHECK_FALSE(bucket.take(1100));
  bucket.earn(5);
  CHECK(bucket.take(1100));
  CHECK(bucket.take(1100));
  CHECK_FALSE(bucket.take(1100));
}

TEST_CASE("floods of cheap frames", "[http2]") {
  const std::string open = headers(1, post_block(), kWhole);
  struct Kind {
    FloodKind kind;
    std::string first;
    std::string bytes;
  };
  const std::vector<Kind> kinds = {
      {FloodKind::settings, "", settings({{4, 65535}})},
      {FloodKind::ping, "", ping()},
      {FloodKind::ping, "", ping(http2::kAck)},
      {FloodKind::empty_data, open, data(1, "")},
      {FloodKind::empty_data, open, frame(FrameType::data, 0, 1)},
      {FloodKind::window_update, open, window_update(1, 1)},
      {FloodKind::window_update, "", window_update(0, 1)},
      {FloodKind::priority, "", priority(3, 0)},
      {FloodKind::priority, "", frame(FrameType::priority_update, 0, 0, be(1, 4) + "u=1")},
      {FloodKind::goaway, open, goaway(0, ErrorCode::no_error)},
      {FloodKind::extension, "", frame(static_cast<FrameType>(0xa), 0, 0, "12345")},    // ALTSVC
      {FloodKind::extension, open, frame(static_cast<FrameType>(0xc), 0, 1, "12345")},  // ORIGIN
      {FloodKind::extension, open, frame(static_cast<FrameType>(0xfa), 0xff, 1)},
  };
  for (const Kind& it : kinds) {
    CAPTURE(http2::word_of(it.kind), it.bytes);
    H2ServerRig rig(slow_refill());
    rig.send(it.first);
    const int times = flood(rig, it.bytes, 1000);
    CHECK(times > 90);
    CHECK(times < 120);
    check_calm(rig, it.kind);
  }
}

TEST_CASE("rapid reset: requests that are taken back at once", "[http2]") {
  H2ServerRig rig(slow_refill());
  std::uint32_t id = 1;
  while (!rig.goaway_code() && id < 10'000) {
    rig.send(headers(id, get_block()) + rst(id));
    id += 2;
  }
  check_calm(rig, FloodKind::rapid_reset);
  CHECK(rig.handler.requests.size() == 100);
  // Each was counted as a request, and ended once.
  for (const auto& request : rig.handler.requests) {
    CHECK(request->notes.resets == 1);
    CHECK(request->notes.heads.empty());
  }
}

TEST_CASE("resets that the client provokes count as well", "[http2]") {
  H2ServerRig overflow(slow_refill());
  std::uint32_t id = 1;
  for (; !overflow.goaway_code() && id < 1000; id += 2) {
    overflow.send(headers(id, get_block()) + window_update(id, 0x7fffffff));
  }
  check_calm(overflow, FloodKind::provoked_reset);
  CHECK(overflow.observer.flooded(FloodKind::window_overflow) == 51);

  H2ServerRig malformed(slow_refill());
  for (id = 1; !malformed.goaway_code() && id < 1000; id += 2) {
    malformed.send(headers(id, block({{"bad", "request"}})));
  }
  check_calm(malformed, FloodKind::provoked_reset);
  CHECK(id < 110);
}

TEST_CASE("CONTINUATION without end", "[http2]") {
  for (const std::string& piece : {std::string(), block({{"x", "y"}})}) {
    H2ServerRig rig;
    rig.send(headers(1, get_block(), kEnd));
    CHECK(flood(rig, frame(FrameType::continuation, 0, 1, piece), 1000) < 40);
    check_calm(rig, FloodKind::continuation);
  }
}

TEST_CASE("a HPACK bomb: a small block that decodes to much", "[http2]") {
  H2ServerRig rig;
  // One entry of 4,000 bytes, then thousands of references to it, of one byte each.
  const std::string value(4000, 'v');
  rig.send(headers(1, get_block(), kEnd) +
           frame(FrameType::continuation, 0, 1,
                 std::string("\x40") + hpack_int(0, 7, 1) + "x" + hpack_int(0, 7, value.size()) +
                     value) +
           frame(FrameType::continuation, kWhole, 1, std::string(16'000, '\xbe')));
  check_calm(rig, FloodKind::hpack_bomb);
  CHECK(rig.handler.requests.empty());
}

TEST_CASE("a head past the limit is 431, and the connection lives", "[http2]") {
  http2::ServerConnectionOptions options;
  options.limits.head_bytes = 4000;
  options.limits.header_count = 20;
  H2ServerRig rig(options);
  rig.handler.when_started = [](TestRequest& request) {
    request.when_refused = [&request] {
      request.reply(static_cast<std::uint16_t>(reply_status(request.notes.why.code)), "big");
    };
  };
  rig.send(headers(1, get_block() + field("x", std::string(5000, 'x'))));
  std::string many;
  for (int i = 0; i < 21; ++i) many += field("x", "y");
  rig.send(headers(3, get_block() + many));
  CHECK(rig.outcome() == "alive");
  CHECK(rig.observer.flooded(FloodKind::header_list) == 2);
  for (const auto& request : rig.handler.requests) {
    CHECK(request->notes.why.code == Code::head_too_large);
    CHECK(request->dones == 1);
  }
  CHECK(rig.body(1) == "big");
  rig.send(headers(5, get_block()));
  CHECK(rig.request().notes.heads.size() == 1);
}

TEST_CASE("windows that stay shut: the streams are given up, then forgotten", "[http2]") {
  http2::ServerConnectionOptions options;
  options.write_stall_timeout = std::chrono::seconds(10);
  H2ServerRig rig(options);
  rig.send(settings({{4, 0}}) + headers(1, get_block()) + headers(3, get_block()));
  for (const auto& request : rig.handler.requests) {
    request->head(200, {http::BodyLength::Kind::unknown, 0});
    request->data("waits");
  }
  CHECK(rig.observer.stalls == 2);
  rig.fixture.advance(std::chrono::seconds(9));
  CHECK(rig.outcome() == "alive");
  rig.fixture.advance(std::chrono::seconds(2));
  CHECK(rig.reset_code(1) == ErrorCode::cancel);
  CHECK(rig.reset_code(3) == ErrorCode::cancel);
  CHECK(rig.observer.flooded(FloodKind::zero_window) == 2);
  for (const auto& request : rig.handler.requests) {
    CHECK(request->notes.resets == 1);
    CHECK(request->notes.why.code == Code::response_stalled);
  }
  CHECK(rig.observer.open == 0);
}

TEST_CASE("a client that reads nothing at all is cut off", "[http2]") {
  http2::ServerConnectionOptions options;
  options.write_stall_timeout = std::chrono::seconds(10);
  H2ServerRig rig(options, {.capacity = 2048, .piece = 2048});
  rig.client->pause(true);
  rig.send(headers(1, get_block()));
  rig.request().head(200, {http::BodyLength::Kind::unknown, 0});
  rig.request().data(std::string(50'000, 'x'));
  rig.fixture.advance(std::chrono::seconds(11));
  CHECK(rig.closed());
  CHECK(rig.request().notes.resets == 1);
  CHECK(rig.observer.flooded(FloodKind::zero_window) == 1);
}

TEST_CASE("control frames that pile up behind a client that does not read", "[http2]") {
  http2::ServerConnectionOptions options;
  options.floods.pings = {100'000, 0};
  options.floods.outbound_frames = 500;
  H2ServerRig rig(options, {.capacity = 256 * 1024, .piece = 256 * 1024});
  rig.client->pause(true);
  std::string many;
  for (int i = 0; i < 1000; ++i) many += ping();
  for (int i = 0; i < 40 && !rig.closed(); ++i) rig.send(many);
  CHECK(rig.observer.flooded(FloodKind::outbound_queue) == 1);
}

}  // namespace proxy::test
