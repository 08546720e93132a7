// Parses the command line and explains what is wrong with it, with the nearest right word.
// Not the options themselves, and not the values of configuration keys (config/).
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proxy/commands/command.h"
#include "proxy/config/diagnostics.h"

namespace proxy::commands {
namespace {

constexpr std::string_view kShortHelp =
    "Hoplite is an L7 sidecar proxy with Istio's telemetry built in.\n"
    "\n"
    "In front of a service on port 9898, on loopback, no root and no file needed:\n"
    "\n"
    "  hoplite --from :8000 --to 127.0.0.1:9898\n"
    "\n"
    "hoplite --help tells the rest.\n";

bool is_option(std::string_view argument) {
  return argument.size() > 1 && argument.front() == '-';
}

// Of the program itself, rather than of a `run` that was left out.
bool is_own_option(std::string_view argument) {
  return argument == "-h" || argument == "--help" || argument == "--version";
}

// The subcommand the user had reached when it went wrong.
const CLI::App& deepest(const CLI::App& program) {
  const CLI::App* app = &program;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().back();
  return *app;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name()
                                     : full_name(*app.get_parent()) + " " + app.get_name();
}

std::string nearest(std::string_view word, const std::vector<std::string>& known) {
  const std::vector<std::string_view> candidates(known.begin(), known.end());
  return std::string(config::nearest_word(word, candidates));
}

std::string unknown_option(const CLI::App& app, const std::string& argument) {
  const auto name = argument.substr(0, argument.find('='));
  std::vector<std::string> known;
  for (const auto* option : app.get_options()) {
    for (const auto& spelling : option->get_lnames()) known.push_back("--" + spelling);
  }
  auto out = fmt::format("unknown option {}", config::quoted(name));
  if (const auto near = nearest(name, known); !near.empty()) {
    out += fmt::format("; did you mean {}?", near);
  }
  return out;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> out;
  for (const auto* command : app.get_subcommands({})) out.push_back(command->get_name());
  return out;
}

std::string unknown_word(const CLI::App& app, const std::string& argument) {
  const auto known = command_names(app);
  if (known.empty()) {
    auto out = fmt::format("unexpected argument {}", config::quoted(argument));
    const bool takes_file = app.get_option_no_throw("--config") != nullptr;
    if (takes_file && ::access(argument.c_str(), F_OK) == 0) {
      out += fmt::format("; did you mean -c {}?", argument);
    }
    return out;
  }
  auto out = fmt::format("unknown command {}", config::quoted(argument));
  if (const auto near = nearest(argument, known); !near.empty()) {
    return out + fmt::format("; did you mean {} {}?", full_name(app), near);
  }
  return out + fmt::format("; there are: {}", fmt::join(known, " "));
}

std::string explain(const CLI::App& program, const CLI::App& app, const CLI::ParseError& error) {
  const auto unknown = program.remaining(true);
  if (!unknown.empty()) {
    const auto& first = unknown.front();
    return is_option(first) ? unknown_option(app, first) : unknown_word(app, first);
  }
  if (const auto known = command_names(app); !known.empty()) {
    return fmt::format("a command is missing; there are: {}", fmt::join(known, " "));
  }
  return error.what();
}

}  // namespace

std::optional<int> parse(CLI::App& program, std::vector<std::string> arguments) {
  if (arguments.empty()) {
    std::fputs(kShortHelp.data(), stderr);
    return kUsage;
  }
  if (is_option(arguments.front()) && !is_own_option(arguments.front())) {
    arguments.insert(arguments.begin(), "run");
  }
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
  try {
    program.parse(std::move(arguments));
  } catch (const CLI::CallForHelp&) {
    std::fputs(program.help().c_str(), stdout);
    return kOk;
  } catch (const CLI::CallForVersion& version) {
    fmt::print("{}\n", version.what());
    return kOk;
  } catch (const CLI::ParseError& error) {
    const auto& app = deepest(program);
    fmt::print(stderr, "{0}: {1}\n`{0} --help` tells what there is.\n", full_name(app),
               explain(program, app, error));
    return kUsage;
  }
  return std::nullopt;
}

void describe(CLI::App& program) {
  program.name("hoplite");
  program.description("An L7 sidecar proxy with Istio's telemetry built in.");
  program.require_subcommand(1);
  program.footer(
      "Examples:\n"
      "  hoplite --from :8000 --to 127.0.0.1:9898   in front of a service, on loopback\n"
      "  hoplite run -c hoplite.yaml                the same and more from a file\n"
      "  hoplite check -c hoplite.yaml --print      is the file right, and what does it amount to\n"
      "  hoplite certs init --dir certs             a throw-away CA, to try mutual TLS\n"
      "\n"
      "`run` may be left out before an option; `hoplite run --help` lists them all.\n"
      "Exit codes: 0, 64 wrong usage, 78 bad configuration, 1 any other failure.");
}

}  // namespace proxy::commands
