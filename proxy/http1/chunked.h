// ChunkedReader: the chunked transfer coding (RFC 9112 7.1), strict and bounded.
// Not llhttp's: that one takes extensions of any length and answers byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/base/chain.h"
#include "proxy/http/header_map.h"
#include "proxy/http1/fields.h"
#include "proxy/http1/head_scanner.h"
#include "proxy/http1/limits.h"

namespace proxy::http1 {

class ChunkedReader {
 public:
  enum class Result : std::uint8_t { more, complete, malformed };

  void reset() noexcept;
  // Takes what it can from `in`; body bytes go to `body` (by reference where they are not small).
  // `body` may have got bytes with every result. `trailers` is cleaned (hop_headers.h) and valid
  // with `complete`.
  Result read(Chain& in, Chain& body, http::HeaderMap& trailers, MessageKind kind,
              const Limits& limits);
  // Valid with `malformed`.
  http::Fault fault() const noexcept { return fault_; }

 private:
  enum class State : std::uint8_t {
    size_first,
    size,
    extension,
    size_lf,
    data,
    data_cr,
    data_lf,
    trailers,
  };
  // Takes one byte of a chunk's lines.
  http::Fault step(char c, const Limits& limits) noexcept;
  Result read_trailers(Chain& in, http::HeaderMap& trailers, MessageKind kind,
                       const Limits& limits);

  State state_ = State::size_first;
  http::Fault fault_ = http::Fault::none;
  unsigned digits_ = 0;
  std::uint64_t left_ = 0;  // of this chunk's data
  std::size_t extension_bytes_ = 0;
  std::size_t extensions_bytes_ = 0;
  HeadScanner scanner_;
};

}  // namespace proxy::http1
