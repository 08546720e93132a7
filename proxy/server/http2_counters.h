// Http2Counters: what an HTTP/2 codec tells beside its requests, in telemetry's words.
// Not the requests themselves: exchanges record those.
#pragma once

#include "proxy/http2/observer.h"
#include "telemetry/shard.h"

namespace proxy::server {

class Http2Counters : public http2::Observer {
 public:
  // `shard` outlives this.
  Http2Counters(telemetry::Shard& shard, telemetry::Side side) noexcept
      : shard_(shard), side_(side) {}

  void on_stream_opened() noexcept override;
  void on_stream_closed() noexcept override;
  void on_reset(http2::ErrorCode code, http2::Direction direction) noexcept override;
  void on_goaway(http2::ErrorCode code, http2::Direction direction) noexcept override;
  void on_stall() noexcept override;
  void on_flood(http2::FloodKind kind) noexcept override;

 private:
  telemetry::Shard& shard_;
  const telemetry::Side side_;
};

}  // namespace proxy::server
