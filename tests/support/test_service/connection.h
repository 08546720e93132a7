// One client of the test service: reads requests in order, answers each, and keeps what is unsent.
// Not a thread's loop; EventLoop (event_loop.h) calls it and does what it says about the socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/test_service/http_wire.h"
#include "tests/support/test_service/served.h"
#include "tests/support/test_service/websocket.h"

namespace test_service {

class Connection final : public Served {
 public:
  Connection(int fd, const Settings& settings);
  ~Connection() override;

  bool on_events(std::uint32_t events, std::uint64_t now_ms) override;
  bool on_timer(std::uint64_t now_ms) override;
  std::uint32_t wanted_events() const override;

 private:
  enum class Phase : std::uint8_t { head, body, waiting, producing, ticking, websocket, closing };
  enum class Route : std::uint8_t { fixed, echo, delay, bytes, chunked, websocket };

  bool read_all();
  bool flush();
  bool pump(std::uint64_t now_ms);
  void process(std::uint64_t now_ms);
  bool take_head(std::uint64_t now_ms);
  bool take_body(std::uint64_t now_ms);
  bool take_frames(std::uint64_t now_ms);
  bool produce();
  void tick(std::uint64_t now_ms);
  void choose_route();
  void start_echo();
  void accept_websocket();
  void respond(std::uint64_t now_ms);
  void respond_fixed(int status, std::string_view type, std::string_view body);
  void begin_head(int status, std::string_view type);
  void end_head();
  void end_response();
  void refuse(int status, std::uint64_t now_ms);
  void close_gently(std::uint64_t now_ms);
  std::string headers_as_json() const;
  std::size_t unsent() const { return out_.size() - out_at_; }
  bool chunks_allowed() const { return request_.version == "HTTP/1.1"; }

  const Settings& settings_;
  const std::uint64_t id_;
  Phase phase_ = Phase::head;
  Route route_ = Route::fixed;
  bool end_of_input_ = false;
  bool write_shut_ = false;
  bool stalled_ = false;  // processing stopped because too much is unsent
  bool keep_alive_ = true;
  std::string in_;
  std::size_t in_at_ = 0;
  std::string out_;
  std::size_t out_at_ = 0;
  Request request_;
  BodyReader body_;
  FrameEcho frames_;
  int status_ = 200;
  std::uint64_t amount_ = 0;  // of bytes, or milliseconds, as the route's path says
  std::uint64_t left_ = 0;    // bytes or ticks still to produce
};

}  // namespace test_service
