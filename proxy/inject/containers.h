// The init container, the sidecar and its volume, as they are written into a pod.
// Not where they are written (inject.cc).
#pragma once

#include <string>

#include "proxy/inject/settings.h"
#include "proxy/inject/value.h"

namespace proxy::inject {

/// What the sidecar is told about the pod it is in.
struct PodFacts {
  std::string workload;  ///< name of what owns it
  std::string owner;
  std::string containers;  ///< names, with commas between
  std::string ports;       ///< JSON
  std::string metrics;     ///< JSON; empty: the app has none
  std::string probes;      ///< JSON; empty: none were rewritten
  std::string services;    ///< JSON; empty: none are known
};

/// Runs `hoplite redirect apply` and ends.
Value init_container(const Settings& settings);

/// Runs `hoplite sidecar`.
Value sidecar_container(const Settings& settings, const PodFacts& facts);

/// Is there a certificate to mount?
bool has_certificates(const Settings& settings);
Value certificate_volume(const Settings& settings);

/// Text for the value of a variable: Kubernetes would otherwise replace $(NAME) in it.
std::string literal(std::string_view text);

}  // namespace proxy::inject
