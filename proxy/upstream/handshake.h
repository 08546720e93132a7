// Translation of a TLS handshake's result into telemetry's words, for both sides of the proxy.
// tls/ and telemetry/ do not know each other.
#pragma once

#include "telemetry/facts.h"
#include "tls/facts.h"

namespace proxy::upstream {

telemetry::HandshakeCause handshake_cause(const tls::HandshakeFacts& facts) noexcept;

}  // namespace proxy::upstream
