// One counter an event. The enumerations of both modules have the same order, checked here.
// Not log lines: those need to know who the peer is.
#include "proxy/server/http2_counters.h"

namespace proxy::server {
namespace {

using telemetry::Counter;

static_assert(http2::kErrorCodes == telemetry::kLabelCount<telemetry::Http2Code>);
static_assert(static_cast<int>(http2::ErrorCode::refused_stream) ==
              static_cast<int>(telemetry::Http2Code::refused_stream));
static_assert(static_cast<int>(http2::ErrorCode::http_1_1_required) ==
              static_cast<int>(telemetry::Http2Code::http_1_1_required));
static_assert(http2::kFloodKinds == telemetry::kLabelCount<telemetry::Flood>);
#define HOPLITE_FLOOD(kind, word)                           \
  static_assert(static_cast<int>(http2::FloodKind::kind) == \
                static_cast<int>(telemetry::Flood::kind));
#include "proxy/http2/floods.def"
#undef HOPLITE_FLOOD

telemetry::Way way_of(http2::Direction direction) noexcept {
  return direction == http2::Direction::received ? telemetry::Way::received : telemetry::Way::sent;
}

telemetry::Http2Code code_of(http2::ErrorCode code) noexcept {
  return static_cast<telemetry::Http2Code>(code);
}

}  // namespace

void Http2Counters::on_stream_opened() noexcept {
  shard_.gauge_add(telemetry::Gauge::http2_streams, 1, side_);
}

void Http2Counters::on_stream_closed() noexcept {
  shard_.gauge_add(telemetry::Gauge::http2_streams, -1, side_);
}

void Http2Counters::on_reset(http2::ErrorCode code, http2::Direction direction) noexcept {
  shard_.add(Counter::http2_resets, 1, side_, way_of(direction), code_of(code));
}

void Http2Counters::on_goaway(http2::ErrorCode code, http2::Direction direction) noexcept {
  shard_.add(Counter::http2_goaways, 1, side_, way_of(direction), code_of(code));
}

void Http2Counters::on_stall() noexcept {
  shard_.add(Counter::http2_stalls, 1, side_);
}

void Http2Counters::on_flood(http2::FloodKind kind) noexcept {
  shard_.add(Counter::http2_floods, 1, static_cast<telemetry::Flood>(kind));
}

}  // namespace proxy::server
