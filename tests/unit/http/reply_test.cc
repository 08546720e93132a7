// Local replies: every error that has one.
#include "proxy/http/reply.h"

#include <string>

#include "tests/support/catch.h"

namespace proxy::http {

TEST_CASE("every error with a status has a reply with its text", "[unit]") {
  static constexpr Code kCodes[] = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) Code::code,
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
  };
  unsigned replies = 0;
  for (const Code code : kCodes) {
    if (reply_status(code) == 0) continue;
    ++replies;
    const Reply reply = make_reply(make_error(code, Side::local));
    CHECK(reply.head.status == reply_status(code));
    CHECK(reply.body == std::string(text(code)) + "\n");
    CHECK(reply.head.body.kind == BodyLength::Kind::known);
    CHECK(reply.head.body.bytes == reply.body.size());
    CHECK_FALSE(reply.head.reason_view().empty());
    CHECK(reply.head.headers.get(NameId::content_type) == "text/plain");
    CHECK(reply.head.headers.get("allow").has_value() == (reply.head.status == 405));
  }
  CHECK(replies > 15);
}

}  // namespace proxy::http
