// Local replies from errors.def and faults.def.
// Not the place that decides which error it is.
#include "proxy/http/reply.h"

#include <charconv>

#include "proxy/base/assert.h"
#include "proxy/http/fault.h"
#include "proxy/http/grpc.h"

namespace proxy::http {

Reply make_reply(std::uint16_t status, std::string_view body) {
  Reply reply;
  reply.head.status = status;
  reply.head.reason = reply.head.headers.put(reason_phrase(status));
  reply.head.headers.add(NameId::content_type, "text/plain");
  if (!body.empty()) reply.head.body = {BodyLength::Kind::known, body.size()};
  reply.body = body;
  return reply;
}

Reply make_reply(Error why) {
  const unsigned status = reply_status(why.code);
  ASSERT(status != 0);
  Reply reply = make_reply(static_cast<std::uint16_t>(status), line_of(why));
  if (status == 405) {
    reply.head.headers.add("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");
  }
  return reply;
}

void add_grpc_status(HeaderMap& headers, Error why) {
  char digits[3];
  const auto end = std::to_chars(std::begin(digits), std::end(digits), grpc_status(why.code)).ptr;
  headers.add(NameId::grpc_status, {std::begin(digits), end});
  headers.add(NameId::grpc_message, grpc_message(text_of(why)));
}

Reply make_grpc_reply(Error why) {
  ASSERT(reply_status(why.code) != 0);
  Reply reply;
  reply.head.status = 200;
  reply.head.reason = reply.head.headers.put(reason_phrase(200));
  reply.head.headers.add(NameId::content_type, "application/grpc");
  add_grpc_status(reply.head.headers, why);
  return reply;
}

}  // namespace proxy::http
