// Fuzz target for the HTTP/1 parsers: whole, split and bytewise reading must agree, memory must
// come back, and what is accepted must not be ambiguous.
// The first byte chooses request or response, and where to split.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/unit/http1/parse_all.h"

namespace proxy::test {
namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

// Whatever is refused is refused in all pieces; whatever passes is read alike.
void compare(const Told& whole, const Told& other) {
  must(whole.code == other.code);
  must(whole.heads == other.heads);
  must(whole.ends == other.ends);
  must(whole.trailers == other.trailers);
  if (whole.code == Code::none) must(whole.body == other.body);
}

// No accepted head carries what decides the next hop's framing.
void check_heads(const Told& told) {
  must(!told.leaked_framing);
  for (const std::string& head : told.heads) {
    must(head.find('\n') == std::string::npos);
    must(head.find('\r') == std::string::npos);
    must(head.find('\0') == std::string::npos);
  }
}

void run(std::string_view input) {
  if (input.empty()) return;
  const auto choice = static_cast<unsigned char>(input.front());
  input.remove_prefix(1);
  const std::size_t at = std::min<std::size_t>(choice >> 2, input.size());
  http1::Limits limits;
  limits.head_bytes = 4096;
  if ((choice & 1) == 0) {
    const Told whole = parse_requests(input, {}, limits);
    check_heads(whole);
    compare(whole, parse_requests(input, {at}, limits));
    compare(whole, parse_requests(input, every_byte(input), limits));
  } else {
    const ResponseSetting setting{.head = (choice & 2) != 0, .upgrade = "websocket", .eof = true};
    const Told whole = parse_responses(input, {}, setting, limits);
    check_heads(whole);
    compare(whole, parse_responses(input, {at}, setting, limits));
    compare(whole, parse_responses(input, every_byte(input), setting, limits));
  }
}

}  // namespace
}  // namespace proxy::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  proxy::test::run({reinterpret_cast<const char*>(bytes), size});
  return 0;
}
