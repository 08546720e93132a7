// ClientConnection: HTTP/1.x towards a server, one request at a time over one transport.
// Not a pool and not a connector: who reuses it, and for how long, is decided elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "proxy/base/chain.h"
#include "proxy/base/credit.h"
#include "proxy/http/connection.h"
#include "proxy/http/stream.h"
#include "proxy/http1/limits.h"
#include "proxy/http1/outbox.h"
#include "proxy/http1/parser.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "tls/websocket.h"

namespace proxy::http1 {

struct ClientConnectionOptions {
  Limits limits;
  std::size_t credit_bytes = 64 * 1024;  // response body out with the user before reading stops
  // A server that has answered but does not take the rest of its request (or of a tunnel's bytes)
  // is cut off when nothing moved for so long: no stream waits for it any more.
  std::chrono::milliseconds linger_timeout{10'000};
};

// Errors told to streams: upstream_closed (before the head was complete), upstream_truncated
// (after it), bad_response. upstream_closed may be replayed always when no byte of the request was
// written, if idempotent when none of the response came, else never.
class ClientConnection final : public http::ClientConnection,
                               public net::Reapable,
                               private net::TransportUser,
                               private net::Flushable,
                               private net::TurnTask {
 public:
  ClientConnection(std::unique_ptr<net::Transport> transport, http::ClientConnectionOwner& owner,
                   const ClientConnectionOptions& options);
  ~ClientConnection() override;

  // Once. The transport may be open already or not yet.
  void start();

  http::ClientStream* open_stream(http::ResponseUser& user) override;
  std::size_t free_slots() const noexcept override;
  std::uint64_t streams_opened() const noexcept override { return streams_; }
  void begin_drain() override;
  void abort(Error why) override;
  bool idle() const noexcept override { return phase_ == Phase::idle; }

  net::Transport& transport() noexcept { return *transport_; }

 private:
  enum class Phase : std::uint8_t {
    idle,   // no stream
    open,   // a stream, its response not complete
    ended,  // its response is complete, its request is not
    closed,
  };

  class Slot final : public http::ClientStream {
   public:
    explicit Slot(ClientConnection& connection) noexcept : connection_(connection) {}
    void send_head(const http::RequestHead& head) override;
    void send_data(Chain body) override;
    void send_end(http::HeaderMap trailers) override;
    void consume(std::size_t bytes) override;
    void reset(Error why) override;
    http::Wire wire() const noexcept override { return connection_.wire(); }
    bool on_reused_connection() const noexcept override {
      return connection_.streams_ > 1 && connection_.received_ == 0;
    }

   private:
    ClientConnection& connection_;
  };

  void on_open(const tls::HandshakeFacts*) override {}
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void flush() override;
  void run_at_turn_end() override;

  void process();
  bool take_step(Step step);
  bool tell_head();
  bool accept_answer();
  void tell_end();
  void cut_short();
  void release_when_sent();
  void fail(Error why);
  void close_now(Error why);
  void resume() { loop_.at_turn_end(*this); }
  http::Wire wire() const noexcept { return {received_, outbox_.taken()}; }
  bool has_stream() const noexcept { return slot_.user.joined(); }

  net::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  http::ClientConnectionOwner& owner_;
  const ClientConnectionOptions options_;
  Slot slot_;
  ResponseParser parser_;
  Outbox outbox_;
  Chain in_;  // read and not parsed yet
  Credit credit_;
  Phase phase_ = Phase::idle;
  bool head_held_ = false;  // read, and told with what follows it in the same read
  bool head_told_ = false;
  bool upgrade_asked_ = false;
  // A WebSocket that came without a key, from HTTP/2: the key was made here, and this is what the
  // server must answer to it.
  bool key_made_ = false;
  tls::WebsocketAccept accept_{};
  bool request_done_ = false;  // the user has sent all it had to
  bool write_ended_ = false;
  bool tunnel_ended_ = false;  // the server's half of it
  bool draining_ = false;
  bool eof_ = false;
  bool dead_ = false;        // the transport is; what was read before is still told
  bool free_again_ = false;  // the owner is told at the turn's end
  bool told_owner_ = false;
  Error close_reason_;
  net::Timer linger_;
  std::uint64_t streams_ = 0;
  std::uint64_t received_ = 0;       // wire bytes of this response
  std::uint64_t request_batch_ = 0;  // the loop's batch in which the request was first written
};

}  // namespace proxy::http1
