// Fault: why a message was refused. Travels as Error::detail beside the codes it explains.
// Not the decision what becomes of the request (Code is), and not a metric's label.
#pragma once

#include <cstdint>
#include <string_view>

#include "proxy/base/error.h"

namespace proxy::http {

enum class Fault : std::uint8_t {
#define HOPLITE_FAULT(fault, code, part, word, text) fault,
#include "proxy/http/faults.def"
#undef HOPLITE_FAULT
};

// What part of a message a fault is in. `header` is any field line, a trailer's as well.
enum class Part : std::uint8_t {
  other,
  start_line,
  method,
  target,
  version,
  host,
  header,
  content_length,
  transfer_encoding,
  chunk,
  head_size,
  body,
};

// What a request with this fault is refused with; bad_response for faults of responses alone.
Code code_of(Fault fault) noexcept;
Part part_of(Fault fault) noexcept;
// A stable word, such as "bare_lf".
std::string_view word_of(Fault fault) noexcept;

// `fault` as Error::detail, and the fault of an error: none when it carries another detail or none.
constexpr std::int32_t detail_of(Fault fault) noexcept {
  return static_cast<std::int32_t>(fault);
}
Fault fault_of(const Error& why) noexcept;

// details() and text() with the fault behind them, where there is one that says more:
// "bad_request:bare_lf", "malformed request: bare LF". Static text, from tables.
std::string_view details_of(const Error& why) noexcept;
std::string_view text_of(const Error& why) noexcept;
// text_of() and a line end: the body of a reply.
std::string_view line_of(const Error& why) noexcept;

}  // namespace proxy::http
