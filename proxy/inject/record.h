// What injection did to one pod, as it stands in the pod's annotation, so that it can be undone.
// Not the undoing (uninject.cc).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxy::inject {

/// Places are JSON pointers (RFC 6901) from the pod, in which items of lists go by their name:
/// "/spec/initContainers/istio-proxy", "/metadata/annotations/prometheus.io~1port".
struct Record {
  std::vector<std::string> added;
  /// The place of a new entry, and the text of the old one.
  std::vector<std::pair<std::string, std::string>> replaced;
  bool operator==(const Record&) const = default;
};

/// `key` as a further part of the place `base`.
std::string pointer(std::string_view base, std::string_view key);
/// The parts of a place; nothing when it does not begin with a slash.
std::optional<std::vector<std::string>> split_pointer(std::string_view place);

/// One line of JSON.
std::string to_json(const Record& record);
/// Nothing when the text is not what to_json writes.
std::optional<Record> record_from(std::string_view json);

}  // namespace proxy::inject
