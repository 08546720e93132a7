// Follows the record in each pod's annotation to what was written, and takes it out.
#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "proxy/inject/edit.h"
#include "proxy/inject/inject.h"
#include "proxy/inject/record.h"
#include "proxy/inject/workload.h"

namespace proxy::inject {
namespace {

struct Found {
  const Node* parent;
  const Child* child;
};

const Child* find_part(const Node& node, std::string_view part) {
  if (node.kind == NodeKind::map) return find(node, part);
  for (const auto& child : node.children) {
    const auto* name = find(*child.value, "name");
    if (name != nullptr && text_of(name->value) == part) return &child;
  }
  return nullptr;
}

std::optional<Found> locate(const Node& pod, std::string_view place) {
  const auto parts = split_pointer(place);
  if (!parts) return std::nullopt;
  const Node* node = &pod;
  for (std::size_t i = 0; i < parts->size(); ++i) {
    const auto* child = find_part(*node, (*parts)[i]);
    if (child == nullptr) return std::nullopt;
    if (i + 1 == parts->size()) return Found{node, child};
    node = child->value;
  }
  return std::nullopt;
}

std::expected<void, Problem> undo(const Stream& stream, Editor& editor, const Workload& workload) {
  const auto status = workload.annotations.find(kStatusAnnotation);
  const auto record = record_from(status->second);
  if (!record) {
    return std::unexpected(stream.problem(
        workload.pod->start,
        fmt::format("the annotation {} is not as `hoplite inject` wrote it", kStatusAnnotation)));
  }
  const auto lost = [&](std::string_view place) {
    return std::unexpected(stream.problem(
        workload.pod->start, fmt::format("{} is not there any more, so `hoplite inject` cannot be "
                                         "undone exactly",
                                         place)));
  };
  for (const auto& place : record->added) {
    const auto found = locate(*workload.pod, place);
    if (!found) return lost(place);
    editor.remove(*found->parent, *found->child);
  }
  for (const auto& [place, original] : record->replaced) {
    const auto found = locate(*workload.pod, place);
    if (!found) return lost(place);
    editor.restore(*found->child, original);
  }
  return {};
}

}  // namespace

std::expected<Outcome, Problem> uninject(std::string_view text) {
  const auto stream = Stream::parse(text);
  if (!stream) return std::unexpected(stream.error());
  const auto objects = find_objects(*stream);
  if (!objects) return std::unexpected(objects.error());
  Outcome out;
  Editor editor(*stream);
  for (const auto& workload : objects->workloads) {
    const auto shown = fmt::format("{} {}", workload.kind, workload.name);
    if (!workload.annotations.contains(kStatusAnnotation)) {
      out.skipped.push_back(fmt::format("{}: it has no sidecar of ours", shown));
      continue;
    }
    if (auto done = undo(*stream, editor, workload); !done) return std::unexpected(done.error());
    out.done.push_back(shown);
  }
  out.text = editor.apply();
  return out;
}

}  // namespace proxy::inject
