// Observer: who counts what an HTTP/2 connection does beside its requests.
// Not telemetry: the codec names no metric and no label.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace proxy::http2 {

enum class ErrorCode : std::uint32_t {
#define HOPLITE_H2_ERROR(code, value, text) code = value,
#include "proxy/http2/error_codes.def"
#undef HOPLITE_H2_ERROR
  unknown,  // every code that RFC 9113 does not name
};
inline constexpr std::size_t kErrorCodes = static_cast<std::size_t>(ErrorCode::unknown) + 1;

enum class FloodKind : std::uint8_t {
#define HOPLITE_FLOOD(kind, word) kind,
#include "proxy/http2/floods.def"
#undef HOPLITE_FLOOD
};
inline constexpr std::size_t kFloodKinds = static_cast<std::size_t>(FloodKind::outbound_queue) + 1;

// Any number that came on the wire.
ErrorCode error_code(std::uint32_t value) noexcept;
// "PROTOCOL_ERROR"; "UNKNOWN".
std::string_view text_of(ErrorCode code) noexcept;
// "rapid_reset"
std::string_view word_of(FloodKind kind) noexcept;

enum class Direction : std::uint8_t { received, sent };

// Outlives every connection that names it. Called in turns of the connection's loop; must not call
// back into the connection.
class Observer {
 public:
  virtual ~Observer() = default;
  // A stream with a request; opened and closed are told in pairs, the closing at the latest when
  // the connection is destroyed.
  virtual void on_stream_opened() noexcept {}
  virtual void on_stream_closed() noexcept {}
  // RST_STREAM
  virtual void on_reset(ErrorCode /*code*/, Direction /*direction*/) noexcept {}
  // GOAWAY; the two of a graceful shutdown count as two.
  virtual void on_goaway(ErrorCode /*code*/, Direction /*direction*/) noexcept {}
  // A stream has bytes to send and the peer's windows hold them up: told when that begins.
  virtual void on_stall() noexcept {}
  // The peer overdid something and was refused for it: with header_list the request alone, else
  // the connection.
  virtual void on_flood(FloodKind /*kind*/) noexcept {}
};

// Counts nothing.
Observer& null_observer() noexcept;

}  // namespace proxy::http2
