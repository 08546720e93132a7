// Edits of a YAML text that leave every other byte alone, and the removal of exactly what they
// added. Not what is edited (inject.cc, uninject.cc): this knows maps, lists and their layout only.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/inject/layout.h"
#include "proxy/inject/value.h"

namespace proxy::inject {

enum class Place : std::uint8_t { front, back };

/// Collects edits against one parsed text; `stream` must outlive it. Edits of the same place keep
/// their order. Block maps and lists get lines of their own, flow ones get JSON.
class Editor {
 public:
  explicit Editor(const Stream& stream);

  /// At the front of a map, which may be empty.
  void add_entry(const Node& map, std::string_view key, const Value& value);
  /// At the front or the back of a list, which may be empty.
  void add_items(const Node& list, const List& items, Place place);
  /// A new entry in the place of an old one.
  void replace_entry(const Node& map, const Child& entry, std::string_view key, const Value& value);

  /// Takes out a child that add_entry or add_items wrote.
  void remove(const Node& parent, const Child& child);
  /// Puts back the text of an entry as it was before replace_entry.
  void restore(const Child& entry, std::string_view original);

  /// The text of an entry as it is now, key and value.
  [[nodiscard]] std::string text_of(const Child& entry) const;

  /// The text with all edits done.
  [[nodiscard]] std::string apply();

 private:
  struct Splice {
    std::size_t at;
    std::size_t erase;
    std::string text;
  };

  [[nodiscard]] bool begins_line(std::size_t at) const;
  [[nodiscard]] std::size_t front_line(std::size_t at) const;
  [[nodiscard]] Layout block_layout(const Node& node) const;
  [[nodiscard]] std::string flow_value(const Node& node, std::string_view key, const Value& value);
  void add_block(const Node& node, const std::vector<std::string>& texts);
  void add_behind(const Node& list, const std::vector<std::string>& texts);
  void add_flow(const Node& node, const std::vector<std::string>& texts, Place place);
  void remove_flow(const Node& parent, const std::vector<bool>& gone);
  void remove_line(const Node& parent, std::size_t index);

  const Stream& stream_;
  std::string line_end_;
  std::vector<Splice> splices_;
  std::map<const Node*, std::size_t> added_to_empty_;
  std::map<const Node*, std::vector<bool>> removed_;
};

}  // namespace proxy::inject
