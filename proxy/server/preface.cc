// Comparison with the 24 bytes of the client connection preface.
// Not the SETTINGS frame that must follow: the HTTP/2 codec wants to see that.
#include "proxy/server/preface.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

namespace proxy::server {
namespace {
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
}  // namespace

Preface find_preface(const Chain& bytes) noexcept {
  std::array<std::byte, kPreface.size()> seen;
  const std::size_t size = std::min(bytes.size(), seen.size());
  bytes.copy_to(std::span(seen).first(size));
  if (std::memcmp(seen.data(), kPreface.data(), size) != 0) return Preface::http1;
  return size == kPreface.size() ? Preface::http2 : Preface::need_more;
}

}  // namespace proxy::server
