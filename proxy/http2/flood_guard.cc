// Buckets by frame type.
// Not a judge of single frames: each of these is legal.
#include "proxy/http2/flood_guard.h"

#include <algorithm>

namespace proxy::http2 {

bool Bucket::take(std::uint64_t now_ms) noexcept {
  if (filled_ms_ == 0) filled_ms_ = now_ms;
  const std::uint64_t fresh = (now_ms - filled_ms_) * rate_.per_second / 1000;
  if (fresh > 0) {
    left_ = std::min<std::uint64_t>(rate_.burst, left_ + fresh);
    filled_ms_ = now_ms;
  }
  if (left_ == 0) return false;
  --left_;
  return true;
}

void Bucket::earn(std::uint32_t amount) noexcept {
  left_ = std::min<std::uint64_t>(rate_.burst, left_ + amount);
}

FloodGuard::FloodGuard(const FloodLimits& limits) noexcept
    : limits_(limits),
      resets_(limits.resets),
      provoked_(limits.provoked_resets),
      refused_(limits.refused_streams),
      settings_(limits.settings),
      pings_(limits.pings),
      empty_data_(limits.empty_data),
      window_updates_(limits.window_updates),
      priorities_(limits.priorities),
      goaways_(limits.goaways),
      extensions_(limits.extensions) {}

bool FloodGuard::received(const FrameHeader& frame, std::uint64_t now_ms,
                          FloodKind& kind) noexcept {
  switch (frame.type) {
    case FrameType::data:
      if (frame.length == 0 && (frame.flags & kEndStream) == 0) {
        kind = FloodKind::empty_data;
        return empty_data_.take(now_ms);
      }
      // gRPC asks how wide the path is with a PING for what it receives.
      if (frame.length > 0) pings_.earn(1);
      return true;
    case FrameType::headers:
      frames_of_head_ = 1;
      // A request takes a few WINDOW_UPDATEs, a PRIORITY of those that still send them, and maybe a
      // frame that is there only to be ignored (RFC 8701).
      window_updates_.earn(4);
      priorities_.earn(4);
      extensions_.earn(1);
      pings_.earn(1);
      return true;
    case FrameType::continuation:
      kind = FloodKind::continuation;
      return ++frames_of_head_ <= limits_.frames_per_head;
    case FrameType::rst_stream:
      kind = FloodKind::rapid_reset;
      return resets_.take(now_ms);
    case FrameType::settings:
      kind = FloodKind::settings;
      return (frame.flags & kAck) != 0 || settings_.take(now_ms);
    case FrameType::ping:
      kind = FloodKind::ping;
      return pings_.take(now_ms);
    case FrameType::window_update:
      kind = FloodKind::window_update;
      return window_updates_.take(now_ms);
    case FrameType::push_promise:  // never allowed: nghttp2 ends the connection
      return true;
    case FrameType::goaway:
      kind = FloodKind::goaway;
      return goaways_.take(now_ms);
    case FrameType::priority:
    case FrameType::priority_update:
      kind = FloodKind::priority;
      return priorities_.take(now_ms);
  }
  kind = FloodKind::extension;
  return extensions_.take(now_ms);
}

void FloodGuard::sent_data() noexcept {
  window_updates_.earn(10);
  pings_.earn(1);
}

}  // namespace proxy::http2
