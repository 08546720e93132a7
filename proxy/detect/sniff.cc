// Prefix comparisons, and the shape of a request line.
#include "proxy/detect/sniff.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace proxy::detect {
namespace {

constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static_assert(kPreface.size() == kPrefaceSize);
constexpr std::string_view kVersion = " HTTP/";
constexpr char kTlsHandshake = 0x16;

constexpr std::array<std::string_view, 34> kMethods{
    "GET",         "HEAD",       "POST",       "PUT",   "DELETE",   "OPTIONS", "PATCH",
    "CONNECT",     "TRACE",      "COPY",       "LOCK",  "MKCOL",    "MOVE",    "PROPFIND",
    "PROPPATCH",   "SEARCH",     "UNLOCK",     "BIND",  "REBIND",   "UNBIND",  "ACL",
    "REPORT",      "MKACTIVITY", "CHECKOUT",   "MERGE", "M-SEARCH", "NOTIFY",  "SUBSCRIBE",
    "UNSUBSCRIBE", "PURGE",      "MKCALENDAR", "LINK",  "UNLINK",   "SOURCE"};

// One begins with the other.
bool agree(std::string_view a, std::string_view b) noexcept {
  const std::size_t n = std::min(a.size(), b.size());
  return a.substr(0, n) == b.substr(0, n);
}

Protocol request_line(std::string_view text) noexcept {
  while (text.starts_with("\r\n") || text.starts_with('\n')) {
    text.remove_prefix(text.front() == '\n' ? 1 : 2);
  }
  if (text.empty() || text == "\r") return Protocol::unclear;
  const std::size_t space = text.find(' ');
  const std::string_view method = text.substr(0, space);
  if (space == std::string_view::npos) {
    const bool may_be = std::any_of(kMethods.begin(), kMethods.end(),
                                    [&](auto known) { return known.starts_with(method); });
    return may_be ? Protocol::unclear : Protocol::tcp;
  }
  if (std::find(kMethods.begin(), kMethods.end(), method) == kMethods.end()) return Protocol::tcp;
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  if (line.find(kVersion, space + 1) != std::string_view::npos) return Protocol::http1;
  return end == std::string_view::npos ? Protocol::unclear : Protocol::tcp;
}

}  // namespace

Protocol sniff(std::span<const std::byte> bytes) noexcept {
  const std::size_t seen = std::min(bytes.size(), kMaxSniffed);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), seen);
  if (text.empty()) return Protocol::unclear;
  if (text.front() == kTlsHandshake) {
    if (text.size() == 1) return Protocol::unclear;
    return text[1] == 3 ? Protocol::tls : Protocol::tcp;
  }
  if (agree(text, kPreface)) {
    return text.size() >= kPreface.size() ? Protocol::http2 : Protocol::unclear;
  }
  const Protocol line = request_line(text);
  return line == Protocol::unclear && seen == kMaxSniffed ? Protocol::http1 : line;
}

Protocol http_version(std::span<const std::byte> bytes) noexcept {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!agree(text, kPreface)) return Protocol::http1;
  return text.size() >= kPreface.size() ? Protocol::http2 : Protocol::unclear;
}

bool is_settings(std::span<const std::byte, kFrameHeadSize> head) noexcept {
  constexpr unsigned kSetting = 6;                // bytes each
  constexpr unsigned kUsualMaxFrame = 16 * 1024;  // RFC 9113 6.5.2: no more was agreed yet
  const auto at = [&](std::size_t i) { return std::to_integer<unsigned>(head[i]); };
  const unsigned length = at(0) << 16 | at(1) << 8 | at(2);
  const unsigned type = at(3);
  const unsigned flags = at(4);
  const unsigned stream = at(5) | at(6) | at(7) | at(8);
  return length % kSetting == 0 && length <= kUsualMaxFrame && type == 4 && flags == 0 &&
         stream == 0;
}

}  // namespace proxy::detect
