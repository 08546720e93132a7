// ServerConnection: HTTP/2 towards a client, many requests at a time over one transport.
// Not a proxy: who answers is the RequestHandler's business. Not detection either: the bytes it is
// started with begin with the client's preface.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "proxy/http/connection.h"
#include "proxy/http/date_text.h"
#include "proxy/http/stream.h"
#include "proxy/http2/limits.h"
#include "proxy/http2/session.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

namespace proxy::http2 {

struct ServerConnectionOptions : SessionOptions {
  // No stream for so long, before the first one too: GOAWAY and the end. 0 = for ever.
  std::chrono::milliseconds idle_timeout{75'000};
  std::uint64_t max_requests = 0;  // then GOAWAY; 0 = no limit
  // Draining: the first GOAWAY forbids new streams, the second one names the last that counts. It
  // follows when the client has answered a PING, or after this time.
  std::chrono::milliseconds drain_grace{1'000};
};

// A request that is malformed as HTTP/2 sees it (RFC 9113 8.1.1) is answered with
// RST_STREAM(PROTOCOL_ERROR), and its user is told on_reset; one that is well-formed and can't be
// served (431, 405, 501 ...) is told on_refused and may be answered. In both cases the error is of
// side downstream and carries the fault.
// Other errors told: downstream_closed.
class ServerConnection final : public http::ServerConnection,
                               public net::Reapable,
                               private Session {
 public:
  ServerConnection(std::unique_ptr<net::Transport> transport, http::RequestHandler& handler,
                   http::ServerConnectionOwner& owner, const ServerConnectionOptions& options);
  ~ServerConnection() override;

  // Once. Bytes that somebody else put back to the transport are read first.
  void start();

  void begin_drain() override;
  void abort(Error why) override;
  bool idle() const noexcept override { return in_use() == 0; }

  net::Transport& transport() noexcept { return Session::transport(); }
  std::uint64_t requests() const noexcept { return requests_; }

 private:
  class Slot;

  void request_begun(SessionStream& stream) override;
  void end_head(SessionStream& stream, bool end_stream) override;
  void refuse(SessionStream& stream, http::Fault fault) override;
  void stream_closed(SessionStream& stream, std::uint32_t code) override;
  void end_framed(SessionStream& stream) override;
  void deliver(SessionStream& stream) override;
  void stream_left(SessionStream& stream) override;
  void tell_closed(Error why) override;
  void turn_ended() override;
  std::unique_ptr<SessionStream> make_stream() override;
  Error protocol_error() const noexcept override;
  Error lost_error(Error why) const noexcept override;

  void tell_request(Slot& slot);
  void finish_if_over(Slot& slot);

  http::RequestHandler& handler_;
  http::ServerConnectionOwner& owner_;
  const ServerConnectionOptions options_;
  http::DateText date_;
  net::Timer idle_timer_;
  std::uint64_t requests_ = 0;
};

}  // namespace proxy::http2
