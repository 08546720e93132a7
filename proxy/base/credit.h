// Credit: the whole of backpressure, one integer a direction of a stream.
// Not a switch: it is level, not edge, so asking twice is harmless and order does not matter.
#pragma once

#include <cstddef>

#include "proxy/base/assert.h"

namespace proxy {

class Credit {
 public:
  // `limit`: bytes that may be out with the user before reading stops.
  explicit Credit(std::size_t limit) noexcept : limit_(limit) {}

  void delivered(std::size_t bytes) noexcept { outstanding_ += bytes; }
  void consumed(std::size_t bytes) noexcept {
    ASSERT(bytes <= outstanding_);
    outstanding_ -= bytes;
  }
  bool may_read() const noexcept { return outstanding_ < limit_; }
  std::size_t outstanding() const noexcept { return outstanding_; }
  // Forgets what is out: its stream has ended and no one will return it.
  void clear() noexcept { outstanding_ = 0; }

 private:
  std::size_t limit_;
  std::size_t outstanding_ = 0;
};

}  // namespace proxy
