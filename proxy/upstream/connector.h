// Connecting: one attempt to reach an endpoint: TCP to its addresses in order, then TLS.
// Not a pool; it hands out an open transport once, or says why there is none.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "proxy/upstream/endpoint.h"
#include "telemetry/log.h"
#include "telemetry/record.h"
#include "tls/client_sessions.h"
#include "tls/context.h"

namespace proxy::http2 {
class Observer;
}

namespace proxy::upstream {

// What a worker lends to everything upstream; outlives all of it.
struct Environment {
  net::Loop& loop;
  telemetry::Shard& shard;
  tls::ClientSessions& sessions;
  telemetry::RateLimitedLog& log;
  http2::Observer* http2 = nullptr;  // of connections in HTTP/2; null = nobody counts
};

// What is spoken on a connection: what TLS offers (ALPN), and which codec follows.
enum class Codec : std::uint8_t { http1, http2 };
inline constexpr std::size_t kCodecs = 2;

// How an endpoint is spoken to. Lives in the cluster's spec.
struct ConnectSpec {
  std::shared_ptr<const tls::Context> tls;  // null: plaintext
  std::string sni;
  std::vector<std::string> expected_sans;
  net::ConnectOptions options;  // where connections are made from
  bool tcp = false;             // what follows is no HTTP: ALPN istio-peer-exchange
  std::chrono::milliseconds connect_timeout{5000};
  std::chrono::milliseconds tls_timeout{10000};
};

class Connecting;

class ConnectUser {
 public:
  virtual ~ConnectUser() = default;
  // Both are last; the user reaps `attempt`.
  virtual void on_connected(Connecting& attempt, std::unique_ptr<net::Transport> transport) = 0;
  virtual void on_connect_failed(Connecting& attempt, Error why) = 0;
};

// Destroying it gives up the attempt. Counts its outcome by itself.
class Connecting final : public net::Reapable,
                         public ListHook<Connecting>,
                         private net::TransportUser {
 public:
  using ListHook<Connecting>::unlink;

  Connecting(Environment& environment, const Endpoint& endpoint, const ConnectSpec& spec,
             Codec codec, ConnectUser& user);
  ~Connecting() override;
  // No event follows: the user goes before the attempt, which waits to be reaped.
  void give_up() noexcept;

 private:
  void try_address();
  void begin_tls();
  void finish_failed(Error why, telemetry::ConnectOutcome outcome);
  void count_handshake(const tls::HandshakeFacts& facts);
  void timed_out();

  void on_open(const tls::HandshakeFacts* facts) override;
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t) override {}
  void on_closed(Error why) override;

  Environment& environment_;
  const Endpoint& endpoint_;
  const ConnectSpec& spec_;
  const Codec codec_;
  ConnectUser& user_;
  std::unique_ptr<net::Transport> transport_;
  net::Timer deadline_;
  std::size_t address_ = 0;
  std::uint64_t started_us_;
  std::uint64_t tls_started_us_ = 0;
  bool done_ = false;
};

}  // namespace proxy::upstream
