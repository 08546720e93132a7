// For each step of the way: absent, null, an alias, or there.
#include "proxy/inject/pod_editor.h"

#include <algorithm>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"
#include "proxy/inject/settings.h"

namespace proxy::inject {
namespace {

std::string_view name_of(const Value& item) {
  for (const auto& [key, value] : std::get<Map>(item.data)) {
    if (key == "name") return std::get<std::string>(value.data);
  }
  return {};
}

Problem not_editable(const Stream& stream, const Node& node, std::string_view what) {
  const auto* why = node.kind == NodeKind::alias
                        ? "is an alias, and only what is written out can be injected"
                        : "is neither empty nor what Kubernetes has there";
  return stream.problem(node.start, fmt::format("{} {}", config::quoted(what), why));
}

}  // namespace

PodEditor::PodEditor(const Stream& stream, Editor& editor, const Workload& workload)
    : stream_(stream), editor_(editor), workload_(workload) {}

Done PodEditor::add_items(std::string_view list, const List& items, Place place) {
  const auto& spec = *workload_.spec;
  const auto entry = find_own(stream_, spec, list);
  if (!entry) return std::unexpected(entry.error());
  const auto base = pointer("/spec", list);
  if (*entry == nullptr) {
    record_.added.push_back(base);
    editor_.add_entry(spec, list, items);
    return {};
  }
  const auto& value = *(*entry)->value;
  if (value.kind == NodeKind::null) {
    replace("/spec", spec, **entry, list, items);
    return {};
  }
  if (value.kind != NodeKind::list) {
    return std::unexpected(not_editable(stream_, value, list));
  }
  for (const auto& item : items) {
    const auto name = name_of(item);
    for (const auto& child : value.children) {
      const auto* theirs = find(*child.value, "name");
      if (theirs == nullptr || text_of(theirs->value) != name) continue;
      return std::unexpected(stream_.problem(
          theirs->value->start, fmt::format("{} has an item named {} already, and it is not ours",
                                            list, config::quoted(name))));
    }
    record_.added.push_back(pointer(base, name));
  }
  editor_.add_items(value, items, place);
  return {};
}

Done PodEditor::annotate(const Map& annotations) {
  const auto& pod = *workload_.pod;
  const auto metadata = find_own(stream_, pod, "metadata");
  if (!metadata) return std::unexpected(metadata.error());
  if (*metadata != nullptr && (*metadata)->value->kind == NodeKind::map) {
    return annotate_in(*(*metadata)->value, annotations);
  }
  if (*metadata != nullptr && (*metadata)->value->kind != NodeKind::null) {
    return std::unexpected(not_editable(stream_, *(*metadata)->value, "metadata"));
  }
  auto all = annotations;
  const auto write = [&] {
    all.emplace_back(std::string(kStatusAnnotation), to_json(record_));
    return Map{{"annotations", all}};
  };
  if (*metadata == nullptr) {
    record_.added.emplace_back("/metadata");
    editor_.add_entry(pod, "metadata", write());
  } else {
    record_.replaced.emplace_back("/metadata", editor_.text_of(**metadata));
    editor_.replace_entry(pod, **metadata, "metadata", write());
  }
  return {};
}

Done PodEditor::annotate_in(const Node& metadata, const Map& annotations) {
  constexpr std::string_view kBase = "/metadata/annotations";
  const auto entry = find_own(stream_, metadata, "annotations");
  if (!entry) return std::unexpected(entry.error());
  auto all = annotations;
  if (*entry == nullptr || (*entry)->value->kind == NodeKind::null) {
    if (*entry == nullptr) {
      record_.added.emplace_back(kBase);
    } else {
      record_.replaced.emplace_back(kBase, editor_.text_of(**entry));
    }
    all.emplace_back(std::string(kStatusAnnotation), to_json(record_));
    if (*entry == nullptr) {
      editor_.add_entry(metadata, "annotations", all);
    } else {
      editor_.replace_entry(metadata, **entry, "annotations", all);
    }
    return {};
  }
  const auto& map = *(*entry)->value;
  if (map.kind != NodeKind::map) {
    return std::unexpected(not_editable(stream_, map, "annotations"));
  }
  for (const auto& [key, value] : annotations) {
    if (const auto* old = find(map, key)) {
      replace(kBase, map, *old, key, value);
    } else {
      record_.added.push_back(pointer(kBase, key));
      editor_.add_entry(map, key, value);
    }
  }
  record_.added.push_back(pointer(kBase, kStatusAnnotation));
  editor_.add_entry(map, kStatusAnnotation, to_json(record_));
  return {};
}

void PodEditor::replace(std::string_view base, const Node& map, const Child& entry,
                        std::string_view key, const Value& value) {
  record_.replaced.emplace_back(pointer(base, key), editor_.text_of(entry));
  editor_.replace_entry(map, entry, key, value);
}

}  // namespace proxy::inject
