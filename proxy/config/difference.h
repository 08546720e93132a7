// What a reload may not change.
// Not the reload itself (server/).
#pragma once

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// An error for each key that differs between `running` and `wanted` but takes a restart, placed
/// where `wanted` says it. Empty = `wanted` may replace `running`.
Diagnostics not_reloadable(const Config& running, const Config& wanted,
                           const Origins& wanted_origins);

}  // namespace proxy::config
