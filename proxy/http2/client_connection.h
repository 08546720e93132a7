// ClientConnection: HTTP/2 towards a server, many requests at a time over one transport.
// Not a pool and not a connector: who uses it, and for how long, is decided elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "proxy/http/connection.h"
#include "proxy/http/stream.h"
#include "proxy/http2/limits.h"
#include "proxy/http2/session.h"
#include "proxy/net/loop.h"
#include "proxy/net/transport.h"

namespace proxy::http2 {

struct ClientConnectionOptions : SessionOptions {
  // Streams opened before the server's SETTINGS have said how many it takes.
  std::uint32_t streams_before_settings = 1;
};

// Errors told to streams: upstream_closed (the connection was lost before the head was complete, or
// the server's GOAWAY excluded the stream),
// upstream_truncated (after it), upstream_reset (RST_STREAM; its code is the detail), bad_response.
// What the server says that it did not look at (REFUSED_STREAM, a GOAWAY with a lower id) and what
// was not written may be replayed always; what lost its connection before anything of the response
// came, if idempotent; else never.
class ClientConnection final : public http::ClientConnection,
                               public net::Reapable,
                               private Session {
 public:
  ClientConnection(std::unique_ptr<net::Transport> transport, http::ClientConnectionOwner& owner,
                   const ClientConnectionOptions& options);
  ~ClientConnection() override;

  // Once. The transport may be open already or not yet.
  void start();

  http::ClientStream* open_stream(http::ResponseUser& user) override;
  // min(our limit, the server's) - open streams; 0 after a GOAWAY either way and when the stream
  // ids are used up.
  std::size_t free_slots() const noexcept override;
  std::uint64_t streams_opened() const noexcept override { return streams_; }
  void begin_drain() override;
  void abort(Error why) override;
  // No stream.
  bool idle() const noexcept override { return in_use() == 0; }

  // The server's SETTINGS have come: free_slots() is the truth from here on.
  bool settings_received() const noexcept { return peer_settings_received(); }
  // Streams at a time: what we allow, the server allows, and before its SETTINGS
  // streams_before_settings. 0 is no special case (RFC 9113 6.5.2): it may be raised.
  std::size_t stream_limit() const noexcept;
  // The server takes extended CONNECT (RFC 8441): a request with `upgrade` may go this way. Not so
  // before its SETTINGS.
  bool takes_extended_connect() const noexcept;

  net::Transport& transport() noexcept { return Session::transport(); }

 private:
  class Slot;

  void end_head(SessionStream& stream, bool end_stream) override;
  void refuse(SessionStream& stream, http::Fault fault) override;
  void stream_closed(SessionStream& stream, std::uint32_t code) override;
  void end_framed(SessionStream&) override {}
  void deliver(SessionStream& stream) override;
  void stream_left(SessionStream&) override {}
  Error lost_stream(const SessionStream& stream, Error why) const noexcept override;
  void tell_closed(Error why) override;
  void settings_came() override { slots_changed_ = true; }
  void turn_ended() override;
  std::unique_ptr<SessionStream> make_stream() override;
  void recycling(SessionStream& stream) override;
  Error protocol_error() const noexcept override;
  Error lost_error(Error why) const noexcept override;

  void begin_tunnel(Slot& slot);
  void tell_head(Slot& slot);

  http::ClientConnectionOwner& owner_;
  const ClientConnectionOptions options_;
  std::size_t live_ = 0;  // of those in use, the ones the server still has or will have
  std::uint64_t streams_ = 0;
  bool slots_changed_ = false;  // the owner is to be told
};

}  // namespace proxy::http2
