// The table from tls::Failure to telemetry::HandshakeCause, and the line.
// Not the sentences that say what to do: tls/ has those.
#include "proxy/upstream/handshake.h"

#include "telemetry/record.h"

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

void report_handshake(telemetry::Shard& shard, telemetry::RateLimitedLog& log,
                      telemetry::Direction direction, const tls::HandshakeFacts& facts,
                      std::string_view peer, HandshakeTime time) {
  telemetry::record(shard, telemetry::HandshakeFacts{direction, handshake_cause(facts),
                                                     time.now_us - time.started_us});
  if (facts.failure == tls::Failure::none) return;
  // Each cause is limited by itself, and clients cannot silence what is said of upstreams.
  constexpr std::size_t kCauses = static_cast<std::size_t>(tls::Failure::other) + 1;
  static_assert(2 * kCauses <= 30, "the lines of other kinds begin at 30");
  const bool inbound = direction == telemetry::Direction::inbound;
  log.warning(static_cast<std::size_t>(facts.failure) + (inbound ? 0 : kCauses), time.now_us,
              "TLS handshake with {}{} failed ({}): {}", inbound ? "" : "upstream ", peer,
              tls::name(facts.failure), facts.detail);
}

}  // namespace proxy::upstream
