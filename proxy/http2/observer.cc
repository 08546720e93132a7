// The names of error codes and floods, from their tables.
// Not a counter.
#include "proxy/http2/observer.h"

namespace proxy::http2 {

ErrorCode error_code(std::uint32_t value) noexcept {
  return value < static_cast<std::uint32_t>(ErrorCode::unknown) ? static_cast<ErrorCode>(value)
                                                                : ErrorCode::unknown;
}

std::string_view text_of(ErrorCode code) noexcept {
  switch (code) {
#define HOPLITE_H2_ERROR(code, value, text) \
  case ErrorCode::code:                     \
    return text;
#include "proxy/http2/error_codes.def"
#undef HOPLITE_H2_ERROR
    case ErrorCode::unknown:
      break;
  }
  return "UNKNOWN";
}

std::string_view word_of(FloodKind kind) noexcept {
  switch (kind) {
#define HOPLITE_FLOOD(kind, word) \
  case FloodKind::kind:           \
    return word;
#include "proxy/http2/floods.def"
#undef HOPLITE_FLOOD
  }
  return {};
}

Observer& null_observer() noexcept {
  static Observer observer;
  return observer;
}

}  // namespace proxy::http2
