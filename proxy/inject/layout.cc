// Collects yaml-cpp's events into nodes, then finds each node's end in the text.
// yaml-cpp and its exceptions stay in this file.
#include "proxy/inject/layout.h"

#include <algorithm>
#include <array>
#include <map>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "telemetry/utf8.h"

namespace proxy::inject {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

bool is_break(char c) {
  return c == '\n' || c == '\r';
}

bool is_space(char c) {
  return is_blank(c) || is_break(c);
}

std::size_t indent_of(std::string_view line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

// Finds ends. Positions never go backwards and never beyond the text.
class Ends {
 public:
  explicit Ends(std::string_view text) : text_(text) {}

  // `indent` is the column of the block collection around the node, -1 at the top.
  void finish(Node& node, int indent) {
    node.content = skip_properties(node);
    switch (node.kind) {
      case NodeKind::null:
        node.end = node.content + null_length(node.content);
        break;
      case NodeKind::alias:
        node.end = word_end(node.content);
        break;
      case NodeKind::scalar:
        finish_scalar(node, indent);
        return;
      case NodeKind::map:
      case NodeKind::list:
        finish_children(node, indent);
        return;
    }
    node.tail = node.end;
  }

  // Behind white space, line ends and comments.
  [[nodiscard]] std::size_t skip_blank(std::size_t at) const {
    while (at < text_.size()) {
      if (is_space(text_[at])) {
        ++at;
      } else if (text_[at] == '#') {
        at = line_break(at);
      } else {
        break;
      }
    }
    return at;
  }

 private:
  std::size_t skip_properties(const Node& node) const {
    auto at = std::min(node.start, text_.size());
    while (at < text_.size() && (text_[at] == '&' || text_[at] == '!')) {
      const auto behind = word_end(at);
      const auto next = skip_blank(behind);
      // A property of a null: what follows is somebody else's.
      if (node.kind == NodeKind::null && null_length(next) == 0) return behind;
      if (node.kind == NodeKind::scalar && node.text.empty() && !is_opening(next)) return behind;
      at = next;
    }
    return at;
  }

  bool is_opening(std::size_t at) const {
    return at < text_.size() && std::string_view("\"'|>").find(text_[at]) != std::string_view::npos;
  }

  std::size_t word_end(std::size_t at) const {
    while (at < text_.size() && !is_space(text_[at]) &&
           std::string_view(",[]{}").find(text_[at]) == std::string_view::npos) {
      ++at;
    }
    return at;
  }

  // Of an explicit null here; 0 = there is none.
  std::size_t null_length(std::size_t at) const {
    static constexpr std::array<std::string_view, 4> kWords{"~", "null", "Null", "NULL"};
    for (const auto word : kWords) {
      const auto behind = at + word.size();
      if (text_.substr(std::min(at, text_.size())).starts_with(word) &&
          (behind == text_.size() || is_space(text_[behind]) ||
           std::string_view(",]}:").find(text_[behind]) != std::string_view::npos)) {
        return word.size();
      }
    }
    return 0;
  }

  void finish_scalar(Node& node, int indent) {
    const char first = node.content < text_.size() ? text_[node.content] : '\0';
    if (node.plain || (first != '"' && first != '\'' && first != '|' && first != '>')) {
      node.end = plain_end(node);
    } else if (first == '"' || first == '\'') {
      node.end = quoted_end(node.content);
    } else {
      finish_block_scalar(node, indent);
      return;
    }
    node.tail = node.end;
  }

  // The value and the text are the same but for white space, which was folded.
  std::size_t plain_end(const Node& node) const {
    auto at = node.content;
    for (const char c : node.text) {
      if (is_space(c)) {
        while (at < text_.size() && is_space(text_[at])) ++at;
      } else if (at < text_.size() && text_[at] == c) {
        ++at;
      }
    }
    return at;
  }

  std::size_t quoted_end(std::size_t at) const {
    const char quote = text_[at++];
    while (at < text_.size()) {
      if (quote == '"' && text_[at] == '\\') {
        at += 2;
      } else if (text_[at] != quote) {
        ++at;
      } else if (quote == '\'' && text_.substr(at + 1).starts_with('\'')) {
        at += 2;
      } else {
        return at + 1;
      }
    }
    return text_.size();
  }

  void finish_block_scalar(Node& node, int indent) {
    const auto header_end = line_break(node.content);
    const auto header = text_.substr(node.content, header_end - node.content);
    const auto indicators = header.substr(0, header.find_first_of(" \t#\r"));
    const bool keeps = indicators.find('+') != std::string_view::npos;
    const auto digit = indicators.find_first_of("123456789");
    auto least = static_cast<std::size_t>(std::max(indent, -1) + 1);
    bool known = digit != std::string_view::npos;
    if (known) {
      const int more = indicators[digit] - '0';
      least = static_cast<std::size_t>(std::max(indent, 0)) + static_cast<std::size_t>(more);
    }
    node.end = header_end;
    auto at = behind_break(header_end);
    node.tail = keeps ? at : node.end;
    while (at < text_.size()) {
      const auto stop = line_break(at);
      const auto line = text_.substr(at, stop - at);
      const bool empty = line.find_first_not_of(" \r") == std::string_view::npos;
      if (!empty && indent_of(line) < least) break;
      if (!empty && !known) {
        least = indent_of(line);
        known = true;
      }
      if (!empty || (known && indent_of(line) > least)) node.end = trimmed_break(at, stop);
      at = behind_break(stop);
      node.tail = keeps ? at : node.end;
    }
  }

  void finish_children(Node& node, int indent) {
    const bool brackets = node.flow && node.content < text_.size() &&
                          (text_[node.content] == '{' || text_[node.content] == '[');
    const int inner = node.flow ? indent : column_of(first_byte(node));
    auto at = brackets ? node.content + 1 : node.content;
    node.tail = node.end = at;
    for (auto& child : node.children) {
      finish_child(node, child, at, inner);
      at = node.end = child.end;
      node.tail = std::max(child.value->tail, child.end);
    }
    if (!brackets) return;
    at = skip_blank(at);
    while (at < text_.size() && text_[at] == ',') at = skip_blank(at + 1);
    node.end = node.tail = std::min(at + 1, text_.size());
  }

  // `at` is behind the child before, or behind the opening bracket.
  void finish_child(const Node& node, Child& child, std::size_t at, int indent) {
    auto& value = const_cast<Node&>(*child.value);
    if (child.key == nullptr) {
      if (!node.flow) child.start = skip_blank(at);
      const auto least = node.flow ? value.start : child.start + 1;
      finish_value(value, least, indent);
      if (node.flow) child.start = value.start;
      child.end = std::max(value.end, least);
      return;
    }
    auto& key = const_cast<Node&>(*child.key);
    finish(key, indent);
    child.start = question_mark(at, key.start);
    const auto colon = skip_blank(key.end);
    const bool has_colon = colon < text_.size() && text_[colon] == ':';
    const auto least = has_colon ? colon + 1 : key.end;
    finish_value(value, least, indent);
    child.end = std::max(value.end, least);
  }

  // Where the key begins: at the ? in front of it, if it has one, or at itself.
  std::size_t question_mark(std::size_t at, std::size_t key) const {
    at = skip_blank(at);
    while (at < key && text_[at] == ',') at = skip_blank(at + 1);
    return at < key && text_[at] == '?' ? at : key;
  }

  // yaml-cpp marks an omitted value with the place of what comes next, and that may be a key that
  // reads null itself.
  bool is_omitted(const Node& value, std::size_t least) const {
    if (value.kind != NodeKind::null || value.anchored) return false;
    const auto length = null_length(value.start);
    return length == 0 || skip_blank(least) != value.start ||
           text_.substr(skip_blank(value.start + length)).starts_with(':');
  }

  void finish_value(Node& value, std::size_t least, int indent) {
    if (is_omitted(value, least)) {
      value.start = value.content = value.end = value.tail = least;
    } else {
      finish(value, indent);
    }
  }

  std::size_t first_byte(const Node& node) const {
    if (node.kind == NodeKind::list || node.children.empty()) return node.content;
    return node.children.front().key->start;
  }

  int column_of(std::size_t at) const {
    const auto before = text_.substr(0, at).rfind('\n');
    auto start = before == std::string_view::npos ? 0 : before + 1;
    if (start == 0 && text_.starts_with(kByteOrderMark)) start = kByteOrderMark.size();
    return static_cast<int>(at - start);
  }

  std::size_t line_break(std::size_t at) const {
    return std::min(text_.find('\n', at), text_.size());
  }

  std::size_t behind_break(std::size_t at) const { return std::min(at + 1, text_.size()); }

  // `stop` without the carriage return before it.
  std::size_t trimmed_break(std::size_t from, std::size_t stop) const {
    return stop > from && stop < text_.size() && text_[stop - 1] == '\r' ? stop - 1 : stop;
  }

  std::string_view text_;
};

}  // namespace

// Builds the tree. `shift` is what yaml-cpp has skipped before it began to count.
class Composer : public YAML::EventHandler {
 public:
  Composer(Stream& stream, std::size_t shift) : stream_(stream), shift_(shift) {}

