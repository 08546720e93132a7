// Accept-Encoding, and the compressor against zlib's own decompressor.
// Not the listener that uses them.
#include "proxy/server/gzip.h"

#include <zlib.h>

#include <string>

#include "tests/support/catch.h"
#include "tests/unit/server/support.h"

using namespace proxy;
using namespace proxy::server;

TEST_CASE("who wants gzip", "[unit]") {
  for (const char* yes :
       {"gzip", "GZIP", "*", "deflate, gzip;q=1.0, *;q=0.5", "gzip;q=0.001", "identity,gzip",
        " gzip ; q=0.5", "x-gzip", "*;q=0, gzip", "gzip;q=0.1, *;q=0", "br;q=0, gzip"}) {
    INFO(yes);
    CHECK(accepts_gzip(yes));
  }
  for (const char* no :
       {"", "identity", "deflate", "gzip;q=0", "gzip;q=0.000", "gzip; q=0", "gzip;Q=0", "*;q=0",
        "gzipped", "not-gzip", "identity;q=1, gzip;q=0", ",,,", ";q=1", "gzip;q=0, *"}) {
    INFO(no);
    CHECK_FALSE(accepts_gzip(no));
  }
}

TEST_CASE("what is compressed comes back, in any pieces", "[unit]") {
  ChunkPool chunks;
  {
    std::string text;
    for (int i = 0; i < 40'000; ++i)
      text += "istio_requests_total{n=\"" + std::to_string(i * 7919) + "\"} 1\n";
    const std::size_t piece =
        GENERATE(std::size_t{1'000}, std::size_t{65'536}, std::size_t{5'000'000});
    GzipStream gzip;
    Chain out;
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t n = std::min(piece, text.size() - at);
      gzip.add(std::string_view(text).substr(at, n), at + n == text.size(), out, chunks);
      at += n;
    }
    std::string packed(out.size(), '\0');
    out.copy_to(std::as_writable_bytes(std::span(packed)));
    CHECK(packed.size() < text.size() / 4);
    CHECK(test::gunzip(packed) == text);
  }
  CHECK(chunks.outstanding() == 0);
}

TEST_CASE("nothing compresses to an empty file", "[unit]") {
  ChunkPool chunks;
  GzipStream gzip;
  Chain out;
  gzip.add("", true, out, chunks);
  std::string packed(out.size(), '\0');
  out.copy_to(std::as_writable_bytes(std::span(packed)));
  CHECK(test::gunzip(packed).empty());
  CHECK(packed.size() == 20);
}
