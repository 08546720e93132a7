// `hoplite check`: is this configuration right, what does it amount to, what can be configured.
// Opens no socket.
#include <cstdio>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/commands/load.h"
#include "proxy/config/print.h"
#include "proxy/config/reference.h"

namespace proxy::commands {
namespace {

struct CheckOptions {
  ConfigOptions config;
  bool print = false;
  bool reference = false;
};

int check(const CheckOptions& options) {
  if (options.reference) {
    std::fputs(config::config_reference_markdown().c_str(), stdout);
    return kOk;
  }
  const auto loaded = load_or_explain(load_request(options.config));
  if (!loaded) return loaded.error();
  if (options.print) {
    std::fputs(config::print(loaded->config, loaded->origins).c_str(), stdout);
  } else {
    fmt::print("{}: ok\n", options.config.file.value_or("configuration"));
  }
  return kOk;
}

}  // namespace

void add_check(CLI::App& program, Action& action) {
  auto* command = program.add_subcommand("check", "Check a configuration and start nothing");
  const auto options = std::make_shared<CheckOptions>();
  command->add_flag("--print", options->print,
                    "Print the effective configuration, and where each value came from");
  command->add_flag("--reference", options->reference,
                    "Print the reference of all keys (Markdown) and check nothing");
  add_config_options(*command, options->config);
  command->footer(
      "Exit code 0 when `hoplite run` would take it, 78 when not: every problem is on stderr with\n"
      "file, line and column. Certificates are read; names of endpoints are not looked up.\n"
      "\n"
      "Examples:\n"
      "  hoplite check -c hoplite.yaml\n"
      "  hoplite check -c hoplite.yaml --print\n"
      "  HOPLITE_LOG_LEVEL=debug hoplite check --from :8000 --to :9898 --print");
  command->callback([options, &action] { action = [options] { return check(*options); }; });
}

}  // namespace proxy::commands
