// `hoplite version`. Not the number itself: that is the project's in CMakeLists.txt.
#include <string>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/server/version.h"

namespace proxy::commands {
namespace {

std::string version() {
  return fmt::format("hoplite {}", server::kVersion);
}

}  // namespace

void add_version(CLI::App& program, Action& action) {
  program.set_version_flag("--version", version(), "Print the version and exit");
  auto* command = program.add_subcommand("version", "Print the version");
  command->footer("Example:\n  hoplite version");
  command->callback([&action] {
    action = [] {
      fmt::print("{}\n", version());
      return kOk;
    };
  });
}

}  // namespace proxy::commands
