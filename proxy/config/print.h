// The effective configuration as YAML, each line with the origin of its value.
// Not the reference of all keys (reference.h).
#pragma once

#include <string>

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// Parses again to the same Config. Holds no secrets: credentials are only named by their paths.
std::string print(const Config& config, const Origins& origins);

}  // namespace proxy::config
