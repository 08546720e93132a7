// Outbox: what one stream is sending: frames its body, and tells body bytes from framing in what
// the transport reports as sent.
// Not a queue without bound by itself: a user who waits for on_sent keeps it short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "proxy/base/chain.h"
#include "proxy/http/header_map.h"
#include "proxy/http1/writer.h"

namespace proxy::http1 {

class Outbox {
 public:
  // For the next stream; everything of the last one must have left, or is dropped.
  void reset() noexcept;

  // Where heads are written; body bytes never go here.
  Chain& heads() noexcept { return framed_; }
  // From here on the body of the message whose head has just been written. `discard`: it has one
  // in name only (an answer to HEAD), so the bytes go nowhere.
  void begin_body(OutgoingBody body, bool discard) noexcept;

  // Body bytes. False when there are more than the head promised.
  bool add(ChunkPool& pool, Chain body);
  // The body is complete. False when there is less than the head promised.
  bool end(http::HeaderMap trailers);
  bool ended() const noexcept { return ended_; }

  // Everything that can go now, framed.
  Chain take(ChunkPool& pool);
  // The transport has sent so many bytes: how many of them were body.
  std::size_t sent(std::size_t bytes) noexcept;
  // Body bytes that were discarded and are to be reported as sent.
  std::size_t take_discarded() noexcept;

  // Nothing is waiting to be taken.
  bool empty() const noexcept {
    return framed_.empty() && body_.empty() && (!ended_ || end_written_);
  }
  // Nothing is waiting, here or in the transport.
  bool drained() const noexcept { return empty() && first_ == segments_.size(); }
  // Bytes that take() has handed out since reset.
  std::uint64_t taken() const noexcept { return taken_; }

 private:
  struct Segment {
    std::size_t bytes;
    bool body;
  };
  void note(std::size_t bytes, bool body);

  Chain framed_;  // heads, not noted yet
  Chain body_;    // not framed yet
  http::HeaderMap trailers_;
  OutgoingBody form_;
  bool discard_ = false;
  bool ended_ = false;
  bool end_written_ = false;
  std::uint64_t added_ = 0;
  std::uint64_t taken_ = 0;
  std::size_t discarded_ = 0;
  std::vector<Segment> segments_;  // taken and not yet sent, from first_ on
  std::size_t first_ = 0;
};

}  // namespace proxy::http1
