// DownstreamConnection: an accepted connection from its first byte to its last: detection, TLS,
// codec. It owns the codec, makes the exchanges and knows who is at the other end.
// Not the codec itself, and not the listener.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "proxy/exchange/exchange.h"
#include "proxy/http/connection.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "proxy/tunnel/relay.h"
#include "proxy/upstream/connector.h"
#include "telemetry/facts.h"

namespace proxy::server {

class Worker;

class DownstreamConnection final : public net::Reapable,
                                   public ListHook<DownstreamConnection>,
                                   public http::RequestHandler,
                                   private http::ServerConnectionOwner,
                                   private net::TransportUser,
                                   private upstream::ConnectUser,
                                   private tunnel::RelayOwner {
 public:
  using ListHook<DownstreamConnection>::unlink;

  DownstreamConnection(Worker& worker, telemetry::Direction direction,
                       std::unique_ptr<net::Transport> transport);
  ~DownstreamConnection() override;

  void begin();
  // The worker has a new snapshot: plaintext leaves when strict begins; the rest is judged at its
  // next request.
  void snapshot_changed();
  void begin_drain();
  void abort(Error why);

 private:
  // http::RequestHandler
  void on_request_started(http::ServerStream& stream) override;
  // http::ServerConnectionOwner
  void on_closed(http::ServerConnection& connection, Error why) override;
  // net::TransportUser, until a codec or relay takes over
  void on_open(const tls::HandshakeFacts* facts) override;
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t) override {}
  void on_closed(Error why) override;
  // upstream::ConnectUser, for what passes to the app as TCP
  void on_connected(upstream::Connecting& attempt,
                    std::unique_ptr<net::Transport> transport) override;
  void on_connect_failed(upstream::Connecting& attempt, Error why) override;
  // tunnel::RelayOwner
  void on_relay_ended(tunnel::Relay& relay) override;

  void detect();
  void gone_while_opening();
  void begin_handshake_time();
  void begin_tls(std::shared_ptr<const tls::Context> context);
  void begin_http();
  void pass_to_app();
  void count_handshake(const tls::HandshakeFacts& facts);
  void fail_hello(tls::Failure failure);
  void timed_out();
  void judge();
  void close();

  Worker& worker_;
  const telemetry::Direction direction_;
  std::unique_ptr<net::Transport> transport_;           // until the codec or relay owns it
  std::unique_ptr<http::ServerConnection> connection_;  // serving HTTP
  std::shared_ptr<const exchange::Rules> rules_;        // keeps what connecting_ refers to
  std::unique_ptr<upstream::Connecting> connecting_;    // on its way to the app, for a relay
  std::unique_ptr<tunnel::Relay> relay_;
  net::Transport* secure_ = nullptr;  // the TLS transport, wherever it is owned now
  Chain first_bytes_;                 // while detecting
  std::size_t hello_bytes_ = 0;       // how many of them the ClientHello has at least
  std::string peer_address_;          // from the beginning of TLS
  exchange::Downstream facts_;
  net::Timer deadline_;  // first byte, then detection and handshake
  std::uint64_t opened_us_;
  std::uint64_t tls_started_us_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t judged_generation_;
  Error refusal_{};  // what requests get since a reload; none = they are served
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace proxy::server
