// Limits of what one HTTP/1 message may look like.
// Not timeouts: those belong to connections and exchanges.
#pragma once

#include <cstddef>

namespace proxy::http1 {

struct Limits {
  std::size_t head_bytes = std::size_t{60} * 1024;  // request or status line and all fields
  std::size_t header_count = 100;
  std::size_t chunk_extension_bytes = 1024;        // of one chunk
  std::size_t chunk_extensions_bytes = 16 * 1024;  // of all chunks of a message
  std::size_t trailer_bytes = 8 * 1024;
  unsigned informational = 32;  // 1xx responses before the final one
};

}  // namespace proxy::http1
