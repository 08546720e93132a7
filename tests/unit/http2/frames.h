// Raw HTTP/2 frames for tests: made byte by byte, and read back.
// Not a peer: nothing here knows what may follow what.
#pragma once

#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/http2/frame_scanner.h"
#include "proxy/http2/observer.h"

namespace proxy::test {

using http2::ErrorCode;
using http2::FrameType;

using FieldList = std::initializer_list<std::pair<std::string_view, std::string_view>>;

inline std::string be(std::uint64_t value, unsigned bytes) {
  std::string text;
  while (bytes-- > 0) text += static_cast<char>(value >> (8 * bytes) & 0xff);
  return text;
}

inline std::string frame(FrameType type, unsigned flags, std::uint32_t id,
                         std::string_view payload = {}) {
  std::string text = be(static_cast<std::uint32_t>(payload.size()), 3);
  text += static_cast<char>(type);
  text += static_cast<char>(flags);
  return text + be(id, 4) + std::string(payload);
}

// An HPACK integer behind a prefix (RFC 7541 5.1).
inline std::string hpack_int(unsigned first, unsigned bits, std::size_t value) {
  const std::size_t most = (std::size_t{1} << bits) - 1;
  if (value < most) return std::string(1, static_cast<char>(first | value));
  std::string text(1, static_cast<char>(first | most));
  for (value -= most; value >= 128; value /= 128) text += static_cast<char>(value % 128 + 128);
  return text + static_cast<char>(value);
}

// Literals without indexing, so that blocks can be cut and pasted.
inline std::string field(std::string_view name, std::string_view value) {
  std::string text(1, '\0');
  text += hpack_int(0, 7, name.size());
  text += name;
  text += hpack_int(0, 7, value.size());
  return text += value;
}
inline std::string block(FieldList fields) {
  std::string text;
  for (const auto& [name, value] : fields) text += field(name, value);
  return text;
}
inline std::string get_block(FieldList more = {}) {
  return block({{":method", "GET"},
                {":scheme", "http"},
                {":path", "/"},
                {":authority", "a.example"}}) +
         block(more);
}
inline std::string post_block(FieldList more = {}) {
  return block({{":method", "POST"},
                {":scheme", "http"},
                {":path", "/"},
                {":authority", "a.example"}}) +
         block(more);
}

inline constexpr unsigned kEnd = http2::kEndStream;
inline constexpr unsigned kWhole = http2::kEndHeaders;
inline constexpr unsigned kWholeEnd = http2::kEndHeaders | http2::kEndStream;

inline std::string headers(std::uint32_t id, std::string_view fields, unsigned flags = kWholeEnd) {
  return frame(FrameType::headers, flags, id, fields);
}
inline std::string data(std::uint32_t id, std::string_view bytes, unsigned flags = 0) {
  return frame(FrameType::data, flags, id, bytes);
}
inline std::string rst(std::uint32_t id, std::uint32_t code = 8) {
  return frame(FrameType::rst_stream, 0, id, be(code, 4));
}
inline std::string settings(
    std::initializer_list<std::pair<unsigned, std::uint32_t>> entries = {}) {
  std::string payload;
  for (const auto& [id, value] : entries) payload += be(id, 2) + be(value, 4);
  return frame(FrameType::settings, 0, 0, payload);
}
inline std::string settings_ack() {
  return frame(FrameType::settings, http2::kAck, 0);
}
inline std::string window_update(std::uint32_t id, std::uint32_t by) {
  return frame(FrameType::window_update, 0, id, be(by, 4));
}
inline std::string ping(unsigned flags = 0, std::string_view payload = "12345678") {
  return frame(FrameType::ping, flags, 0, payload);
}
inline std::string priority(std::uint32_t id, std::uint32_t on, unsigned weight = 16) {
  return frame(FrameType::priority, 0, id, be(on, 4) + static_cast<char>(weight - 1));
}
inline std::string goaway(std::uint32_t last, ErrorCode code) {
  return frame(FrameType::goaway, 0, 0, be(last, 4) + be(static_cast<std::uint32_t>(code), 4));
}
inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

struct Frame {
  FrameType type{};
  unsigned flags = 0;
  std::uint32_t id = 0;
  std::string payload;
  bool end_stream() const { return (flags & kEnd) != 0; }
  std::uint32_t number(std::size_t at = 0) const {
    std::uint32_t value = 0;
    for (std::size_t i = at; i < at + 4; ++i)
      value = value << 8 | static_cast<unsigned char>(payload.at(i));
    return value;
  }
};

// Takes bytes as they come; keeps the frames, and one decoder for all header blocks.
class FrameReader {
 public:
  FrameReader() { nghttp2_hd_inflate_new(&inflater_); }
  FrameReader(const FrameReader&) = delete;
  FrameReader& operator=(const FrameReader&) = delete;
  ~FrameReader() { nghttp2_hd_inflate_del(inflater_); }

  void read(std::string_view bytes) {
    rest_ += bytes;
    while (rest_.size() >= 9) {
      const auto at = [&](std::size_t i) { return static_cast<unsigned char>(rest_[i]); };
      const std::size_t length = std::size_t{at(0)} << 16 | std::size_t{at(1)} << 8 | at(2);
      if (rest_.size() < 9 + length) return;
      Frame frame{static_cast<FrameType>(at(3)), at(4), 0, rest_.substr(9, length)};
      frame.id = std::uint32_t{at(5)} << 24 | std::uint32_t{at(6)} << 16 |
                 std::uint32_t{at(7)} << 8 | at(8);
      rest_.erase(0, 9 + length);
      frames.push_back(std::move(frame));
    }
  }
  // "name: value\n" for each; call once a block, in order.
  std::string decode(std::string_view fields) {
    std::string text;
    const auto* at = reinterpret_cast<const std::uint8_t*>(fields.data());
    std::size_t left = fields.size();
    for (int flags = 0; (flags & NGHTTP2_HD_INFLATE_FINAL) == 0;) {
      nghttp2_nv nv;
      const auto used = nghttp2_hd_inflate_hd2(inflater_, &nv, &flags, at, left, 1);
      if (used < 0) return text + "!";
      at += used;
      left -= static_cast<std::size_t>(used);
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0) continue;
      text.append(reinterpret_cast<const char*>(nv.name), nv.namelen).append(": ");
      text.append(reinterpret_cast<const char*>(nv.value), nv.valuelen).append("\n");
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    return text;
  }

  std::vector<Frame> frames;

 private:
  std::string rest_;
  nghttp2_hd_inflater* inflater_ = nullptr;
};

}  // namespace proxy::test