  // yaml-cpp finds empty documents without end where a token stands that begins no value: ", a".
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (mark.pos == document_) throw YAML::ParserException(mark, "no value can begin here");
    document_ = mark.pos;
    anchors_.clear();
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add(NodeKind::null, mark, anchor);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    Node* target = found == anchors_.end() ? nullptr : found->second;
    if (target != nullptr) target->referenced = true;
    add(NodeKind::alias, mark, 0).target = target;
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    auto& node = add(NodeKind::scalar, mark, anchor);
    node.text = value;
    node.plain = tag == "?";
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    open(NodeKind::list, mark, anchor, style);
  }
  void OnSequenceEnd() override { open_.pop_back(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    open(NodeKind::map, mark, anchor, style);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  struct Open {
    Node* node;
    const Node* key;  // waiting for its value
  };

  Node& add(NodeKind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    auto& node = stream_.nodes_.emplace_back();
    node.kind = kind;
    node.start =
        std::min(static_cast<std::size_t>(std::max(mark.pos, 0)) + shift_, stream_.text_.size());
    node.anchored = anchor != 0;
    if (anchor != 0) anchors_[anchor] = &node;
    if (open_.empty()) {
      stream_.documents_.push_back(&node);
      return node;
    }
    auto& [parent, key] = open_.back();
    if (parent->kind == NodeKind::list) {
      parent->children.push_back({nullptr, &node});
    } else if (key == nullptr) {
      key = &node;
    } else {
      parent->children.push_back({std::exchange(key, nullptr), &node});
    }
    return node;
  }

  void open(NodeKind kind, const YAML::Mark& mark, YAML::anchor_t anchor,
            YAML::EmitterStyle::value style) {
    auto& node = add(kind, mark, anchor);
    node.flow = style == YAML::EmitterStyle::Flow;
    open_.push_back({&node, nullptr});
  }

  Stream& stream_;
  std::size_t shift_;
  int document_ = -1;  // where the last one began
  std::vector<Open> open_;
  std::map<YAML::anchor_t, Node*> anchors_;
};

std::expected<Stream, Problem> Stream::parse(std::string_view text) {
  Stream stream;
  stream.text_ = text;
  for (std::size_t at = 0; at < text.size();) {
    const auto length = telemetry::utf8_length(text.substr(at));
    if (length == 0 || text[at] == '\0') {
      return std::unexpected(stream.problem(at, "this is not YAML: not UTF-8 text"));
    }
    at += length;
  }
  const std::size_t shift = text.starts_with(kByteOrderMark) ? kByteOrderMark.size() : 0;
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    Composer composer(stream, shift);
    while (parser.HandleNextDocument(composer)) {
    }
  } catch (const YAML::ParserException& error) {
    Problem problem;
    problem.message = fmt::format("this is not YAML: {}", error.msg);
    if (!error.mark.is_null()) {
      problem.line = error.mark.line + 1;
      problem.column = error.mark.column + 1;
    }
    return std::unexpected(std::move(problem));
  } catch (const std::exception& error) {
    return std::unexpected(Problem{0, 0, fmt::format("this is not YAML: {}", error.what())});
  }
  Ends ends(text);
  for (const auto* document : stream.documents_) {
    ends.finish(const_cast<Node&>(*document), -1);
  }
  return stream;
}

Problem Stream::problem(std::size_t at, std::string message) const {
  const auto before = text_.substr(0, std::min(at, text_.size()));
  const auto lines = std::count(before.begin(), before.end(), '\n');
  const auto column = before.size() - line_start(before.size());
  return {static_cast<int>(lines) + 1, static_cast<int>(column) + 1, std::move(message)};
}

std::size_t Stream::line_start(std::size_t at) const {
  const auto before = text_.substr(0, at).rfind('\n');
  if (before != std::string_view::npos) return before + 1;
  return text_.starts_with(kByteOrderMark) ? std::min(kByteOrderMark.size(), at) : 0;
}

std::size_t Stream::next_line(std::size_t at) const {
  const auto stop = text_.find('\n', at);
  return stop == std::string_view::npos ? text_.size() : stop + 1;
}

const Child* find(const Node& map, std::string_view key) {
  const auto& node = resolved(map);
  if (node.kind != NodeKind::map) return nullptr;
  for (const auto& child : node.children) {
    if (child.key->kind == NodeKind::scalar && child.key->text == key) return &child;
  }
  return nullptr;
}

const Node& resolved(const Node& node) {
  return node.kind == NodeKind::alias && node.target != nullptr ? *node.target : node;
}

std::string_view text_of(const Node* node) {
  if (node == nullptr) return {};
  const auto& target = resolved(*node);
  return target.kind == NodeKind::scalar ? std::string_view(target.text) : std::string_view{};
}

}  // namespace proxy::inject
