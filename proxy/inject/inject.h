// Puts the sidecar into the manifests of a YAML stream, and takes it out again.
// Text in, text out: not the command (proxy/commands/inject.cc), and nothing is sent anywhere.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/inject/layout.h"
#include "proxy/inject/settings.h"

namespace proxy::inject {

struct Outcome {
  std::string text;
  std::vector<std::string> done;     ///< "Deployment podinfo"
  std::vector<std::string> skipped;  ///< "Deployment podinfo: it has its sidecar already"
  std::vector<std::string> warnings;
};

/// Every pod and pod template gets a sidecar, unless it has one or asks for none. Bytes that need
/// not change stay, and uninject gives the text back exactly. `options` is checked already, but for
/// annotations, which are a Problem when they make no sense.
std::expected<Outcome, Problem> inject(std::string_view text, const Settings& options);

/// Takes out what inject has put in; pods without it stay as they are. A Problem when somebody has
/// since changed what inject wrote, so that it cannot be found.
std::expected<Outcome, Problem> uninject(std::string_view text);

}  // namespace proxy::inject
