// HeadScanner: collects a head (or trailer section) and refuses every byte that two parsers could
// read differently: bare CR, bare LF, NUL and other controls, folded lines.
// Not a parser of lines: fields.h is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "proxy/base/chain.h"
#include "proxy/http/fault.h"

namespace proxy::http1 {

class HeadScanner {
 public:
  enum class Result : std::uint8_t { more, complete, malformed, too_large };

  // Moves bytes of `in` to `block`, up to the end of the first empty line, or up to the byte that
  // is refused. `block` never gets longer than `limit`. Works with the bytes in any pieces.
  Result take(Chain& in, std::string& block, std::size_t limit);
  // Why take() found them malformed: the byte in question is the first of `in`.
  http::Fault fault(const Chain& in) const noexcept;
  void reset() noexcept { *this = HeadScanner(); }

 private:
  Result scan(std::span<const std::byte> bytes, std::size_t& taken) noexcept;

  bool after_cr_ = false;
  bool at_line_start_ = true;
};

}  // namespace proxy::http1
