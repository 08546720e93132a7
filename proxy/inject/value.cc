// Writes YAML lines and JSON. Quotes whatever some version of YAML could take for something else.
#include "proxy/inject/value.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "telemetry/utf8.h"

namespace proxy::inject {
namespace {

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_plain_byte(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') ||
         std::string_view("_-./").find(c) != std::string_view::npos;
}

// Words that are not texts in YAML 1.1, 1.2 or both.
bool is_reserved(std::string_view text) {
  static constexpr std::array<std::string_view, 10> kWords{"y",   "n",    "yes",   "no",   "on",
                                                           "off", "true", "false", "null", "nan"};
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return std::find(kWords.begin(), kWords.end(), lower) != kWords.end();
}

// Numbers and dates begin with a digit, a sign or a dot in all versions, so a letter or a slash
// comes first here.
bool is_plain(std::string_view text) {
  return !text.empty() && (is_letter(text.front()) || text.front() == '/') &&
         std::all_of(text.begin(), text.end(), is_plain_byte) && !is_reserved(text);
}

// What YAML lets stand as it is within quotes: no control characters, none of Unicode's line ends.
bool is_printable(std::string_view text) {
  static constexpr std::array<std::string_view, 3> kNot{"\u2028", "\u2029", "\uFEFF"};
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c < 0x20 || c == 0x7f) return false;
    if (c == 0xc2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) < 0xa0) {
      return false;
    }
  }
  return std::none_of(kNot.begin(), kNot.end(), [&](std::string_view not_printable) {
    return text.find(not_printable) != std::string_view::npos;
  });
}

// With what YAML does not take as it is escaped too.
std::string json_string(std::string_view text) {
  std::string out;
  telemetry::append_json(out, text);
  if (is_printable(out)) return out;
  std::string escaped;
  for (std::size_t at = 0; at < out.size();) {
    const auto length =
        std::max<std::size_t>(telemetry::utf8_length(std::string_view(out).substr(at)), 1);
    const auto one = std::string_view(out).substr(at, length);
    at += length;
    if (is_printable(one)) {
      escaped += one;
      continue;
    }
    unsigned point = static_cast<unsigned char>(one[0]) & (length == 3 ? 0x0f : 0x7f);
    if (length == 2) point &= 0x1f;
    for (const char c : one.substr(1)) point = point << 6 | (static_cast<unsigned char>(c) & 0x3f);
    escaped += fmt::format("\\u{:04x}", point);
  }
  return escaped;
}

std::string single_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text) {
    out += c;
    if (c == '\'') out += c;
  }
  return out + "'";
}

bool is_empty(const Value& value) {
  const auto* map = std::get_if<Map>(&value.data);
  const auto* list = std::get_if<List>(&value.data);
  return (map != nullptr && map->empty()) || (list != nullptr && list->empty());
}

std::string scalar_or_empty(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value.data)) return yaml_scalar(*text);
  return json(value);
}

bool is_nested(const Value& value) {
  return !is_empty(value) &&
         (std::holds_alternative<Map>(value.data) || std::holds_alternative<List>(value.data));
}

Layout deeper(const Layout& layout, std::string_view by) {
  auto out = layout;
  out.indent += by;
  return out;
}

// Entries or items, the first without its indent.
std::string yaml_lines(const Value& value, const Layout& layout) {
  std::string out;
  const auto add = [&](const std::string& one) {
    if (!out.empty()) out += layout.line_end + layout.indent;
    out += one;
  };
  if (const auto* map = std::get_if<Map>(&value.data)) {
    for (const auto& [key, inner] : *map) add(yaml_entry(key, inner, layout));
  } else if (const auto* list = std::get_if<List>(&value.data)) {
    for (const auto& inner : *list) add(yaml_item(inner, layout));
  }
  return out;
}

// `between` separates, `around` stands inside of the brackets.
template <class Items, class Write>
std::string bracketed(std::string_view brackets, const Items& items, std::string_view before,
                      std::string_view between, std::string_view after, Write write) {
  if (items.empty()) return std::string(brackets);
  std::string out(1, brackets[0]);
  out += before;
  bool first = true;
  for (const auto& item : items) {
    if (!first) out += between;
    first = false;
    out += write(item);
  }
  out += after;
  return out + brackets[1];
}

std::string one_line(const Value& value, std::string_view space) {
  const auto comma = fmt::format(",{}", space);
  if (const auto* text = std::get_if<std::string>(&value.data)) return json_string(*text);
  if (const auto* number = std::get_if<std::int64_t>(&value.data))
    return fmt::format("{}", *number);
  if (const auto* truth = std::get_if<bool>(&value.data)) return *truth ? "true" : "false";
  if (const auto* map = std::get_if<Map>(&value.data)) {
    return bracketed("{}", *map, "", comma, "", [&](const Entry& entry) {
      return fmt::format("{}:{}{}", json_string(entry.first), space, one_line(entry.second, space));
    });
  }
  return bracketed("[]", std::get<List>(value.data), "", comma, "",
                   [&](const Value& item) { return one_line(item, space); });
}

}  // namespace

std::string yaml_scalar(std::string_view text) {
  if (is_plain(text)) return std::string(text);
  if (!is_printable(text)) return json_string(text);  // JSON's escapes are YAML's
  const bool needs_escape = text.find_first_of("\"\\") != std::string_view::npos;
  return needs_escape ? single_quoted(text) : fmt::format("\"{}\"", text);
}

std::string yaml_entry(std::string_view key, const Value& value, const Layout& layout) {
  const auto name = yaml_scalar(key);
  if (!is_nested(value)) return fmt::format("{}: {}", name, scalar_or_empty(value));
  const bool flat = std::holds_alternative<List>(value.data) && !layout.lists_indented;
  const auto inner = deeper(layout, flat ? std::string_view() : std::string_view(layout.step));
  return fmt::format("{}:{}{}{}", name, layout.line_end, inner.indent, yaml_lines(value, inner));
}

std::string yaml_item(const Value& value, const Layout& layout) {
  if (!is_nested(value)) return fmt::format("- {}", scalar_or_empty(value));
  return fmt::format("- {}", yaml_lines(value, deeper(layout, "  ")));
}

std::string json(const Value& value) {
  return one_line(value, " ");
}

std::string json_entry(std::string_view key, const Value& value) {
  return fmt::format("{}: {}", json_string(key), json(value));
}

std::string compact_json(const Value& value) {
  return one_line(value, "");
}

std::string pretty_json(const Value& value, const Layout& layout) {
  if (!is_nested(value)) return json(value);
  const auto inner = deeper(layout, layout.step);
  const auto before = inner.line_end + inner.indent;
  const auto after = layout.line_end + layout.indent;
  if (const auto* map = std::get_if<Map>(&value.data)) {
    return bracketed("{}", *map, before, "," + before, after, [&](const Entry& entry) {
      return fmt::format("{}: {}", json_string(entry.first), pretty_json(entry.second, inner));
    });
  }
  return bracketed("[]", std::get<List>(value.data), before, "," + before, after,
                   [&](const Value& item) { return pretty_json(item, inner); });
}

}  // namespace proxy::inject
