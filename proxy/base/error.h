// Error: what went wrong, on whose side, and whether the request may be tried again. 8 bytes.
// Not an exception and not a message: replies, log words and flags all follow from errors.def.
#pragma once

#include <cstdint>
#include <string_view>

namespace proxy {

enum class Side : std::uint8_t { local, downstream, upstream };

// May a request that met this error be sent again elsewhere?
enum class Replay : std::uint8_t {
  never,
  if_idempotent,  // nothing of the response came, but the upstream may have acted on the request
  always,         // the upstream cannot have seen the request
};

enum class Code : std::uint8_t {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) code,
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
};

struct Error {
  Code code = Code::none;
  Side side = Side::local;
  Replay replay = Replay::never;
  std::int32_t detail = 0;  // errno, TLS alert or http::Fault, for the log; 0 = none
};

// An Error with the replay class that errors.def gives its code.
Error make_error(Code code, Side side, std::int32_t detail = 0) noexcept;

// The HTTP status of the reply to this error; 0 = no reply can be sent.
unsigned reply_status(Code code) noexcept;
// The gRPC status (0..16) a gRPC client is told.
unsigned grpc_status(Code code) noexcept;
// A stable word for logs and metrics, such as "upstream_connect_timeout".
std::string_view details(Code code) noexcept;
// A short sentence for the reply's body.
std::string_view text(Code code) noexcept;

}  // namespace proxy
