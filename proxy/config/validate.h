// What only the whole configuration can tell: combinations that cannot work.
// Not single values (assign.cc), nor files on disk (credentials.h).
#pragma once

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// Appends an error for each impossible combination, a warning for each that is likely a slip.
/// What already has an error in `diagnostics` is not complained of again. Pure.
void validate(const Config& config, const Origins& origins, Diagnostics& diagnostics);

}  // namespace proxy::config
