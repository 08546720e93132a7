// The tables made from errors.def.
// Not the mapping to response flags, which telemetry's users test.
#include "proxy/base/error.h"

#include <string_view>

#include "tests/support/catch.h"

namespace proxy {
namespace {
constexpr Code kAll[] = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) Code::code,
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
};
}  // namespace

TEST_CASE("every error has a word of its own, a sentence and sane statuses", "[base]") {
  for (const Code code : kAll) {
    CAPTURE(details(code));
    CHECK_FALSE(details(code).empty());
    CHECK_FALSE(text(code).empty());
    const unsigned status = reply_status(code);
    CHECK((status == 0 || (status >= 400 && status <= 599)));
    CHECK(grpc_status(code) <= 16);
  }
}

TEST_CASE("an error knows whether its request may be sent again", "[base]") {
  static_assert(sizeof(Error) == 8);
  CHECK(make_error(Code::connect_failed, Side::upstream).replay == Replay::always);
  CHECK(make_error(Code::upstream_closed, Side::upstream).replay == Replay::if_idempotent);
  CHECK(make_error(Code::upstream_truncated, Side::upstream).replay == Replay::never);
  CHECK(make_error(Code::system, Side::local, 13).detail == 13);
  CHECK(reply_status(Code::head_too_large) == 431);
}

}  // namespace proxy
