// Writes entries into one pod, whatever of the way to them is there, and records how to undo it.
// Not what is written (inject.cc), and not the bytes (edit.h).
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "proxy/inject/edit.h"
#include "proxy/inject/record.h"
#include "proxy/inject/workload.h"

namespace proxy::inject {

using Done = std::expected<void, Problem>;

class PodEditor {
 public:
  /// All must outlive it.
  PodEditor(const Stream& stream, Editor& editor, const Workload& workload);

  /// Items with a name, into a list of the pod's spec. A Problem when one of that name is there.
  Done add_items(std::string_view list, const List& items, Place place);
  /// Annotations of the pod, which replace those of the same name; and the record of everything
  /// that was done, which is why this comes last.
  Done annotate(const Map& annotations);
  /// A new entry in the place of an old one below the pod.
  void replace(std::string_view base, const Node& map, const Child& entry, std::string_view key,
               const Value& value);

  [[nodiscard]] const Stream& stream() const noexcept { return stream_; }
  [[nodiscard]] const Workload& workload() const noexcept { return workload_; }

 private:
  Done annotate_in(const Node& metadata, const Map& annotations);

  const Stream& stream_;
  Editor& editor_;
  const Workload& workload_;
  Record record_;
};

}  // namespace proxy::inject
