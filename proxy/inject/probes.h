// Points the app's probes at the sidecar, which asks the app over loopback: kubelet has no
// certificate, so strict mTLS would refuse it. Not the answering (the sidecar's server).
#pragma once

#include <expected>

#include "proxy/inject/pod_editor.h"

namespace proxy::inject {

/// Rewrites the probes by HTTP, TCP and gRPC of all containers, and returns what they were:
/// {"/app-health/podinfo/livez": {"httpGet": {"path": ..., "port": 9898}, "timeoutSeconds": 1}}.
std::expected<Map, Problem> rewrite_probes(PodEditor& pod);

}  // namespace proxy::inject
