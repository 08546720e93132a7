// The result of a TLS handshake in telemetry's words: the counter and the log line, for both sides
// of the proxy. tls/ and telemetry/ do not know each other.
#pragma once

#include <cstdint>
#include <string_view>

#include "telemetry/facts.h"
#include "telemetry/log.h"
#include "telemetry/shard.h"
#include "tls/facts.h"

namespace proxy::upstream {

telemetry::HandshakeCause handshake_cause(const tls::HandshakeFacts& facts) noexcept;

// When a handshake began and ended, in the loop's microseconds.
struct HandshakeTime {
  std::uint64_t started_us;
  std::uint64_t now_us;
};

// Counts how a handshake ended; a failed one also gets a rate-limited line that names `peer`, its
// address, and says what to do. A server's refusal that is learnt after the handshake was counted
// as good (TLS 1.3) is counted besides that.
void report_handshake(telemetry::Shard& shard, telemetry::RateLimitedLog& log,
                      telemetry::Direction direction, const tls::HandshakeFacts& facts,
                      std::string_view peer, HandshakeTime time);

}  // namespace proxy::upstream
