// What every subcommand is to main: options declared on CLI11, an action to run, an exit code.
// Not the subcommands themselves, one file each.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

namespace proxy::commands {

// sysexits.h has the two in the middle; scripts and init systems know them.
inline constexpr int kOk = 0;
inline constexpr int kFailure = 1;
inline constexpr int kUsage = 64;
inline constexpr int kBadConfiguration = 78;

/// Runs the subcommand that was chosen; returns the exit code of the process.
using Action = std::function<int()>;

/// Each declares one subcommand on `program`; parsing it sets `action`, which must outlive
/// `program`. What the options were parsed into lives as long as the action.
void add_run(CLI::App& program, Action& action);
void add_check(CLI::App& program, Action& action);
void add_certs(CLI::App& program, Action& action);
void add_inject(CLI::App& program, Action& action);
void add_uninject(CLI::App& program, Action& action);
void add_redirect(CLI::App& program, Action& action);
void add_sidecar(CLI::App& program, Action& action);
void add_version(CLI::App& program, Action& action);

/// The text of `hoplite --help` around the list of subcommands.
void describe(CLI::App& program);

/// Parses the arguments (without the program's name). Nothing = an action was chosen. Otherwise
/// the exit code: help was asked for and is on stdout, or the usage was wrong and stderr says how.
/// `run` may be left out before an option: `hoplite --from :8000 --to 127.0.0.1:9898`.
std::optional<int> parse(CLI::App& program, std::vector<std::string> arguments);

}  // namespace proxy::commands
