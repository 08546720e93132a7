// FloodGuard: counts what a peer does on one connection and says when it is too much.
// Not a timer: its buckets fill up by the clock whenever they are asked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/http2/frame_scanner.h"
#include "proxy/http2/limits.h"

namespace proxy::http2 {

class Bucket {
 public:
  explicit Bucket(Rate rate) noexcept : rate_(rate), left_(rate.burst) {}
  // False when nothing is left.
  bool take(std::uint64_t now_ms) noexcept;
  // Useful work earns some back, never above the burst.
  void earn(std::uint32_t amount) noexcept;

 private:
  Rate rate_;
  std::uint64_t left_;
  std::uint64_t filled_ms_ = 0;
};

class FloodGuard {
 public:
  explicit FloodGuard(const FloodLimits& limits) noexcept;

  // A frame header that was received. False: `kind` was overdone.
  bool received(const FrameHeader& frame, std::uint64_t now_ms, FloodKind& kind) noexcept;
  // A DATA frame that was received with nothing in it but padding. False: too many without a byte.
  bool only_padding(std::uint64_t now_ms) noexcept { return empty_data_.take(now_ms); }
  // An RST_STREAM of ours for a fault of the peer, or because it opened too many streams.
  bool provoked_reset(std::uint64_t now_ms) noexcept { return provoked_.take(now_ms); }
  bool refused_stream(std::uint64_t now_ms) noexcept { return refused_.take(now_ms); }
  // A request of ours: its server may end it with an RST_STREAM (RFC 9113 8.1).
  void sent_request() noexcept { resets_.earn(1); }
  // A DATA frame of ours: it may be answered with WINDOW_UPDATEs.
  void sent_data() noexcept;

 private:
  const FloodLimits& limits_;
  Bucket resets_;
  Bucket provoked_;
  Bucket refused_;
  Bucket settings_;
  Bucket pings_;
  Bucket empty_data_;
  Bucket window_updates_;
  Bucket priorities_;
  Bucket goaways_;
  Bucket extensions_;
  std::uint32_t frames_of_head_ = 0;
};

}  // namespace proxy::http2
