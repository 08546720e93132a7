// Fuzz target for the count of gRPC messages: the input's first byte says how the rest is cut, and
// the count must be that of a reader which has everything at once.
// Not the reading of gRPC's headers (tests/unit/http/grpc_test.cc).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "proxy/http/grpc.h"

namespace {

// By the definition: prefix after prefix, each followed by as much as it says.
std::uint64_t count(std::string_view bytes) {
  std::uint64_t messages = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    ++messages;
    if (bytes.size() - at < 5) break;
    std::uint64_t length = 0;
    for (std::size_t i = at + 1; i < at + 5; ++i) {
      length = length * 256 + static_cast<unsigned char>(bytes[i]);
    }
    if (bytes.size() - at - 5 < length) break;
    at += 5 + length;
  }
  return messages;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  proxy::ChunkPool pool;
  proxy::http::GrpcMessageCounter counter;
  unsigned cut = bytes[0];
  for (std::size_t at = 0; at < input.size();) {
    cut = cut * 1103515245U + 12345U;
    const std::string_view piece = input.substr(at, 1 + (cut >> 16) % 9);
    proxy::Chain body;
    body.append_copy(pool, piece);
    counter.add(body);
    at += piece.size();
  }
  if (counter.messages() != count(input)) std::abort();
  return 0;
}
