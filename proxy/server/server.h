// Server: the whole running proxy: listeners, workers, stats, reloads, draining.
// Not the command line (commands/) and not configuration parsing (config/).
#pragma once

#include <expected>
#include <memory>
#include <string>
#include <vector>

#include "proxy/config/sources.h"
#include "telemetry/log.h"

namespace proxy::server {

// Why a server did not start; one sentence for the user.
struct StartError {
  std::string text;
  // For an address in use: the port's text form, so that its holder can be looked for; else empty.
  std::string address_in_use;
};

struct Listening {
  std::string what;     // "inbound", "outbound", "stats", "ready"
  std::string address;  // "127.0.0.1:8000", the port the kernel chose included
};

class Server {
 public:
  // Opens everything and starts the workers; requests are served from here on. `load` is kept and
  // used again by reloads; `loaded` is what it gave at first, without errors. `log` outlives the
  // server. Signals are handled from here on (SIGTERM and SIGINT drain, a second one ends at once,
  // SIGHUP reloads); until run() the caller holds them back, or they end the process.
  static std::expected<std::unique_ptr<Server>, StartError> start(config::LoadRequest load,
                                                                  const config::Loaded& loaded,
                                                                  telemetry::Log& log);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  const std::vector<Listening>& listening() const noexcept;
  // Runs the main thread's loop until the server has drained or was told to end; the process's
  // exit code.
  int run();

 private:
  class State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace proxy::server
