// Heads and framing as bytes: what an HTTP/1 connection puts on its wire.
// Not a decision-maker: which form a body takes is the connection's choice.
#pragma once

#include <cstdint>
#include <string_view>

#include "proxy/base/chain.h"
#include "proxy/http/message.h"

namespace proxy::http1 {

// How the end of an outgoing body is marked.
enum class BodyForm : std::uint8_t {
  none,         // no body and no word about one
  length,       // Content-Length
  chunked,      // Transfer-Encoding: chunked
  until_close,  // nothing; the connection's end ends it
};

struct OutgoingBody {
  BodyForm form = BodyForm::none;
  std::uint64_t bytes = 0;  // with `length`
};

enum class Persistence : std::uint8_t { implied, keep_alive, close };

// Method, target, Host, then the fields as they came, then framing and Connection. A
// `websocket_key` that is not empty goes in as Sec-WebSocket-Key.
void write_request_head(ChunkPool& pool, Chain& out, const http::RequestHead& head,
                        OutgoingBody body, std::string_view websocket_key = {});
// A final head. `date` is used when the head has none; with status 101 the Upgrade goes back in.
void write_response_head(ChunkPool& pool, Chain& out, const http::ResponseHead& head,
                         OutgoingBody body, Persistence persistence, std::string_view date);
// A 1xx head: no framing.
void write_informational(ChunkPool& pool, Chain& out, const http::ResponseHead& head);
// "1f\r\n"; the data and a CRLF follow.
void write_chunk_line(ChunkPool& pool, Chain& out, std::uint64_t bytes);
// The last chunk, the trailers and the empty line.
void write_last_chunk(ChunkPool& pool, Chain& out, const http::HeaderMap& trailers);

}  // namespace proxy::http1
