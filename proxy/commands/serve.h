// Starting and serving, which `run` and `sidecar` share: what differs is where the configuration
// comes from.
#pragma once

#include "proxy/config/sources.h"

namespace proxy::commands {

/// Loads what `request` says, starts the server, tells what listens where, serves to the end; the
/// exit code. `request` must name something to load from.
int serve(config::LoadRequest request);

}  // namespace proxy::commands
