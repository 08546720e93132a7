// The version, in one place for the command, the metrics and the logs.
// Not Istio's: its build metric says "unknown" unless told otherwise.
#pragma once

#include <string_view>

namespace proxy::server {

inline constexpr std::string_view kVersion = HOPLITE_VERSION;

}  // namespace proxy::server
