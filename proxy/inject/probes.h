// Points the app's probes and lifecycle hooks at the sidecar, which asks the app in kubelet's
// place: kubelet has no certificate, so strict mTLS would refuse it. Not the answering
// (proxy/server).
#pragma once

#include <expected>

#include <string>
#include <vector>

#include "proxy/inject/pod_editor.h"
#include "proxy/inject/settings.h"

namespace proxy::inject {

struct Probes {
  /// {"/app-health/podinfo/livez": {"httpGet": {"path": ..., "port": 9898}, "timeoutSeconds": 1},
  ///  "/app-lifecycle/podinfo/prestopz": {"httpGet": ...}}
  Map originals;
  std::vector<std::string> warnings;  ///< what was left to kubelet, and why
};

/// Rewrites the probes by HTTP, TCP and gRPC and the lifecycle hooks by HTTP and TCP of all
/// containers, and returns what they were.
std::expected<Probes, Problem> rewrite_probes(PodEditor& pod, const Settings& settings);

}  // namespace proxy::inject
