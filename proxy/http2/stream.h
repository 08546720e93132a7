// SessionStream: what a Session knows of one stream, on either side; JoinedStream: with its user.
// Not the http::Stream: servers' and clients' slots are that, and this as well.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "proxy/base/ilist.h"
#include "proxy/http/header_map.h"
#include "proxy/http/stream.h"

namespace proxy::http2 {

struct WritingTag;
struct LeavingTag;
struct ReadyTag;

class SessionStream : public ListHook<SessionStream, ReadyTag>,
                      public ListHook<SessionStream, WritingTag>,
                      public ListHook<SessionStream, LeavingTag> {
 public:
  virtual ~SessionStream() = default;

  using Ready = ListHook<SessionStream, ReadyTag>;      // has something to tell
  using Writing = ListHook<SessionStream, WritingTag>;  // has bytes that wait to be framed
  using Leaving = ListHook<SessionStream, LeavingTag>;  // its END_STREAM waits in the transport

  // Null when nobody is joined.
  virtual http::StreamUser* listener() noexcept = 0;
  // The same, and its link is cut.
  virtual http::StreamUser* let_go() noexcept = 0;
  // Where the fields of the next head go.
  virtual http::HeaderMap& head_fields() noexcept = 0;

  // As good as new.
  virtual void renew() noexcept {
    Ready::unlink();
    Writing::unlink();
    Leaving::unlink();
    id = -1;
    in.clear();
    out.clear();
    in_trailers.clear();
    out_trailers.clear();
    received_body = owed = begun = sent_untold = 0;
    wire = {};
    open = head_complete = in_ended = tell_end = tell_reset = false;
    why = {};
    head_sent = out_ended = end_framed = deferred = stalled = false;
    reset_sent = discards = buried = false;
    length_known = false;
    length = 0;
    leaves_at = stalled_at_ms = 0;
  }

  std::int32_t id = -1;  // -1: none yet
  http::Wire wire;

  // What the peer sends.
  Chain in;                     // received and not told yet
  http::HeaderMap in_trailers;  // valid with tell_end
  std::uint64_t received_body = 0;
  std::uint64_t length = 0;  // what content-length promised
  bool length_known = false;
  std::size_t owed = 0;        // received and not consumed
  bool open = false;           // nghttp2 knows it
  bool head_complete = false;  // the final one: what follows on this stream are trailers
  bool in_ended = false;
  bool tell_end = false;
  bool tell_reset = false;
  Error why;  // with tell_reset

  // What we send.
  Chain out;
  http::HeaderMap out_trailers;
  std::size_t begun = 0;        // of `out`: in a frame that nghttp2 has begun, which waits for room
  std::size_t sent_untold = 0;  // framed, or discarded, since on_sent was told
  bool head_sent = false;       // the final head was submitted
  bool out_ended = false;       // nothing comes after `out` and the trailers
  bool end_framed = false;      // END_STREAM is in the connection's bytes
  bool deferred = false;        // nghttp2 waits for bytes from us
  bool stalled = false;
  bool reset_sent = false;
  bool discards = false;        // bytes for it go nowhere: an answer to HEAD, a dead stream
  bool buried = false;          // waits to be recycled
  std::uint64_t leaves_at = 0;  // the byte of the connection behind its END_STREAM
  std::uint64_t stalled_at_ms = 0;
};

// As an http::ServerStream or an http::ClientStream.
template <class Stream>
class JoinedStream : public Stream, public SessionStream {
 public:
  http::Wire wire() const noexcept final { return SessionStream::wire; }
  http::StreamUser* listener() noexcept final { return this->user.get(); }
  http::StreamUser* let_go() noexcept final {
    http::StreamUser* gone = this->user.get();
    this->user.cut();
    return gone;
  }
};

}  // namespace proxy::http2
