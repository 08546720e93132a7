// Stream: one request and its response on one connection, with no word about the wire's version.
// Not an owner of either side: a stream lives in its connection, its user elsewhere, a Link
// between.
//
// Rules for both sides (see proxy/README.md):
//  * calls down (send_*, consume, reset) only record; what follows arrives later as an event;
//  * events come from within a loop turn and never from inside one of these calls;
//  * every event marked "last" is delivered with the link already cut; nothing follows it;
//  * reset() cuts the link before it returns; nothing follows it either.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "proxy/base/link.h"
#include "proxy/http/message.h"

namespace proxy::http {

// Bytes of this stream on its wire, heads and framing included, TLS not: what Istio's byte metrics
// count. 1xx heads are included.
struct Wire {
  std::uint64_t received = 0;
  std::uint64_t sent = 0;
};

class Stream {
 public:
  virtual ~Stream() = default;

  // Body bytes, any number of times between send_head and send_end. They count against the
  // connection's memory until on_sent says they left: a polite user never has more than the other
  // side's credit outstanding.
  virtual void send_data(Chain body) = 0;
  // The message is complete. Trailers are sent where the wire can carry them. In a tunnel:
  // half-close.
  virtual void send_end(HeaderMap trailers) = 0;
  // Returns credit for bytes that on_data delivered.
  virtual void consume(std::size_t bytes) = 0;
  // Gives up on the stream: the other end is told as abruptly as the wire allows (a cut connection
  // in HTTP/1 once anything was sent). Cuts the link; no event follows.
  virtual void reset(Error why) = 0;
  virtual Wire wire() const noexcept = 0;
};

class StreamUser {
 public:
  virtual ~StreamUser() = default;

  // Body (or tunnel) bytes. The user owes consume(body.size()).
  virtual void on_data(Chain body) = 0;
  // The peer's half of the message is complete (in a tunnel: it half-closed).
  virtual void on_end(HeaderMap trailers) = 0;
  // This many bytes given to send_data have left our buffers.
  virtual void on_sent(std::size_t bytes) = 0;
  // Last. The stream ended before both halves did: cut short, refused by the peer, timed out.
  virtual void on_reset(Error why, Wire wire) = 0;
};

class ServerStream;
class ClientStream;

// What a server codec tells: the Exchange, the stats listener, tests.
class RequestUser : public StreamUser {
 public:
  // The request's head. `head` may be moved from (= swapped; its old storage is used again).
  // With `upgrade` the request has no body, and on_end waits for the answer: it comes when the
  // tunnel half-closes, or soon after a final head other than 101.
  virtual void on_head(RequestHead& head) = 0;
  // Instead of on_head, or after it when the body turns out malformed: the request can't be served.
  // The user answers with one final response (send_head, send_data, send_end) where
  // reply_status(why) is not 0 and no response head was sent yet; an answer that was sent to its
  // end is left to arrive; else it calls reset. The codec closes afterwards. No more on_data or
  // on_end follow.
  virtual void on_refused(Error why) = 0;
  // Last. The response was sent completely, its last byte handed to the kernel. If the request was
  // not complete by then (`request_complete` false) the codec discards the rest of it or closes.
  virtual void on_done(Wire wire, bool request_complete) = 0;

  LinkEnd<ServerStream> stream;
};

class ServerStream : public Stream {
 public:
  // A 1xx head other than 101. Dropped when the client speaks HTTP/1.0.
  virtual void send_informational(ResponseHead& head) = 0;
  // The final head, exactly once. Status 101 turns the stream into a tunnel. Framing, Connection
  // and Date (when absent) are made here from head.body and the connection's state.
  virtual void send_head(ResponseHead& head) = 0;
  // Close the connection once this response is complete (HTTP/1) / no effect on HTTP/2.
  virtual void close_after_response() noexcept = 0;

  LinkEnd<RequestUser> user;
};

// What a client codec tells: an Attempt of an Exchange, a health check, tests.
class ResponseUser : public StreamUser {
 public:
  virtual void on_informational(ResponseHead& head) = 0;
  // The final head. Status 101 (only when the request had `upgrade`): the stream is a tunnel now.
  virtual void on_head(ResponseHead& head) = 0;
  // on_end is the last event when the request was completely sent before; otherwise (an early
  // response) the user either goes on sending or calls reset.

  LinkEnd<ClientStream> stream;
};

class ClientStream : public Stream {
 public:
  // Exactly once, first. Host and framing are made here from head.authority and head.body. With
  // `upgrade` the request is complete with its head; send_end ends the tunnel's half.
  virtual void send_head(const RequestHead& head) = 0;
  // True when nothing at all was received on this stream and the connection had served another
  // stream before: its closing may be a mere race with the idle timeout of the peer.
  virtual bool on_reused_connection() const noexcept = 0;

  LinkEnd<ResponseUser> user;
};

// Makes the user of each new request: server/'s downstream connections, the stats listener, tests.
class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  // The first byte of a request's head was read. The handler joins a RequestUser to `stream` before
  // it returns (or calls stream.reset). Exactly one of on_done, on_reset ends it, or the user's
  // reset().
  virtual void on_request_started(ServerStream& stream) = 0;
};

}  // namespace proxy::http
