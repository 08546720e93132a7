// `hoplite sidecar`: the proxy of an injected pod, from its environment alone.
// Not what the variables mean (sidecar/environment.h).
#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/commands/serve.h"
#include "proxy/sidecar/environment.h"

namespace proxy::commands {
namespace {

int sidecar(bool print) {
  const auto text = sidecar::configuration(sidecar::variables_from(environ));
  if (!text) {
    fmt::print(stderr, "hoplite sidecar: {}\n", text.error());
    return kBadConfiguration;
  }
  if (print) {
    std::fputs(text->c_str(), stdout);
    return kOk;
  }
  config::LoadRequest request;
  request.text = *text;
  request.text_name = "environment";
  request.environment = config::environment_from(environ);
  request.environment.erase("HOPLITE_SERVICES");  // it is in the text
  return serve(std::move(request));
}

}  // namespace

void add_sidecar(CLI::App& program, Action& action) {
  auto* command =
      program.add_subcommand("sidecar", "Run the sidecar of an injected pod, from its environment");
  const auto print = std::make_shared<bool>(false);
  command->add_flag("--print", *print, "Print the configuration that the environment amounts to");
  command->footer(
      "Listens on 15001 (outbound), 15006 (inbound), 15020 (merged metrics, probes, /drain and\n"
      "/quitquitquit), 15021 (readiness) and 15090 (metrics) of all addresses, and on 15000 of\n"
      "loopback. `hoplite inject` writes the environment; HOPLITE_* variables set any other key.\n"
      "\n"
      "Example:\n"
      "  POD_NAMESPACE=test ISTIO_META_WORKLOAD_NAME=podinfo hoplite sidecar --print");
  command->callback([print, &action] { action = [print] { return sidecar(*print); }; });
}

}  // namespace proxy::commands
