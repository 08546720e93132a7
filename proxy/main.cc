// The program: prepares the process, finds the subcommand, runs it. Not any subcommand's work.
#include <sys/resource.h>

#include <csignal>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "proxy/commands/command.h"

namespace {

// Every connection is a descriptor or two, and 1,024, the usual soft limit, is there for programs
// that use select(). Up to the hard limit a process may help itself; Envoy and HAProxy do the same.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // the old limit still serves, so no failure
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a peer that went away is an error of one write, not our end
  raise_descriptor_limit();

  proxy::commands::Action action;
  CLI::App program;
  proxy::commands::describe(program);
  proxy::commands::add_run(program, action);
  proxy::commands::add_check(program, action);
  proxy::commands::add_certs(program, action);
  proxy::commands::add_inject(program, action);
  proxy::commands::add_uninject(program, action);
  proxy::commands::add_redirect(program, action);
  proxy::commands::add_sidecar(program, action);
  proxy::commands::add_version(program, action);

  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  if (const auto code = proxy::commands::parse(program, arguments)) return *code;
  return action();
}
