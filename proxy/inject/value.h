// What is to be written into a manifest, and how it reads as YAML lines or as JSON.
// Not where it goes (edit.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace proxy::inject {

struct Value;
using Entry = std::pair<std::string, Value>;
using Map = std::vector<Entry>;  ///< in the order in which it is written
using List = std::vector<Value>;

/// A text stays a text, whatever it looks like; a number and a truth value are written plain.
struct Value {
  Value(std::string text) : data(std::move(text)) {}  // NOLINT: literals read as what they are
  Value(std::string_view text) : data(std::string(text)) {}  // NOLINT
  Value(const char* text) : data(std::string(text)) {}       // NOLINT
  Value(std::int64_t number) : data(number) {}               // NOLINT
  Value(int number) : data(std::int64_t{number}) {}          // NOLINT
  Value(bool truth) : data(truth) {}                         // NOLINT
  Value(Map map) : data(std::move(map)) {}                   // NOLINT
  Value(List list) : data(std::move(list)) {}                // NOLINT

  std::variant<std::string, std::int64_t, bool, Map, List> data;
};

/// How the text around looks.
struct Layout {
  std::string line_end = "\n";
  std::string indent;          ///< of the lines to write
  std::string step = "  ";     ///< what one level adds
  bool lists_indented = true;  ///< in YAML lines: items one level deeper than their key
};

/// The text as a scalar on one line that YAML 1.1 and 1.2 read back as this string: plain where
/// both do, else in quotes.
std::string yaml_scalar(std::string_view text);

/// "key: value" with all further lines indented by `layout`, without the first line's indent and
/// the last line's end. Empty maps and lists are written as {} and [].
std::string yaml_entry(std::string_view key, const Value& value, const Layout& layout);
/// "- value", the same way.
std::string yaml_item(const Value& value, const Layout& layout);

/// JSON on one line, with a space behind colons and commas; `"key": value`.
std::string json(const Value& value);
std::string json_entry(std::string_view key, const Value& value);

/// JSON without a space, for texts that contain it.
std::string compact_json(const Value& value);

/// JSON over several lines, each further line indented by `layout`.
std::string pretty_json(const Value& value, const Layout& layout);

}  // namespace proxy::inject
