// zlib behind GzipStream.
// Level 1: metrics text shrinks tenfold even so, and a scrape shall not cost CPU.
#include "proxy/server/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <exception>

#include "proxy/http/text.h"

namespace proxy::server {

namespace {

// q=0, q=0.0, q=0.00, q=0.000: not acceptable (RFC 9110 12.4.2). `weight` is what follows the
// coding, "" or ";q=0.5".
bool refuses(std::string_view weight) noexcept {
  if (!weight.starts_with(';')) return false;
  weight = http::trim_ows(weight.substr(1));
  if (weight.size() < 2 || http::to_lower(weight[0]) != 'q' || weight[1] != '=') return false;
  return weight.substr(2).find_first_not_of("0.") == std::string_view::npos;
}

}  // namespace

bool accepts_gzip(std::string_view accept_encoding) noexcept {
  bool any = false;
  std::string_view item;
  while (http::next_element(accept_encoding, item)) {
    const std::size_t semicolon = std::min(item.find(';'), item.size());
    const bool refused = refuses(item.substr(semicolon));
    item = http::trim_ows(item.substr(0, semicolon));
    // "x-gzip" is the old name (RFC 9110 8.4.1.3).
    if (http::equals_ignore_case(item, "gzip") || http::equals_ignore_case(item, "x-gzip")) {
      return !refused;
    }
    if (item == "*") any = !refused;
  }
  return any;
}

GzipStream::GzipStream() : zlib_(std::make_unique<z_stream>()) {
  constexpr int kGzipFrame = 16;
  if (deflateInit2(zlib_.get(), 1, Z_DEFLATED, 15 + kGzipFrame, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    std::terminate();  // out of memory
  }
}

GzipStream::~GzipStream() {
  deflateEnd(zlib_.get());
}

void GzipStream::add(std::string_view text, bool last, Chain& out, ChunkPool& chunks) {
  zlib_->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  zlib_->avail_in = static_cast<uInt>(text.size());
  int result = Z_OK;
  do {
    const auto room = out.room(chunks, 4000);
    zlib_->next_out = reinterpret_cast<Bytef*>(room.data());
    zlib_->avail_out = static_cast<uInt>(room.size());
    result = deflate(zlib_.get(), last ? Z_FINISH : Z_NO_FLUSH);
    out.commit(room.size() - zlib_->avail_out);
  } while (zlib_->avail_out == 0 && result != Z_STREAM_END);
}

}  // namespace proxy::server
