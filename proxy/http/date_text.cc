// The date as RFC 9110 5.6.7 prefers it.
// Not locale-aware: strftime's %a and %b are, but nobody calls setlocale().
#include "proxy/http/date_text.h"

#include <ctime>

namespace proxy::http {

std::string_view DateText::at(std::uint64_t now_us) noexcept {
  const std::uint64_t second = now_us / 1'000'000;
  if (second != second_) {
    second_ = second;
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    std::strftime(text_.data(), text_.size(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  }
  return text_.data();
}

}  // namespace proxy::http
