// Fuzz target for the look into a ClientHello: nothing outside the bytes is read, what is asked for
// is bounded, and a verdict does not depend on how the bytes came.
// The first byte chooses where to cut.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "tls/client_hello.h"

namespace {

using tls::Peek;

void must(bool holds) {
  if (!holds) std::abort();
}

// A copy of its own, so that a sanitizer sees each byte read behind the end.
Peek peek(std::span<const std::uint8_t> bytes) {
  std::vector<std::byte> exact;
  exact.reserve(bytes.size());
  for (const std::uint8_t byte : bytes) exact.push_back(std::byte{byte});
  return tls::peek(exact);
}

void run(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const std::size_t choice = input.front();
  input = input.subspan(1);
  const Peek whole = peek(input);
  if (whole.kind == Peek::Kind::need_more) {
    must(whole.wanted > input.size());
    must(whole.wanted <= tls::kMaxClientHello);
  }
  if (whole.kind == Peek::Kind::hello) {
    must(!whole.hello.versions.empty());
    must(whole.hello.sni.size() <= input.size());
  }
  const Peek part = peek(input.first(input.size() * choice / 256));
  if (part.kind == Peek::Kind::need_more) return;
  must(part.kind == whole.kind);
  must(part.hello.sni == whole.hello.sni);
  must(part.hello.alpn == whole.hello.alpn);
  must(part.hello.versions == whole.hello.versions);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  run({bytes, size});
  return 0;
}
