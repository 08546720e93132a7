// Strict UTF-8 as Prometheus and JSON readers want it: cleaning and escaping of foreign bytes.
// Not a text library.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace telemetry {

inline constexpr std::size_t kMaxLabelBytes = 256;
inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length of the well-formed sequence at the start of non-empty `text` (no overlong form, no
// surrogate, at most U+10FFFF); 0 if there is none.
std::size_t utf8_length(std::string_view text) noexcept;

// Makes a label value of foreign bytes: bytes that are not UTF-8 and control characters become
// U+FFFD, what exceeds kMaxLabelBytes is cut before a code point. True: something was changed.
bool clean_label(std::string& value);

// Appends `text` as a JSON string with its quotes; bytes that are not UTF-8 become U+FFFD.
void append_json(std::string& out, std::string_view text);

// Appends `text` with control characters, backslashes and bytes that are not UTF-8 as \xNN.
void append_printable(std::string& out, std::string_view text);

}  // namespace telemetry
