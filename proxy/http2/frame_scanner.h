// FrameScanner: finds the frames in a stream of bytes and reads their headers (RFC 9113 4.1).
// Not a parser of payloads: those are nghttp2's. It looks first, so that what nghttp2 would let
// pass can be judged before, and so that each frame is counted.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace proxy::http2 {

enum class FrameType : std::uint8_t {
  data = 0,
  headers = 1,
  priority = 2,
  rst_stream = 3,
  settings = 4,
  push_promise = 5,
  ping = 6,
  goaway = 7,
  window_update = 8,
  continuation = 9,
  priority_update = 16,  // RFC 9218 7.1
};

inline constexpr std::uint8_t kEndStream = 0x1;
inline constexpr std::uint8_t kAck = 0x1;
inline constexpr std::uint8_t kEndHeaders = 0x4;
inline constexpr std::uint8_t kPadded = 0x8;
inline constexpr std::size_t kFrameHeader = 9;

struct FrameHeader {
  std::uint32_t length = 0;
  FrameType type = FrameType::data;  // any number
  std::uint8_t flags = 0;
  std::int32_t stream = 0;
};

class FrameScanner {
 public:
  // `preface`: the stream begins with the client's 24 bytes.
  explicit FrameScanner(bool preface) noexcept : skip_(preface ? 24 : 0) {}

  // Takes bytes from the front of `in`, up to the end of the frame they belong to; returns how
  // many. With `judge` true the header that these bytes completed is to be looked at before they
  // are passed on (for PRIORITY: its payload is complete as well).
  std::size_t take(std::span<const std::byte> in, bool& judge) noexcept;

  const FrameHeader& header() const noexcept { return header_; }
  // Of a PRIORITY: the stream that it is to depend on.
  std::int32_t dependency() const noexcept;

 private:
  std::array<std::uint8_t, kFrameHeader + 4> bytes_{};
  std::size_t have_ = 0;
  std::size_t skip_ = 0;  // of the preface or a payload, to the end of the frame
  FrameHeader header_;
};

}  // namespace proxy::http2
