// Reply: the short answer the proxy itself gives where the other side has none.
// Not a page: a line of plain text, the same for every client.
#pragma once

#include <string_view>

#include "proxy/base/error.h"
#include "proxy/http/message.h"

namespace proxy::http {

struct Reply {
  ResponseHead head;      // status, body length, content-type, and allow with 405
  std::string_view body;  // static text; not sent in answer to HEAD
};

// The answer to `why`. Only when reply_status(why.code) is not 0.
Reply make_reply(Error why);
// The same to a gRPC client: trailers-only, with HTTP status 200, and no body. What a gRPC library
// would make of a bare HTTP status is a guess; this says what is meant.
Reply make_grpc_reply(Error why);
// grpc-status and grpc-message of `why`, as headers of such a reply or as trailers.
void add_grpc_status(HeaderMap& headers, Error why);
// make_reply with another status or text (filters, health checks). `body` must outlive the reply.
Reply make_reply(std::uint16_t status, std::string_view body);

}  // namespace proxy::http
