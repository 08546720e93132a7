// Small questions about HTTP text: tokens, optional whitespace, comma lists, case.
// Not about any particular field: framing.h and hop_headers.h know what their lists mean.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace proxy::http {

inline constexpr char to_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// ASCII only, as everything in a head that is compared without case.
bool equals_ignore_case(std::string_view a, std::string_view b) noexcept;

// tchar of RFC 9110 5.6.2.
bool is_token_char(char c) noexcept;
// One or more tchars.
bool is_token(std::string_view text) noexcept;
// Visible ASCII, spaces, tabs and bytes from 0x80: what a field value may hold (RFC 9110 5.5).
bool is_field_value(std::string_view text) noexcept;

// Without the spaces and tabs at both ends.
std::string_view trim_ows(std::string_view text) noexcept;

// Takes the next element (trimmed, perhaps empty) off a comma list; false when there is none left.
// Quoted strings are not looked into: the lists read here hold tokens only.
bool next_element(std::string_view& list, std::string_view& element) noexcept;

}  // namespace proxy::http
