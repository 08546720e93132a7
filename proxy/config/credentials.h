// Checks the certificate, key and CA files that the configuration names.
// Not TLS itself: tls/credentials.h reads and judges them.
#pragma once

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// Reads the files of `mtls` that are set and appends what is wrong with them, at the position of
/// the key that names the file. Blocking file reads; any thread.
void check_credentials(const Config& config, const Origins& origins, Diagnostics& diagnostics);

}  // namespace proxy::config
