// The tables behind Error, all made from errors.def.
// Not the mapping to Istio's response flags: telemetry's types are not known here.
#include "proxy/base/error.h"

#include <array>

namespace proxy {
namespace {

struct Row {
  unsigned status;
  unsigned grpc;
  Replay replay;
  std::string_view details;
  std::string_view text;
};

constexpr std::array kRows = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) \
  Row{status, grpc, Replay::replay, details, text},
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
};

const Row& row(Code code) noexcept {
  return kRows[static_cast<std::size_t>(code)];
}

}  // namespace

Error make_error(Code code, Side side, std::int32_t detail) noexcept {
  return Error{code, side, row(code).replay, detail};
}
unsigned reply_status(Code code) noexcept {
  return row(code).status;
}
unsigned grpc_status(Code code) noexcept {
  return row(code).grpc;
}
std::string_view details(Code code) noexcept {
  return row(code).details;
}
std::string_view text(Code code) noexcept {
  return row(code).text;
}

}  // namespace proxy
