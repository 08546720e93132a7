// Texts of labels that need a string. Not for the hot path.
#include "telemetry/labels.h"

namespace telemetry {

std::string text(Flags flags) {
  if (flags.empty()) return "-";
  std::string joined;
  for (std::size_t i = 0; i < kFlagTexts.size(); ++i) {
    if (!flags.has(static_cast<Flag>(i))) continue;
    if (!joined.empty()) joined += ',';
    joined += kFlagTexts[i];
  }
  return joined;
}

WorkloadLabels unknown_peer() {
  return {.workload = "unknown",
          .workload_namespace = "unknown",
          .canonical_service = "unknown",
          .canonical_revision = "latest",
          .app = "unknown",
          .version = "unknown",
          .cluster = "unknown"};
}

}  // namespace telemetry
