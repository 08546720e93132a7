// One client of the gRPC port: HTTP/2 by nghttp2, calls and their messages.
// Not the methods: what each of them answers is in grpc_methods.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include <nghttp2/nghttp2.h>

#include "tests/support/test_service/served.h"

namespace test_service {

inline constexpr std::size_t kMaxMessage = 64 * 1024 * 1024;
inline constexpr std::size_t kPrefix = 5;  // a flag and four bytes of length, big-endian

// One call. Messages stand in `in` and `out` with their prefixes.
struct Call {
  enum class Method : std::uint8_t { unknown, plain, check, watch, echo, collect, repeat, chat };

  std::int32_t id = 0;
  Method method = Method::unknown;
  bool grpc = false;
  bool begun = false;     // the response's head was submitted
  bool finished = false;  // nothing will join `out`
  bool request_ended = false;
  unsigned status = 0;
  unsigned repeat = 3;
  std::string path;
  std::string encoding;  // grpc-encoding of the request, and so of the messages sent back
  std::string in;        // what is not a whole message yet
  std::string kept;
  std::string out;
  std::size_t out_at = 0;
  std::size_t owed = 0;  // flow control credit that waits until `out` is shorter
};

class GrpcConnection final : public Served {
 public:
  GrpcConnection(int fd, const Settings& settings);
  ~GrpcConnection() override;

  bool on_events(std::uint32_t events, std::uint64_t now_ms) override;
  bool on_timer(std::uint64_t) override { return true; }
  std::uint32_t wanted_events() const override;

 private:
  friend struct GrpcCallbacks;

  bool read_some();
  bool flush();
  void take_body(Call& call, std::string_view bytes);
  void take_messages(Call& call);
  void end_request(Call& call);
  // grpc_methods.cc
  void choose_method(Call& call) const;
  void on_message(Call& call, std::string_view message);
  void answer(Call& call);
  unsigned health_of(std::string_view message) const;

  // Lets `out` go, and the trailers behind it once the call is finished.
  void send(Call& call);
  void finish(Call& call, unsigned status);
  std::size_t unsent() const { return out_.size() - out_at_; }

  const Settings& settings_;
  nghttp2_session* session_ = nullptr;
  std::unordered_map<std::int32_t, std::unique_ptr<Call>> calls_;
  std::string plain_;
  std::string out_;
  std::size_t out_at_ = 0;
};

}  // namespace test_service
