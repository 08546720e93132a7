// Facts -> increments: the only mapping. Not where facts come from.
#pragma once

#include "telemetry/facts.h"
#include "telemetry/shard.h"

namespace telemetry {

// The only call for a finished request; each request exactly once. `in_flight` is the length of
// the worker's list of live exchanges without this one. Worker's thread.
void record(Shard& shard, const RequestFacts& facts, std::uint64_t in_flight,
            SeriesCache& cache) noexcept;

// `in_flight`: the length of that list as it is.
void record(Shard& shard, const MessageFacts& facts, std::uint64_t in_flight,
            SeriesCache& cache) noexcept;

// A TCP connection: when its peer is known, every 5 s, and at its end.
void record(Shard& shard, const TcpFacts& facts, SeriesCache& cache) noexcept;

void record(Shard& shard, const HandshakeFacts& facts) noexcept;
void record(Shard& shard, const ConnectFacts& facts) noexcept;

// A downstream connection was accepted / is gone.
void connection_opened(Shard& shard, Direction direction) noexcept;
void record(Shard& shard, const ConnectionFacts& facts) noexcept;

}  // namespace telemetry
