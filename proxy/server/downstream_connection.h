// DownstreamConnection: an accepted connection from its first byte to its last: detection, TLS,
// codec. It owns the codec, makes the exchanges and knows who is at the other end.
// Not the codec itself, and not the listener.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

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
  // http2::Observer
  void on_flood(http2::FloodKind kind) noexcept override;
  // exchange::ToOriginal
  std::shared_ptr<upstream::Cluster> cluster(const exchange::Rules& rules,
                                             const route::Plan& plan) override;
  // tunnel::TunnelOwner
  void on_tunnel_connected(tunnel::Tunnel& tunnel) override;
  void on_destination_spoke(tunnel::Tunnel& tunnel) override;
  void on_tunnel_ended(tunnel::Tunnel& tunnel) override;

  void detect();
  void detect_by_mtls_mode();
  // In interception.cc: what becomes of intercepted connections, and of TCP.
  bool intercepted() const noexcept { return original_.is_set(); }
  void begin_intercepted();
  void handshake_done(const tls::HandshakeFacts& facts);
  void sniff();
  void note_sni();
  void connect_eagerly();
  void become_tcp();
  void serve_http(bool http1);
  void adopt_eager_connection();
  void detected(telemetry::Detected what);
  bool may_pass();
  bool make_tunnel();
  void drop_tunnel();
  void log_tunnel();
  const route::Plan& tcp_plan() const;
  detect::Destinations::Destination destination_key() const;
  std::chrono::milliseconds patience() const;
  void gone_while_opening();
  void begin_handshake_time();
  void begin_tls(std::shared_ptr<const tls::Context> context);
  void begin_idle_time();
  void await_version();
  void detect_version();
  void begin_http_by(std::string_view alpn);
  void begin_http(upstream::Codec codec);
  void describe_peer();
  std::unique_ptr<http::ServerConnection> make_codec(upstream::Codec codec);
  void count_handshake(const tls::HandshakeFacts& facts);
  void fail_hello(tls::Failure failure);
  void timed_out();
  void judge();
  void close();

  Worker& worker_;
  const telemetry::Direction direction_;
  std::unique_ptr<net::Transport> transport_;           // until the codec or tunnel owns it
  std::unique_ptr<http::ServerConnection> connection_;  // serving HTTP
  std::shared_ptr<const exchange::Rules> rules_;        // what tunnel_ was made by
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
  net::Timer deadline_;  // first byte, then detection and handshake
  net::Timer eager_;     // until the destination is connected without a word of the client
  std::uint64_t opened_us_;
  std::uint64_t first_byte_us_ = 0;  // when the bytes came that may become an HTTP/2 preface
  std::uint64_t tls_started_us_ = 0;
  std::uint64_t requests_ = 0;
  std::uint64_t judged_generation_;
  Error refusal_{};          // what requests get since a reload; none = they are served
  bool sniffing_ = false;    // plain bytes of the client decide what it is
  bool versioning_ = false;  // it is HTTP, and they decide which version
  bool http2_ = false;
  bool exchange_begun_ = false;  // behind TLS both sides tell who they are
  bool waiting_http_ = false;    // HTTP/1 that is to use the connection on its way
  bool detected_ = false;
  bool patient_ = false;  // has waited once more, as it goes nowhere
  bool draining_ = false;
  bool closed_ = false;
};

}  // namespace proxy::server
