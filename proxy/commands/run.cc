// `hoplite run`: loads the configuration, starts the server, tells what listens where, serves.
// Not the server (server/) and not who holds a port (port_owner.cc).
#include <pthread.h>
#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/commands/load.h"
#include "proxy/commands/port_owner.h"
#include "proxy/commands/serve.h"
#include "proxy/server/server.h"
#include "telemetry/log.h"

namespace proxy::commands {
namespace {

telemetry::LogLevel level_of(config::LogLevel level) {
  switch (level) {
    case config::LogLevel::debug:
      return telemetry::LogLevel::debug;
    case config::LogLevel::info:
      return telemetry::LogLevel::info;
    case config::LogLevel::warning:
      return telemetry::LogLevel::warning;
    case config::LogLevel::error:
      return telemetry::LogLevel::error;
  }
  return telemetry::LogLevel::info;
}

// The access log is JSON by default, for machines; the program log is read by people, and becomes
// JSON only for who asks for it.
telemetry::Log::Options log_options(const config::Loaded& loaded) {
  telemetry::Log::Options options;
  options.level = level_of(loaded.config.log.level);
  if (loaded.origins.has("log.format") && loaded.config.log.format == config::LogFormat::json) {
    options.format = telemetry::LogFormat::json;
  }
  return options;
}

// Whoever started us waits for these lines, perhaps behind a pipe: each is out at once.
void say(const std::string& line) {
  std::fputs((line + "\n").c_str(), stdout);
  std::fflush(stdout);
}

// The soft limit is low for programs that use select(); a proxy wants what it may have.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// From here to the end of the process, what asks to leave or to reload waits until it is let
// through, where the main thread listens for it: at any other time it would end the process by
// itself. Threads started meanwhile never get it.
class HeldSignals {
 public:
  HeldSignals() {
    ::sigemptyset(&held_);
    for (const int number : {SIGHUP, SIGINT, SIGTERM}) ::sigaddset(&held_, number);
    ::pthread_sigmask(SIG_BLOCK, &held_, nullptr);
  }
  template <class Listener>
  int let_through(Listener listener) {
    ::pthread_sigmask(SIG_UNBLOCK, &held_, nullptr);
    const int out = listener();
    ::pthread_sigmask(SIG_BLOCK, &held_, nullptr);
    return out;
  }

 private:
  sigset_t held_;
};

void announce(const server::Server& server, std::chrono::steady_clock::time_point begin) {
  const auto& all = server.listening();
  for (const auto& one : all) {
    if (one.what == "inbound" || one.what == "outbound") {
      say(fmt::format("listening {} {}", one.what, one.address));
    }
  }
  for (const auto& one : all) {
    if (one.what == "ready") say(fmt::format("ready http://{}/healthz/ready", one.address));
    if (one.what == "agent") say(fmt::format("agent http://{}/", one.address));
    if (one.what == "admin") say(fmt::format("admin http://{}/stats/prometheus", one.address));
    if (one.what == "stats") say(fmt::format("stats http://{}/stats/prometheus", one.address));
  }
  const auto took = std::chrono::steady_clock::now() - begin;
  say(fmt::format("ready in {} ms",
                  std::chrono::duration_cast<std::chrono::milliseconds>(took).count()));
}

}  // namespace

int serve(config::LoadRequest request) {
  const auto begin = std::chrono::steady_clock::now();
  auto loaded = load_or_explain(request);
  if (!loaded) return loaded.error();
  raise_descriptor_limit();
  HeldSignals signals;  // before the first thread
  telemetry::Log log(log_options(*loaded));
  auto server = server::Server::start(std::move(request), *loaded, log);
  if (!server) {
    const auto& error = server.error();
    fmt::print(stderr, "hoplite: {}\n", error.text);
    if (!error.address_in_use.empty()) {
      std::fputs(explain_address_in_use(error.address_in_use).c_str(), stderr);
    }
    return kFailure;
  }
  announce(**server, begin);
  return signals.let_through([&] { return (*server)->run(); });
}

void add_run(CLI::App& program, Action& action) {
  auto* command = program.add_subcommand("run", "Run the proxy");
  const auto options = std::make_shared<ConfigOptions>();
  add_config_options(*command, *options);
  command->footer(
      "A flag outweighs its environment variable (--stats-listen: HOPLITE_STATS_LISTEN), that the\n"
      "file, that the default.\n"
      "\n"
      "Signals: TERM and INT drain, a second one ends at once; HUP reads file and certificates\n"
      "again.\n"
      "\n"
      "Examples:\n"
      "  hoplite --from :8000 --to 127.0.0.1:9898\n"
      "  hoplite run -c hoplite.yaml\n"
      "  hoplite run -c hoplite.yaml --log-access all --stats-listen '*:15090'");
  command->callback(
      [options, &action] { action = [options] { return serve(load_request(*options)); }; });
}

}  // namespace proxy::commands
