// Implementation of record.h.
#include "telemetry/record.h"

namespace telemetry {

void record(Shard& shard, const RequestFacts& facts, std::uint64_t in_flight,
            SeriesCache& cache) noexcept {
  shard.request_completed(facts, in_flight, cache);
}

void record(Shard& shard, const MessageFacts& facts, std::uint64_t in_flight,
            SeriesCache& cache) noexcept {
  shard.messages_counted(facts, in_flight, cache);
}

void record(Shard& shard, const TcpFacts& facts, SeriesCache& cache) noexcept {
  shard.tcp_counted(facts, cache);
}

void record(Shard& shard, const HandshakeFacts& facts) noexcept {
  shard.add(Counter::handshakes, 1, facts.direction, facts.cause);
  if (facts.cause == HandshakeCause::ok || facts.cause == HandshakeCause::resumed) {
    shard.observe(Histogram::handshake_duration, facts.duration_us);
  }
}

void record(Shard& shard, const ConnectFacts& facts) noexcept {
  shard.add(Counter::upstream_connects, 1, facts.outcome);
  if (facts.outcome == ConnectOutcome::ok) {
    shard.observe(Histogram::upstream_connect_duration, facts.duration_us);
  }
}

void connection_opened(Shard& shard, Direction direction) noexcept {
  shard.add(Counter::connections_accepted, 1, direction);
  shard.gauge_add(Gauge::connections_open, 1, direction);
}

void record(Shard& shard, const ConnectionFacts& facts) noexcept {
  shard.gauge_add(Gauge::connections_open, -1, facts.direction);
  shard.observe(Histogram::connection_duration, facts.duration_us);
}

}  // namespace telemetry
