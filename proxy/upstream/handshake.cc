// The table from tls::Failure to telemetry::HandshakeCause.
// Not the counting.
#include "proxy/upstream/handshake.h"

namespace proxy::upstream {

telemetry::HandshakeCause handshake_cause(const tls::HandshakeFacts& facts) noexcept {
  using telemetry::HandshakeCause;
  switch (facts.failure) {
    case tls::Failure::none:
      return facts.resumed ? HandshakeCause::resumed : HandshakeCause::ok;
    case tls::Failure::no_certificate:
      return HandshakeCause::no_certificate;
    case tls::Failure::unknown_ca:
      return HandshakeCause::unknown_ca;
    case tls::Failure::expired:
    case tls::Failure::not_yet_valid:
      return HandshakeCause::expired;
    case tls::Failure::wrong_san:
      return HandshakeCause::wrong_san;
    case tls::Failure::version:
      return HandshakeCause::version;
    case tls::Failure::not_tls:
      return HandshakeCause::not_tls;
    case tls::Failure::timeout:
      return HandshakeCause::timeout;
    default:
      return HandshakeCause::other;
  }
}

}  // namespace proxy::upstream
