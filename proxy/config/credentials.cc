// Translates the findings of tls/ into diagnostics.
// Not the findings themselves.
#include "proxy/config/credentials.h"

#include <fmt/format.h>

#include "tls/credentials.h"

namespace proxy::config {

void check_credentials(const Config& config, const Origins& origins, Diagnostics& diagnostics) {
  const auto& mtls = config.mtls;
  if (mtls.cert.empty() && mtls.key.empty() && mtls.ca.empty()) return;
  for (const auto& problem : tls::check_files({mtls.cert, mtls.key, mtls.ca}, mtls.trust_domain)) {
    if (problem.path.empty()) continue;  // one that is not set: validate() has spoken up
    const auto path = fmt::format("mtls.{}", tls::name(problem.file));
    diagnostics.push_back({Severity::error, origins.nearest(path), path,
                           fmt::format("{}: {}", problem.path, problem.text)});
  }
}

}  // namespace proxy::config
