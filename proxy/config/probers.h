// The app's probes and lifecycle hooks as Istio's agent is told of them (ISTIO_KUBE_APP_PROBERS):
// text to values. Not the probing (server/).
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace proxy::config {

enum class ProbeKind : std::uint8_t { http, tcp, grpc };

/// One probe or hook as it stood in the pod, by the path under which it is asked for now.
struct Prober {
  std::string path;  ///< "/app-health/podinfo/livez", "/app-lifecycle/podinfo/prestopz"
  ProbeKind kind = ProbeKind::http;
  std::uint16_t port = 0;
  std::string target = "/";  ///< http: path and query
  std::string host;          ///< http: value of Host; empty: the app's address
  std::vector<std::pair<std::string, std::string>> headers;  ///< http
  bool https = false;   ///< http: only the connection is tried, its certificate is nobody's
  std::string service;  ///< grpc: name in the health check
  std::chrono::seconds timeout{1};
};

/// Reads {"/app-health/NAME/livez": {"httpGet": {...}, "timeoutSeconds": 1}, ...}. Empty text is no
/// probes. The error is a phrase.
std::expected<std::vector<Prober>, std::string> parse_probers(std::string_view json);

}  // namespace proxy::config
