// The server's half of RFC 6455, as far as an echo needs it.
// Not a WebSocket library: no fragments are joined, no extension is spoken; frames go back as they
// come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace test_service {

// Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455, 4.2.2).
std::string websocket_accept(std::string_view key);

// Unmasks the client's frames and writes each back, streaming, so that no frame is too long.
class FrameEcho {
 public:
  enum class Step : std::uint8_t { more, closed, malformed };

  // Consumes from the front of `in`, appends to `out`. `closed` once a close frame has gone back.
  Step next(std::string_view& in, std::string& out);

 private:
  bool take_header(std::string_view& in, std::string& out);

  unsigned opcode_ = 0;
  std::uint64_t left_ = 0;
  unsigned char mask_[4] = {};
  std::size_t masked_ = 0;
  bool in_frame_ = false;
  bool bad_ = false;
};

}  // namespace test_service
