// Declares one command-line flag for every scalar key, and --from and --to, on a CLI11 command.
// Not the conversion of their values (sources.h).
#pragma once

#include <CLI/CLI.hpp>

#include "proxy/config/sources.h"

namespace proxy::config {

/// Adds the flags; parsing `app` fills `values`, which must outlive it. `--from` and `--to` are
/// the short forms of --inbound-listen and --inbound-app and exclude them.
void register_flags(CLI::App& app, FlagValues& values);

}  // namespace proxy::config
