// Options from a few flags, for tests that are about what follows from them.
#pragma once

#include "proxy/redirect/options.h"
#include "tests/support/catch.h"

namespace proxy::redirect {

// As Istio's injector calls it, unless the test says otherwise.
inline Flags injected() {
  Flags flags;
  flags.proxy_uid = "1337";
  flags.inbound_ports = "*";
  flags.local_exclude_ports = "15090,15021,15020";
  flags.service_cidr = "*";
  return flags;
}

inline Options parsed(const Flags& flags) {
  const auto options = parse_flags(flags);
  if (!options) FAIL(options.error());
  return *options;
}

}  // namespace proxy::redirect
