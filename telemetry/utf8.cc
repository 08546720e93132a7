// Implementation of utf8.h. Unicode 15, table 3-7 (well-formed byte sequences).
#include "telemetry/utf8.h"

#include <cstdint>

namespace telemetry {
namespace {

constexpr std::string_view kHex = "0123456789abcdef";

std::uint8_t byte_at(std::string_view text, std::size_t i) noexcept {
  return static_cast<std::uint8_t>(text[i]);
}

bool is_control(std::uint8_t byte) noexcept {
  return byte < 0x20 || byte == 0x7F;
}

// Length of the run at the start of `text` that needs no attention in any form of output.
std::size_t plain_run(std::string_view text) noexcept {
  std::size_t i = 0;
  while (i < text.size()) {
    const std::uint8_t byte = byte_at(text, i);
    if (is_control(byte) || byte >= 0x80 || byte == '"' || byte == '\\') break;
    ++i;
  }
  return i;
}

}  // namespace

std::size_t utf8_length(std::string_view text) noexcept {
  const std::uint8_t first = byte_at(text, 0);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  std::uint8_t low = 0x80;
  std::uint8_t high = 0xBF;
  if (first >= 0xC2 && first <= 0xDF) {
    length = 2;
  } else if (first >= 0xE0 && first <= 0xEF) {
    length = 3;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    length = 4;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (text.size() < length) return 0;
  if (byte_at(text, 1) < low || byte_at(text, 1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte_at(text, i) & 0xC0) != 0x80) return 0;
  }
  return length;
}

bool clean_label(std::string& value) {
  std::string_view rest = value;
  std::string clean;
  bool changed = false;
  while (!rest.empty()) {
    const std::size_t length = utf8_length(rest);
    const bool bad = length == 0 || is_control(byte_at(rest, 0));
    const std::string_view piece = bad ? kReplacement : rest.substr(0, length);
    if (clean.size() + piece.size() > kMaxLabelBytes) {
      changed = true;
      break;
    }
    changed = changed || bad;
    clean += piece;
    rest.remove_prefix(length == 0 ? 1 : length);
  }
  if (changed) value = std::move(clean);
  return changed;
}

void append_json(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const std::size_t run = plain_run(text);
    out += text.substr(0, run);
    text.remove_prefix(run);
    if (text.empty()) break;
    const std::uint8_t byte = byte_at(text, 0);
    const std::size_t length = utf8_length(text);
    if (byte == '"' || byte == '\\') {
      out += '\\';
      out += static_cast<char>(byte);
    } else if (byte == '\n') {
      out += "\\n";
    } else if (byte == '\t') {
      out += "\\t";
    } else if (byte == '\r') {
      out += "\\r";
    } else if (is_control(byte)) {
      out += "\\u00";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    } else {
      out += length == 0 ? kReplacement : text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  out += '"';
}

void append_printable(std::string& out, std::string_view text) {
  while (!text.empty()) {
    const std::uint8_t byte = byte_at(text, 0);
    const std::size_t length = utf8_length(text);
    if (length == 0 || is_control(byte) || byte == '\\') {
      out += "\\x";
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
      text.remove_prefix(1);
    } else {
      out += text.substr(0, length);
      text.remove_prefix(length);
    }
  }
}

}  // namespace telemetry
