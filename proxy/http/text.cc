// HTTP text: character classes by table.
// Not locale-aware, on purpose.
#include "proxy/http/text.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace proxy::http {
namespace {

constexpr auto kTokenChars = [] {
  std::array<bool, 256> table{};
  for (unsigned c = '0'; c <= '9'; ++c) table[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (unsigned c = 'A'; c <= 'Z'; ++c) table[c] = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~"))
    table[static_cast<unsigned char>(c)] = true;
  return table;
}();

// to_lower() of eight characters at once: bit 7 of each sum says "at least" its character.
std::uint64_t to_lower8(std::uint64_t text) noexcept {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  const std::uint64_t low = text & kEach * 0x7f;
  const std::uint64_t from_a = low + kEach * (0x80 - 'A');
  const std::uint64_t past_z = low + kEach * (0x80 - 'Z' - 1);
  const std::uint64_t upper = (from_a ^ past_z) & ~text & kEach * 0x80;
  return text | upper >> 2;
}

// Whether any of eight characters is below 0x20, or 0x7f. Bit 7 as above; what has it set in the
// text itself (obs-text) is no control character.
bool has_control8(std::uint64_t text) noexcept {
  constexpr std::uint64_t kEach = 0x0101010101010101;
  const std::uint64_t low = text & kEach * 0x7f;
  const std::uint64_t from_space = low + kEach * (0x80 - 0x20);
  const std::uint64_t is_delete = low + kEach;
  return ((~from_space | is_delete) & ~text & kEach * 0x80) != 0;
}

template <class Word>
std::uint64_t load(const char* from) noexcept {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

}  // namespace

bool equals_ignore_case(std::string_view a, std::string_view b) noexcept {
  const std::size_t size = a.size();
  if (size != b.size()) return false;
  if (size < 4) {
    for (std::size_t i = 0; i < size; ++i) {
      if (to_lower(a[i]) != to_lower(b[i])) return false;
    }
    return true;
  }
  // The last word may look at some characters a second time.
  const auto same = [&](auto word, std::size_t at) {
    using Word = decltype(word);
    return to_lower8(load<Word>(a.data() + at)) == to_lower8(load<Word>(b.data() + at));
  };
  if (size < 8) return same(std::uint32_t{}, 0) && same(std::uint32_t{}, size - 4);
  for (std::size_t i = 0; i + 8 < size; i += 8) {
    if (!same(std::uint64_t{}, i)) return false;
  }
  return same(std::uint64_t{}, size - 8);
}

bool is_token_char(char c) noexcept {
  return kTokenChars[static_cast<unsigned char>(c)];
}

bool is_token(std::string_view text) noexcept {
  for (const char c : text) {
    if (!is_token_char(c)) return false;
  }
  return !text.empty();
}

bool is_field_value(std::string_view text) noexcept {
  const auto allowed = [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
  };
  while (text.size() >= 8) {
    // A word with a tab or worse in it is looked at again, character by character.
    if (has_control8(load<std::uint64_t>(text.data())) &&
        !std::ranges::all_of(text.substr(0, 8), allowed)) {
      return false;
    }
    text.remove_prefix(8);
  }
  return std::ranges::all_of(text, allowed);
}

std::string_view trim_ows(std::string_view text) noexcept {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool next_element(std::string_view& list, std::string_view& element) noexcept {
  if (list.data() == nullptr) return false;
  const std::size_t comma = list.find(',');
  element = trim_ows(list.substr(0, comma));
  list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  return true;
}

}  // namespace proxy::http
