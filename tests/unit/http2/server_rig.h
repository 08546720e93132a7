// H2ServerRig: an http2::ServerConnection between a test's raw frames and a test's handler.
// Not a proxy.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/http2/server_connection.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/stream_users.h"
#include "tests/unit/http2/frames.h"

namespace proxy::test {

struct CountingObserver final : http2::Observer {
  void on_stream_opened() noexcept override { ++open; }
  void on_stream_closed() noexcept override { --open; }
  void on_reset(ErrorCode code, http2::Direction direction) noexcept override {
    ++(direction == http2::Direction::sent ? resets_sent
                                           : resets_received)[static_cast<std::size_t>(code)];
  }
  void on_goaway(ErrorCode code, http2::Direction direction) noexcept override {
    ++(direction == http2::Direction::sent ? goaways_sent
                                           : goaways_received)[static_cast<std::size_t>(code)];
  }
  void on_stall() noexcept override { ++stalls; }
  void on_flood(http2::FloodKind kind) noexcept override {
    ++floods[static_cast<std::size_t>(kind)];
  }
  int flooded(http2::FloodKind kind) const { return floods[static_cast<std::size_t>(kind)]; }

  int open = 0;
  int stalls = 0;
  std::array<int, http2::kErrorCodes> resets_sent{}, resets_received{}, goaways_sent{},
      goaways_received{};
  std::array<int, http2::kFloodKinds> floods{};
};

struct H2ServerRig {
  explicit H2ServerRig(http2::ServerConnectionOptions options = {}, PipeOptions pipe = {},
                       bool greet = true) {
    options.observer = &observer;
    auto [ours, theirs] = PipeTransport::make(fixture.loop, pipe);
    handler.when_closed = [this](http::ServerConnection&) {
      fixture.loop.reap(std::move(connection));
    };
    {
      net::Loop::Turn turn(fixture.loop);
      connection =
          std::make_unique<http2::ServerConnection>(std::move(ours), handler, handler, options);
      connection->start();
      client = std::make_unique<PipePeer>(std::move(theirs));
    }
    if (greet) send(std::string(kPreface) + settings() + settings_ack());
  }
  ~H2ServerRig() {
    if (connection != nullptr) {
      net::Loop::Turn turn(fixture.loop);
      connection->abort({});
    }
    CHECK(connection == nullptr);
    CHECK(handler.closed == 1);
    CHECK(observer.open == 0);
    for (const auto& request : handler.requests) {
      CHECK_FALSE(request->stream.joined());
      CHECK(request->dones + request->notes.resets <= 1);
    }
  }
  void send(std::string_view bytes) { client->send(bytes); }
  // Everything the server has sent so far.
  const std::vector<Frame>& frames() {
    reader.read(client->take());
    return reader.frames;
  }
  // The code of the GOAWAY that ends the connection / of the RST_STREAM on `id`.
  std::optional<ErrorCode> goaway_code() {
    for (const Frame& frame : frames()) {
      if (frame.type == FrameType::goaway && frame.number(4) != 0)
        return http2::error_code(frame.number(4));
    }
    return std::nullopt;
  }
  std::optional<ErrorCode> reset_code(std::uint32_t id) {
    for (const Frame& frame : frames()) {
      if (frame.type == FrameType::rst_stream && frame.id == id)
        return http2::error_code(frame.number());
    }
    return std::nullopt;
  }
  std::size_t count(FrameType type, std::optional<std::uint32_t> id = std::nullopt) {
    return static_cast<std::size_t>(std::count_if(
        frames().begin(), frames().end(),
        [&](const Frame& frame) { return frame.type == type && (!id || frame.id == *id); }));
  }
  // Of all DATA on `id`.
  std::string body(std::uint32_t id) {
    std::string text;
    for (const Frame& frame : frames()) {
      if (frame.type == FrameType::data && frame.id == id) text += frame.payload;
    }
    return text;
  }
  // "GOAWAY PROTOCOL_ERROR", "RST 1 STREAM_CLOSED", "closed" or "alive": the worst that happened.
  std::string outcome() {
    if (const auto code = goaway_code(); code)
      return "GOAWAY " + std::string(http2::text_of(*code));
    for (const Frame& frame : frames()) {
      if (frame.type != FrameType::rst_stream) continue;
      const ErrorCode code = http2::error_code(frame.number());
      if (code != ErrorCode::no_error) {
        return "RST " + std::to_string(frame.id) + " " + std::string(http2::text_of(code));
      }
    }
    return client->gone() ? "closed" : "alive";
  }
  TestRequest& request() { return handler.last(); }
  bool closed() const { return connection == nullptr; }

  CountingObserver observer;
  LoopFixture fixture;
  TestHandler handler{fixture.loop};
  std::unique_ptr<http2::ServerConnection> connection;
  std::unique_ptr<PipePeer> client;
  FrameReader reader;
};

}  // namespace proxy::test
