// JSON there and back; it is read as YAML, which it is.
#include "proxy/inject/record.h"

#include "proxy/inject/layout.h"
#include "proxy/inject/value.h"

namespace proxy::inject {

std::string pointer(std::string_view base, std::string_view key) {
  std::string out(base);
  out += '/';
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

std::optional<std::vector<std::string>> split_pointer(std::string_view place) {
  if (!place.starts_with('/')) return std::nullopt;
  std::vector<std::string> out;
  for (std::size_t i = 0; i < place.size(); ++i) {
    if (place[i] == '/') {
      out.emplace_back();
    } else if (place[i] == '~' && i + 1 < place.size()) {
      out.back() += place[++i] == '1' ? '/' : '~';
    } else {
      out.back() += place[i];
    }
  }
  return out;
}

std::string to_json(const Record& record) {
  List added;
  for (const auto& place : record.added) added.emplace_back(place);
  Map out{{"added", std::move(added)}};
  if (!record.replaced.empty()) {
    Map replaced;
    for (const auto& [place, original] : record.replaced) replaced.emplace_back(place, original);
    out.emplace_back("replaced", std::move(replaced));
  }
  return compact_json(out);
}

std::optional<Record> record_from(std::string_view json) {
  const auto stream = Stream::parse(json);
  if (!stream || stream->documents().size() != 1) return std::nullopt;
  const auto& root = *stream->documents().front();
  const auto* added = find(root, "added");
  if (added == nullptr || added->value->kind != NodeKind::list) return std::nullopt;
  Record out;
  for (const auto& item : added->value->children) {
    if (item.value->kind != NodeKind::scalar) return std::nullopt;
    out.added.push_back(item.value->text);
  }
  const auto* replaced = find(root, "replaced");
  if (replaced == nullptr) return out;
  if (replaced->value->kind != NodeKind::map) return std::nullopt;
  for (const auto& child : replaced->value->children) {
    if (child.key->kind != NodeKind::scalar || child.value->kind != NodeKind::scalar) {
      return std::nullopt;
    }
    out.replaced.emplace_back(child.key->text, child.value->text);
  }
  return out;
}

}  // namespace proxy::inject
