// Implementation of grpc.h.
// Not the answers the proxy makes itself: reply.cc.
#include "proxy/http/grpc.h"

#include <algorithm>
#include <charconv>

namespace proxy::http {

bool is_grpc(const HeaderMap& headers) noexcept {
  constexpr std::string_view kType = "application/grpc";
  const std::string_view type = headers.get(NameId::content_type).value_or("");
  return type.starts_with(kType) && (type.size() == kType.size() || type[kType.size()] == '+');
}

std::optional<int> grpc_status_in(const HeaderMap& headers) noexcept {
  constexpr int kHighest = 16;
  const std::string_view text = headers.get(NameId::grpc_status).value_or("");
  if (text.empty()) return std::nullopt;
  unsigned status = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), status);
  if (error != std::errc() || end != text.data() + text.size() || status > kHighest) {
    return kInvalidGrpcStatus;
  }
  return static_cast<int>(status);
}

int grpc_status_from_http(unsigned status) noexcept {
  switch (status) {
    case 400:
      return 13;  // internal
    case 401:
      return 16;  // unauthenticated
    case 403:
      return 7;  // permission denied
    case 404:
      return 12;  // unimplemented
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;  // unavailable
    default:
      return 2;  // unknown
  }
}

std::optional<std::chrono::microseconds> grpc_timeout_in(const HeaderMap& headers) noexcept {
  using std::chrono::microseconds;
  constexpr std::size_t kMaxDigits = 8;
  std::string_view text = headers.get(NameId::grpc_timeout).value_or("");
  if (text.size() < 2 || text.size() > kMaxDigits + 1) return std::nullopt;
  const char unit = text.back();
  text.remove_suffix(1);
  if (!std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::int64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  if (value == 0) return std::nullopt;
  switch (unit) {
    case 'H':
      return std::chrono::hours(value);
    case 'M':
      return std::chrono::minutes(value);
    case 'S':
      return std::chrono::seconds(value);
    case 'm':
      return std::chrono::milliseconds(value);
    case 'u':
      return microseconds(value);
    case 'n':
      return std::chrono::ceil<microseconds>(std::chrono::nanoseconds(value));
    default:
      return std::nullopt;
  }
}

std::string grpc_message(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= ' ' && byte <= '~' && byte != '%') {
      out += c;
    } else {
      out += {'%', kDigits[byte >> 4], kDigits[byte & 0xF]};
    }
  }
  return out;
}

void GrpcMessageCounter::add(const Chain& body) noexcept {
  for (const Slice* slice = body.slices(); slice != nullptr; slice = slice->next) {
    const auto bytes = slice->bytes();
    for (std::size_t at = 0; at < bytes.size();) {
      if (prefix_ == 0 && left_ > 0) {
        const std::size_t step = std::min<std::size_t>(left_, bytes.size() - at);
        at += step;
        left_ -= static_cast<std::uint32_t>(step);
        continue;
      }
      if (prefix_ == 0) {
        ++messages_;
      } else {
        left_ = left_ << 8 | std::to_integer<std::uint32_t>(bytes[at]);
      }
      ++at;
      prefix_ = static_cast<std::uint8_t>((prefix_ + 1) % kPrefix);
    }
  }
}

}  // namespace proxy::http
