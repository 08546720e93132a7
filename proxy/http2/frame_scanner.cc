// Nine bytes at a time, and a count of what to skip.
// Not a check of anything.
#include "proxy/http2/frame_scanner.h"

#include <algorithm>
#include <cstring>

namespace proxy::http2 {
namespace {

std::uint32_t read32(const std::uint8_t* at) noexcept {
  return std::uint32_t{at[0]} << 24 | std::uint32_t{at[1]} << 16 | std::uint32_t{at[2]} << 8 |
         std::uint32_t{at[3]};
}

}  // namespace

std::size_t FrameScanner::take(std::span<const std::byte> in, bool& judge) noexcept {
  judge = false;
  std::size_t used = 0;
  if (skip_ == 0) {
    // A PRIORITY is judged by its first four bytes of payload, too.
    const bool priority = have_ >= kFrameHeader;
    const std::size_t want = priority ? bytes_.size() : kFrameHeader;
    used = std::min(want - have_, in.size());
    std::memcpy(bytes_.data() + have_, in.data(), used);
    have_ += used;
    if (have_ < want) return used;
    if (priority) {
      have_ = 0;
      judge = true;
      skip_ = header_.length - 4;
    } else {
      header_.length = read32(bytes_.data()) >> 8;
      header_.type = static_cast<FrameType>(bytes_[3]);
      header_.flags = bytes_[4];
      header_.stream = static_cast<std::int32_t>(read32(bytes_.data() + 5) & 0x7fffffff);
      if (header_.type == FrameType::priority && header_.length >= 4) return used;
      have_ = 0;
      judge = true;
      skip_ = header_.length;
    }
    // What is judged goes alone: the payload follows with the next call.
    return used;
  }
  used = std::min(skip_, in.size());
  skip_ -= used;
  return used;
}

std::int32_t FrameScanner::dependency() const noexcept {
  return static_cast<std::int32_t>(read32(bytes_.data() + kFrameHeader) & 0x7fffffff);
}

}  // namespace proxy::http2
