// GzipStream: zlib's deflate with a gzip frame, from strings into chunks.
// Not for requests that pass through: their bytes are never touched.
#pragma once

#include <memory>
#include <string_view>

#include "proxy/base/chain.h"

struct z_stream_s;

namespace proxy::server {

// Whether an Accept-Encoding value wants gzip (RFC 9110 12.5.3): named, or "*", not with q=0.
bool accepts_gzip(std::string_view accept_encoding) noexcept;

class GzipStream {
 public:
  GzipStream();
  ~GzipStream();
  // Compresses `text` into `out`; what is not yet due stays inside until `last`.
  void add(std::string_view text, bool last, Chain& out, ChunkPool& chunks);

 private:
  std::unique_ptr<z_stream_s> zlib_;
};

}  // namespace proxy::server
