// DownstreamConnection: an accepted connection from its first byte to its last: detection, TLS,
// then HTTP or TCP. It owns the codec or tunnel and knows who is at the other end.
// Not the codec itself, and not the listener.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/detect/destinations.h"
#include "proxy/exchange/exchange.h"
#include "proxy/http/connection.h"
#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "proxy/server/http2_counters.h"
#include "proxy/tunnel/tunnel.h"
#include "telemetry/facts.h"
#include "tls/client_hello.h"

namespace proxy::server {

class Worker;

class DownstreamConnection final : public net::Reapable,
                                   public ListHook<DownstreamConnection>,
                                   public http::RequestHandler,
                                   private http::ServerConnectionOwner,
                                   private Http2Counters,
                                   private net::TransportUser,
                                   private exchange::ToOriginal,
                                   private tunnel::TunnelOwner {
 public:
  using ListHook<DownstreamConnection>::unlink;

  // `original`: where it was going, when it was intercepted.
  DownstreamConnection(Worker& worker, telemetry::Direction direction,
                       std::unique_ptr<net::TcpTransport> transport,
                       const std::optional<net::SocketAddress>& original);
  ~DownstreamConnection() override;

  void begin();
  // The worker has a new snapshot: plaintext leaves when strict begins; the rest is judged at its
  // next request.
  void snapshot_changed();
  // Whoever serves a request or relays goes on; who has not got so far gets a second for it.
  void begin_drain();
  void abort(Error why);

 private:
  // Each leads to a later one, or back from handshaking to what is found inside of TLS.
  enum class State : std::uint8_t {
    undecided,    // the first byte will tell whether it is TLS for us to end
    hello,        // it is to be TLS; the ClientHello is not whole yet
    handshaking,  // TLS
    sniffing,     // plain bytes tell what is spoken; or the destination does, by speaking first
    versioning,   // HTTP; its first bytes tell which version
    adopting,     // HTTP that will use the destination's connection, which is on its way
    serving,      // HTTP: connection_ has it
    relaying,     // TCP: tunnel_ has it
    closed,
  };

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
  // http2::Observer
  void on_flood(http2::FloodKind kind) noexcept override;
  // exchange::ToOriginal
  std::shared_ptr<upstream::Cluster> cluster(const exchange::Rules& rules,
                                             const route::Plan& plan) override;
  // tunnel::TunnelOwner
  bool may_splice() override;
  void on_tunnel_connected(tunnel::Tunnel& tunnel) override;
  void on_destination_spoke(tunnel::Tunnel& tunnel, const Chain& first) override;
  void on_tunnel_ended(tunnel::Tunnel& tunnel) override;

  // --- downstream_connection.cc: its way and its time ---
  bool intercepted() const noexcept { return original_.is_set(); }
  void enter(State state);
  void start_deadline(std::chrono::milliseconds wanted);
  void timed_out();
  void judge();
  void close();

  // --- downstream_detection.cc: what the first bytes are ---
  void detect();
  void detect_tls();
  tls::Peek peek_hello();
  void begin_tls(std::shared_ptr<const tls::Context> context);
  void handshake_done(std::string_view alpn);
  void sniff();
  void detect_version();
  void await_more();
  void detected(telemetry::Detected what);
  void count_handshake(const tls::HandshakeFacts& facts);
  void fail_hello(tls::Failure failure);
  void gone_while_opening();

  // --- downstream_http.cc ---
  void serve_http(upstream::Codec codec);
  void begin_http();
  void describe_peer();

  // --- downstream_tcp.cc: what is intercepted, and all that is passed on as TCP ---
  void begin_intercepted();
  void begin_exchange();
  const route::Plan& tcp_plan() const;
  detect::Destinations::Destination destination_key() const;
  std::chrono::milliseconds patience() const;
  void patience_over();
  void connect_eagerly();
  void become_tcp();
  bool may_pass();
  bool make_tunnel();
  void drop_tunnel();
  void adopt_eager_connection();
  void log_tunnel();

  Worker& worker_;
  const telemetry::Direction direction_;
  std::unique_ptr<net::Transport> transport_;           // until the codec or tunnel owns it
  std::unique_ptr<http::ServerConnection> connection_;  // serving
  std::unique_ptr<tunnel::Tunnel> tunnel_;              // perhaps before it is sure to be TCP
  net::Transport* secure_ = nullptr;  // the TLS transport, wherever it is owned now
  Chain first_bytes_;                 // while detecting
  std::size_t hello_bytes_ = 0;       // how many of them the ClientHello has at least
  std::string peer_address_;          // from the beginning of TLS
  exchange::Downstream facts_;
  const net::SocketAddress client_;
  const net::SocketAddress original_;  // set when intercepted
  route::OriginalDestination original_key_;
  std::string sni_;      // of TLS that is not ours to end
  net::Timer deadline_;  // for the client to get on
  net::Timer patience_;  // until the client's silence means something
  std::uint64_t opened_us_;
  std::uint64_t first_byte_us_ = 0;   // of a first request, when it did not come in one piece
  std::uint64_t tls_started_us_ = 0;  // 0: no byte of TLS was seen or asked for
  std::uint64_t requests_ = 0;
  std::uint64_t judged_generation_;
  Error refusal_{};  // what requests get since a reload; none = they are served
  State state_ = State::undecided;
  upstream::Codec codec_ = upstream::Codec::http1;  // adopting, serving
  bool draining_ = false;
};

}  // namespace proxy::server
