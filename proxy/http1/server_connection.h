// ServerConnection: HTTP/1.x towards a client, one request at a time over one transport.
// Not a proxy: who answers is the RequestHandler's business.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "proxy/base/chain.h"
#include "proxy/base/credit.h"
#include "proxy/http/connection.h"
#include "proxy/http/date_text.h"
#include "proxy/http/stream.h"
#include "proxy/http1/limits.h"
#include "proxy/http1/outbox.h"
#include "proxy/http1/parser.h"
#include "proxy/http1/writer.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

namespace proxy::http1 {

struct ServerConnectionOptions {
  Limits limits;
  std::size_t credit_bytes = 64 * 1024;  // request body out with the user before reading stops
  // Between requests, and before the first one. 0 = for ever.
  std::chrono::milliseconds idle_timeout{75'000};
  std::uint64_t max_requests = 0;  // then Connection: close; 0 = no limit
  // A response that ended before its request: this much of the rest is read and thrown away so
  // that the connection can go on.
  std::size_t early_drain_bytes = 64 * 1024;
  // Closing after an answer that the client may not have read yet: our half is ended, and what
  // still comes is thrown away, so that no RST overtakes the answer.
  std::chrono::milliseconds linger_timeout{2'000};
  std::size_t linger_bytes = 8 * 1024 * 1024;
  // Draining: how long a request that is on its way already may take to arrive.
  std::chrono::milliseconds drain_grace{1'000};
  // The client ended its half while it waits for the response. A FIN does not tell one that only
  // half-closed from one that has gone. Envoy and nginx take it for gone at once, haproxy never:
  // here the response must have begun within this time, so that `printf ... | nc` gets its answer
  // and a client that left a slow request does not keep it running. 0 = at once.
  std::chrono::milliseconds half_close_grace{500};
};

class ServerConnection final : public http::ServerConnection,
                               public net::Reapable,
                               private net::TransportUser,
                               private net::Flushable,
                               private net::TurnTask {
 public:
  ServerConnection(std::unique_ptr<net::Transport> transport, http::RequestHandler& handler,
                   http::ServerConnectionOwner& owner, const ServerConnectionOptions& options);
  ~ServerConnection() override;

  // Once. Bytes that somebody else put back to the transport are read first.
  void start();

  void begin_drain() override;
  void abort(Error why) override;
  bool idle() const noexcept override { return phase_ == Phase::idle && in_.empty(); }

  net::Transport& transport() noexcept { return *transport_; }
  std::uint64_t requests() const noexcept { return requests_; }

 private:
  // Where the request is.
  enum class Phase : std::uint8_t {
    idle,        // none
    head,        // its first byte came
    body,        // its head was told
    ended,       // complete; the next one waits unread
    refused,     // malformed: whatever else comes is thrown away
    tunnel,      // 101 was sent, all bytes are the user's
    discarding,  // its response is complete, the rest of it is thrown away
    lingering,   // our half is ended, waiting for the client's
    closed,
  };
  enum class Answer : std::uint8_t { none, body, ended };

  class Slot final : public http::ServerStream {
   public:
    explicit Slot(ServerConnection& connection) noexcept : connection_(connection) {}
    void send_informational(http::ResponseHead& head) override;
    void send_head(http::ResponseHead& head) override;
    void send_data(Chain body) override;
    void send_end(http::HeaderMap trailers) override;
    void consume(std::size_t bytes) override;
    void reset(Error why) override;
    void close_after_response() noexcept override { connection_.must_close_ = true; }
    http::Wire wire() const noexcept override { return connection_.wire(); }

   private:
    ServerConnection& connection_;
  };

  void on_open(const tls::HandshakeFacts*) override {}
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void flush() override;
  void run_at_turn_end() override;

  bool may_parse() const noexcept;
  void process();
  bool take_step(Step step);
  void begin_request();
  void tell_body(Chain body);
  void tell_end();
  void tell_refused();
  void pump_tunnel();
  void tell_owed_end();
  void check_eof();
  OutgoingBody choose_body(const http::ResponseHead& head, bool& discard);
  void finish_when_sent();
  void finish_response();
  void wait_for_request();
  void fail(Error why);
  void close_politely();
  void close_now(Error why);
  void on_timer();
  void resume() { loop_.at_turn_end(*this); }
  http::Wire wire() const noexcept { return {received_, outbox_.taken()}; }
  bool has_stream() const noexcept { return slot_.user.joined(); }

  net::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  http::RequestHandler& handler_;
  http::ServerConnectionOwner& owner_;
  const ServerConnectionOptions options_;
  Slot slot_;
  RequestParser parser_;
  Outbox outbox_;
  Chain in_;  // read and not parsed yet
  Credit credit_;
  http::DateText date_;
  net::Timer timer_;
  Phase phase_ = Phase::idle;
  Answer answer_ = Answer::none;
  bool head_request_ = false;
  bool old_client_ = false;  // HTTP/1.0
  bool client_keeps_alive_ = true;
  bool expects_continue_ = false;
  bool continued_ = false;
  bool body_seen_ = false;
  bool request_complete_ = false;
  bool cut_by_close_ = false;   // only RST tells this response's cut from its end
  bool broke_promise_ = false;  // the answer's body was not as long as its head said
  bool owes_end_ = false;       // an Upgrade's on_end waits for the answer: see stream.h
  bool tunnel_ = false;
  bool must_close_ = false;
  bool draining_ = false;
  bool eof_ = false;
  bool write_ended_ = false;
  bool told_owner_ = false;
  Error close_reason_;
  std::uint64_t requests_ = 0;
  std::uint64_t received_ = 0;   // wire bytes of this request
  std::size_t thrown_away_ = 0;  // since discarding or lingering began
};

}  // namespace proxy::http1
