// Loads the configuration for `run` and `check`, and says what is wrong with it.
#include "proxy/commands/load.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string_view>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/config/flags.h"

namespace proxy::commands {
namespace {

constexpr std::string_view kExample =
    "In front of a service on port 9898: hoplite --from :8000 --to 127.0.0.1:9898\n"
    "From a file:                        hoplite run -c hoplite.yaml\n";

bool is_given(const config::LoadRequest& request, std::string_view path,
              std::string_view variable) {
  const auto found = request.environment.find(variable);
  return request.flags.contains(path) ||
         (found != request.environment.end() && !found->second.empty());
}

// Without a file, a command line that names no pair of addresses is unfinished rather than wrong.
// Empty = it is complete.
std::string_view what_lacks(const config::LoadRequest& request) {
  if (request.file || request.text ||
      is_given(request, "outbound.listen", "HOPLITE_OUTBOUND_LISTEN"))
    return {};
  const bool from = is_given(request, "inbound.listen", "HOPLITE_INBOUND_LISTEN");
  const bool to = is_given(request, "inbound.app", "HOPLITE_INBOUND_APP");
  if (from && to) return {};
  if (from) return "--from without --to: where does the service listen?";
  if (to) return "--to without --from: where shall the proxy listen?";
  return "neither a file (-c) nor addresses (--from, --to)";
}

}  // namespace

void add_config_options(CLI::App& app, ConfigOptions& options) {
  app.add_option("-c,--config", options.file, "The configuration, a YAML file")->type_name("FILE");
  config::register_flags(app, options.flags);
}

config::LoadRequest load_request(const ConfigOptions& options) {
  config::LoadRequest request;
  request.file = options.file;
  request.flags = options.flags;
  request.environment = config::environment_from(environ);
  return request;
}

std::expected<config::Loaded, int> load_or_explain(const config::LoadRequest& request) {
  if (const auto lacks = what_lacks(request); !lacks.empty()) {
    fmt::print(stderr, "hoplite: {}\n{}", lacks, kExample);
    return std::unexpected(kUsage);
  }
  auto loaded = config::load(request);
  std::fputs(config::render(loaded.diagnostics).c_str(), stderr);
  if (loaded.ok()) return loaded;
  const auto errors =
      std::count_if(loaded.diagnostics.begin(), loaded.diagnostics.end(),
                    [](const auto& one) { return one.severity == config::Severity::error; });
  fmt::print(stderr, "hoplite: the configuration has {} {}\n", errors,
             errors == 1 ? "error" : "errors");
  return std::unexpected(kBadConfiguration);
}

}  // namespace proxy::commands
