// The options and the loading of a configuration that `run` and `check` share.
// Not the meaning of any key (config/).
#pragma once

#include <expected>
#include <optional>
#include <string>

#include <CLI/CLI.hpp>

#include "proxy/config/sources.h"

namespace proxy::commands {

struct ConfigOptions {
  std::optional<std::string> file;
  config::FlagValues flags;
};

/// Declares -c and a flag for every scalar key; `options` must outlive `app`.
void add_config_options(CLI::App& app, ConfigOptions& options);

/// The request for these options and the environment of the process.
config::LoadRequest load_request(const ConfigOptions& options);

/// Loads, and tells on stderr what is wrong, warnings included. The error is an exit code: there
/// was nothing to load from, or what was found is wrong.
std::expected<config::Loaded, int> load_or_explain(const config::LoadRequest& request);

}  // namespace proxy::commands
