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

// Errors told to streams: upstream_closed (before the head was complete), upstream_truncated
// (after it), bad_response. upstream_closed may be replayed always when the server says that it did
// not look at the request (REFUSED_STREAM, a GOAWAY with a lower id) or when nothing of it was
// written; if idempotent when the connection was lost before anything of the response came; else
// never.
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
  // min(our limit, the server's) - open streams; 0 after a GOAWAY either way and when the stream ids
  // are used up.
  std::size_t free_slots() const noexcept override;
  std::uint64_t streams_opened() const noexcept override;
  void begin_drain() override;
  void abort(Error why) override;
  // No stream.
  bool idle() const noexcept override;

  // The server's SETTINGS have come: free_slots() is the truth from here on. on_available is told
  // when that happens, too.
  bool settings_received() const noexcept;
  // The server takes extended CONNECT (RFC 8441): a request with `upgrade` may go this way. Not so
  // before its SETTINGS.
  bool takes_extended_connect() const noexcept;

  net::Transport& transport() noexcept { return Session::transport(); }

 private:
  class Slot;
};

}  // namespace proxy::http2
