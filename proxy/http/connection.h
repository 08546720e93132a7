// Connection: a codec bound to one transport, seen without its HTTP version.
// Not a socket: the transport below it is, and it is destroyed with the connection.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/base/error.h"
#include "proxy/base/result.h"
#include "proxy/http/stream.h"

namespace proxy::http {

class Connection {
 public:
  virtual ~Connection() = default;
  // No new streams; closes when the present ones are done (at once when idle).
  virtual void begin_drain() = 0;
  // Ends every stream with on_reset(why) and closes. on_closed of the owner follows at the turn's
  // end.
  virtual void abort(Error why) = 0;
  virtual bool idle() const noexcept = 0;
};

class ServerConnection : public Connection {};

class ServerConnectionOwner {
 public:
  virtual ~ServerConnectionOwner() = default;
  // Last: all streams have ended and the transport is closed or closing. The owner reaps the
  // connection (Loop::reap) and never touches it again.
  virtual void on_closed(ServerConnection& connection, Error why) = 0;
};

class ClientConnection : public Connection {
 public:
  // A stream for one request, joined to `user`. Only when free_slots() > 0.
  virtual ClientStream* open_stream(ResponseUser& user) = 0;
  virtual std::size_t free_slots() const noexcept = 0;
  // Streams opened so far on this connection.
  virtual std::uint64_t streams_opened() const noexcept = 0;
};

class ClientConnectionOwner {
 public:
  virtual ~ClientConnectionOwner() = default;
  // A slot became free: the connection may be used again (never told when it will close instead).
  // HTTP/2 tells it as well whenever the peer's settings have come, whatever they leave of the
  // slots, and when the last stream has ended.
  virtual void on_available(ClientConnection& connection) = 0;
  // Last, as for servers. Also told for an idle connection whose peer closed it or spoke unasked.
  virtual void on_closed(ClientConnection& connection, Error why) = 0;
};

}  // namespace proxy::http
