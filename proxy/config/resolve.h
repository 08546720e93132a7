// Looks up the names of endpoints once per load.
// Not a resolver for the data path: workers only ever see addresses.
#pragma once

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// Fills the empty `addresses` of all endpoints through getaddrinfo (blocking, each name once). A
/// name without an address is an error. Any thread but a worker.
void resolve_names(Config& config, const Origins& origins, Diagnostics& diagnostics);

}  // namespace proxy::config
