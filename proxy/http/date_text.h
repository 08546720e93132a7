// DateText: the Date of a response, as every codec adds it where there is none.
// Not a clock: the caller says when a second has passed.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace proxy::http {

// "Sun, 06 Nov 1994 08:49:37 GMT", made at most once a second.
class DateText {
 public:
  // `now_us`: any monotonic clock.
  std::string_view at(std::uint64_t now_us) noexcept;

 private:
  std::uint64_t second_ = ~std::uint64_t{0};
  std::array<char, 32> text_{};
};

}  // namespace proxy::http
