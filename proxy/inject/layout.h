// Where every node of a YAML stream stands in its text: yaml-cpp's structure and marks, and the
// ends that yaml-cpp does not tell. Not an editor (edit.h), and knows nothing of Kubernetes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace proxy::inject {

/// What is wrong with a text, and where.
struct Problem {
  int line = 0;    ///< from 1; 0 = the text as a whole
  int column = 0;  ///< from 1, in bytes
  std::string message;
  bool operator==(const Problem&) const = default;
};

struct Node;

/// An entry of a map or an item of a list. Offsets are bytes of the text.
struct Child {
  const Node* key = nullptr;  ///< null in a list
  const Node* value = nullptr;
  std::size_t start = 0;  ///< of the key, of a block item's dash, of a flow item
  std::size_t end = 0;    ///< behind the value, or behind the colon when there is none
};

enum class NodeKind : std::uint8_t { null, scalar, map, list, alias };

struct Node {
  NodeKind kind = NodeKind::null;
  bool flow = false;        ///< maps and lists: {a: 1}, [1]
  bool plain = false;       ///< scalars: without quotes
  bool anchored = false;    ///< has an &anchor
  bool referenced = false;  ///< and some alias stands for it
  std::size_t start = 0;    ///< its first byte, anchor and tag included
  std::size_t content = 0;  ///< its first byte behind anchor and tag
  /// Behind its last byte. A block scalar's last line end is not included.
  std::size_t end = 0;
  std::size_t tail = 0;          ///< `end`, or behind the empty lines that a `|+` at its end owns
  std::string text;              ///< scalars: the value
  const Node* target = nullptr;  ///< aliases: what they stand for
  std::vector<Child> children;
};

/// One YAML stream, parsed. Nodes live as long as it does, and refer to offsets in the text.
class Stream {
 public:
  /// UTF-8, with or without a byte order mark. Not YAML: a Problem. Aliases are not expanded, depth
  /// is bounded, so time and memory are linear in the text.
  static std::expected<Stream, Problem> parse(std::string_view text);

  [[nodiscard]] std::string_view text() const noexcept { return text_; }
  /// The roots, in order; an empty document is a null.
  [[nodiscard]] const std::vector<const Node*>& documents() const noexcept { return documents_; }

  [[nodiscard]] Problem problem(std::size_t at, std::string message) const;
  /// The first byte of the line that `at` is in.
  [[nodiscard]] std::size_t line_start(std::size_t at) const;
  /// Behind the line end of the line that `at` is in, or the end of the text.
  [[nodiscard]] std::size_t next_line(std::size_t at) const;

 private:
  friend class Composer;

  std::string_view text_;
  std::deque<Node> nodes_;  // stable addresses
  std::vector<const Node*> documents_;
};

/// The value of `key` in a map, through aliases of the map; null when there is none.
const Child* find(const Node& map, std::string_view key);

/// The node itself, or what its alias stands for.
const Node& resolved(const Node& node);

/// The text of a scalar; empty for everything else.
std::string_view text_of(const Node* node);

}  // namespace proxy::inject
