// Finds the bytes to write to or to take out. Removal is the mirror image of adding, so it needs to
// know nothing but the child.
#include "proxy/inject/edit.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace proxy::inject {
namespace {

bool is_only_space(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

bool is_comment_or_empty(std::string_view line) {
  const auto first = line.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos || line[first] == '#';
}

std::string line_end_of(std::string_view text) {
  const auto at = text.find('\n');
  return at != std::string_view::npos && at > 0 && text[at - 1] == '\r' ? "\r\n" : "\n";
}

}  // namespace

Editor::Editor(const Stream& stream) : stream_(stream), line_end_(line_end_of(stream.text())) {}

void Editor::add_entry(const Node& map, std::string_view key, const Value& value) {
  if (map.flow) {
    add_flow(map, {flow_value(map, key, value)}, Place::front);
  } else {
    add_block(map, {yaml_entry(key, value, block_layout(map))});
  }
}

void Editor::add_items(const Node& list, const List& items, Place place) {
  std::vector<std::string> texts;
  for (const auto& item : items) {
    texts.push_back(list.flow ? flow_value(list, "", item) : yaml_item(item, block_layout(list)));
  }
  if (list.flow) {
    add_flow(list, texts, place);
  } else if (place == Place::front) {
    add_block(list, texts);
  } else {
    add_behind(list, texts);
  }
}

void Editor::replace_entry(const Node& map, const Child& entry, std::string_view key,
                           const Value& value) {
  splices_.push_back(
      {entry.start, entry.end - entry.start,
       map.flow ? flow_value(map, key, value) : yaml_entry(key, value, block_layout(map))});
}

std::string Editor::text_of(const Child& entry) const {
  return std::string(stream_.text().substr(entry.start, entry.end - entry.start));
}

void Editor::remove(const Node& parent, const Child& child) {
  auto& gone = removed_[&parent];
  gone.resize(parent.children.size());
  gone[static_cast<std::size_t>(&child - parent.children.data())] = true;
}

void Editor::restore(const Child& entry, std::string_view original) {
  splices_.push_back({entry.start, entry.end - entry.start, std::string(original)});
}

std::string Editor::apply() {
  for (const auto& [parent, gone] : removed_) {
    if (parent->flow) {
      remove_flow(*parent, gone);
    } else {
      for (std::size_t i = 0; i < gone.size(); ++i) {
        if (gone[i]) remove_line(*parent, i);
      }
    }
  }
  removed_.clear();
  // What is added in front of an entry stays in front of it when the entry itself is replaced.
  std::stable_sort(splices_.begin(), splices_.end(), [](const Splice& a, const Splice& b) {
    return std::pair(a.at, a.erase > 0) < std::pair(b.at, b.erase > 0);
  });
  std::string out;
  std::size_t done = 0;
  for (const auto& [at, erase, text] : splices_) {
    if (at > done) out += stream_.text().substr(done, at - done);
    out += text;
    done = std::max(done, at + erase);
  }
  return out += stream_.text().substr(std::min(done, stream_.text().size()));
}

bool Editor::begins_line(std::size_t at) const {
  const auto start = stream_.line_start(at);
  return is_only_space(stream_.text().substr(start, at - start));
}

// Where the line of `at` begins, or of the comments and empty lines above it: these belong to what
// stands there, and stay with it.
std::size_t Editor::front_line(std::size_t at) const {
  auto line = stream_.line_start(at);
  while (line > 0) {
    const auto above = stream_.line_start(line - 1);
    if (above >= line || !is_comment_or_empty(stream_.text().substr(above, line - above))) break;
    line = above;
  }
  return line;
}

Layout Editor::block_layout(const Node& node) const {
  Layout out;
  out.line_end = line_end_;
  const auto start = node.children.front().start;
  out.indent = std::string(start - stream_.line_start(start), ' ');
  for (const auto& [key, value, begin, end] : node.children) {
    if (key == nullptr || value->kind != NodeKind::list || value->flow) continue;
    out.lists_indented =
        value->children.front().start - stream_.line_start(value->children.front().start) >
        out.indent.size();
  }
  return out;
}

// In a map or list whose children have lines of their own, over several lines.
std::string Editor::flow_value(const Node& node, std::string_view key, const Value& value) {
  const bool is_map = node.kind == NodeKind::map;
  if (node.children.empty() || !begins_line(node.children.front().start)) {
    return is_map ? json_entry(key, value) : json(value);
  }
  const auto start = node.children.front().start;
  const auto line = stream_.line_start(start);
  Layout layout;
  layout.line_end = line_end_;
  layout.indent = stream_.text().substr(line, start - line);
  const auto around = stream_.line_start(node.start);
  const auto outer = stream_.text().substr(around).find_first_not_of(" \t");
  if (layout.indent.starts_with('\t')) {
    layout.step = "\t";
  } else if (outer != std::string_view::npos && outer < layout.indent.size()) {
    layout.step = std::string(layout.indent.size() - outer, ' ');
  }
  return is_map ? fmt::format("{}: {}", json(Value(key)), pretty_json(value, layout))
                : pretty_json(value, layout);
}

void Editor::add_block(const Node& node, const std::vector<std::string>& texts) {
  const auto layout = block_layout(node);
  const auto start = node.children.front().start;
  const bool own_line = begins_line(start);  // not "- name: x" or "- - x"
  std::string out;
  for (const auto& text : texts) {
    out += own_line ? layout.indent + text + line_end_ : text + line_end_ + layout.indent;
  }
  splices_.push_back({own_line ? front_line(start) : start, 0, std::move(out)});
}

void Editor::add_behind(const Node& list, const std::vector<std::string>& texts) {
  const auto indent = block_layout(list).indent;
  const auto& last = *list.children.back().value;
  const auto end = list.children.back().end;
  const auto at = last.tail > end ? last.tail : stream_.next_line(end);
  const bool unended = at == stream_.text().size() && !stream_.text().ends_with('\n');
  std::string out;
  for (const auto& text : texts) {
    if (unended) out += line_end_;
    out += indent;
    out += text;
    if (!unended) out += line_end_;
  }
  splices_.push_back({at, 0, std::move(out)});
}

void Editor::add_flow(const Node& node, const std::vector<std::string>& texts, Place place) {
  for (const auto& text : texts) {
    if (node.children.empty()) {
      const bool first = added_to_empty_[&node]++ == 0;
      splices_.push_back({node.content + 1, 0, first ? text : ", " + text});
      continue;
    }
    const auto start = node.children.front().start;
    const auto gap = stream_.text().substr(node.content + 1, start - node.content - 1);
    const auto between = !gap.empty() && is_only_space(gap) ? gap : std::string_view(" ");
    if (place == Place::front) {
      splices_.push_back({start, 0, fmt::format("{},{}", text, between)});
    } else {
      splices_.push_back({node.children.back().end, 0, fmt::format(",{}{}", between, text)});
    }
  }
}

void Editor::remove_flow(const Node& parent, const std::vector<bool>& gone) {
  const auto& children = parent.children;
  for (std::size_t first = 0; first < children.size(); ++first) {
    if (!gone[first]) continue;
    auto behind = first;
    while (behind < children.size() && gone[behind]) ++behind;
    const auto from =
        behind < children.size() || first == 0 ? children[first].start : children[first - 1].end;
    const auto to = behind < children.size() ? children[behind].start : children[behind - 1].end;
    splices_.push_back({from, to - from, ""});
    first = behind;
  }
}

void Editor::remove_line(const Node& parent, std::size_t index) {
  const auto& child = parent.children[index];
  if (!begins_line(child.start) && index + 1 < parent.children.size()) {
    splices_.push_back({child.start, parent.children[index + 1].start - child.start, ""});
    return;
  }
  auto from = stream_.line_start(child.start);
  const auto to = stream_.next_line(child.end);
  const bool unended = to == stream_.text().size() && !stream_.text().ends_with('\n');
  if (unended && from > 0) from -= std::min(line_end_.size(), from);
  splices_.push_back({from, to - from, ""});
}

}  // namespace proxy::inject
