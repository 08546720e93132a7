// The comparison without case, and the characters of values, against the plain way of doing it.
// Not the lists and tokens: those are tried by the tests of what reads them.
#include "proxy/http/text.h"

#include <algorithm>
#include <string>

#include "tests/support/catch.h"

namespace proxy::http {
namespace {

bool same_slowly(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, &to_lower, &to_lower);
}

}  // namespace

TEST_CASE("texts of any length are compared without case", "[http]") {
  for (std::size_t size = 0; size <= 33; ++size) {
    const std::string text(size, 'k');
    CHECK(equals_ignore_case(text, std::string(size, 'K')));
    CHECK_FALSE(equals_ignore_case(text, std::string(size + 1, 'k')));
    for (std::size_t at = 0; at < size; ++at) {
      std::string other = text;
      other[at] = 'L';
      CAPTURE(size, at);
      CHECK_FALSE(equals_ignore_case(text, other));
    }
  }
}

TEST_CASE("only the letters of ASCII have a case", "[http]") {
  for (const std::size_t size : {1U, 4U, 7U, 8U, 9U}) {
    for (unsigned a = 0; a < 256; ++a) {
      for (unsigned b = 0; b < 256; ++b) {
        const std::string left(size, static_cast<char>(a));
        std::string right(size, static_cast<char>(a));
        right.back() = static_cast<char>(b);
        if (equals_ignore_case(left, right) == same_slowly(left, right)) continue;
        CAPTURE(size, a, b);
        FAIL("differs from the plain comparison");
      }
    }
  }
}

TEST_CASE("a control character makes no field value, wherever it stands", "[http]") {
  for (std::size_t size = 1; size <= 25; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      for (unsigned c = 0; c < 256; ++c) {
        for (const char around : {'a', '\t', '\x80'}) {
          std::string text(size, around);
          text[at] = static_cast<char>(c);
          const bool allowed = c == '\t' || (c >= 0x20 && c != 0x7f);
          if (is_field_value(text) == allowed) continue;
          CAPTURE(size, at, c, around);
          FAIL("differs from RFC 9110 5.5");
        }
      }
    }
  }
}

}  // namespace proxy::http
