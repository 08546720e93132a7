// What one pod's sidecar is to be like: the command's options, outweighed by the pod's annotations.
// Not the containers that come of it (containers.h).
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/inject/layout.h"
#include "proxy/inject/workload.h"

namespace proxy::inject {

/// Names of the annotations that are ours.
inline constexpr std::string_view kStatusAnnotation = "hoplite.io/status";

inline constexpr std::string_view kInitContainer = "hoplite-init";
inline constexpr std::string_view kCertificateVolume = "hoplite-certs";

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Settings {
  std::string image;  ///< of both containers
  std::string name = "istio-proxy";
  bool classic = false;           ///< an ordinary container, for Kubernetes before 1.29
  std::string mode = "REDIRECT";  ///< or TPROXY
  std::string mtls = "permissive";
  std::string cert_secret;  ///< empty: hoplite.SERVICE_ACCOUNT
  std::string cert_csi;     ///< name of a CSI driver, in the place of a Secret
  Pairs csi_attributes;
  std::string cluster = "Kubernetes";
  std::string trust_domain = "cluster.local";
  std::string cluster_domain = "cluster.local";
  Pairs environment;  ///< further variables of the sidecar

  // From here on only annotations say otherwise.
  std::string include_inbound_ports = "*";
  std::string exclude_inbound_ports;  ///< besides the sidecar's own
  std::string include_outbound_ports;
  std::string exclude_outbound_ports;
  std::string include_outbound_ranges = "*";
  std::string exclude_outbound_ranges;
  std::string exclude_interfaces;
  std::string virtual_interfaces;
  int status_port = 15020;  ///< metrics of both, probes, /drain
  std::string cpu = "100m";
  std::string cpu_limit = "2000m";
  std::string memory = "128Mi";
  std::string memory_limit = "1024Mi";
  std::string log_level;
  int ready_delay = 0;
  int ready_period = 15;
  int ready_failures = 4;
  bool rewrite_probes = true;
  bool merge_metrics = true;
};

/// Why this pod gets no sidecar; empty: it gets one.
std::string reason_to_skip(const Workload& workload);

/// Names of the pod's annotations that Istio knows, or may know, and that do nothing here.
std::vector<std::string> without_effect(const Workload& workload);

/// The options with the pod's annotations applied; a Problem at an annotation that makes no sense.
std::expected<Settings, Problem> settings_for(const Stream& stream, const Workload& workload,
                                              const Settings& options);

}  // namespace proxy::inject
