// Worker: one thread, one loop, and everything that is served on it.
// Not shared: workers have nothing in common but the snapshot and what telemetry hands out.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "proxy/detect/destinations.h"
#include "proxy/exchange/exchange.h"
#include "proxy/net/listener.h"
#include "proxy/net/loop.h"
#include "proxy/server/downstream_connection.h"
#include "proxy/server/http2_counters.h"
#include "proxy/server/original_clusters.h"
#include "proxy/server/snapshot.h"
#include "telemetry/access_log.h"
#include "telemetry/log.h"
#include "telemetry/peer_metadata.h"
#include "telemetry/shard.h"
#include "tls/client_sessions.h"

namespace proxy::server {

// Kinds of rate-limited lines, behind those of handshakes (tls::Failure).
enum class LogKind : std::uint8_t { flood = 27, loop, judged, limit, accept };

class Worker {
 public:
  // `on_drained` is called once, on the worker's thread, when begin_drain was asked for and the
  // last connection has gone.
  Worker(std::shared_ptr<const Snapshot> snapshot, telemetry::Shard& shard,
         telemetry::AccessLog::Producer& access_log, telemetry::Log& log,
         std::function<void()> on_drained);
  // After the thread has ended (join()), or without having started.
  ~Worker();

  // Before start(), on the starting thread.
  Result<> listen(telemetry::Direction direction, net::BoundSocket socket);
  // All addresses this process listens on: what is meant for them is not to be passed on.
  void set_own_listeners(std::vector<net::SocketAddress> own) { own_listeners_ = std::move(own); }
  // How many descriptors the process has open before it has any connection.
  void set_own_descriptors(std::size_t count) { own_descriptors_ = count; }
  void start();

  // From the main thread, any time after start().
  void set_snapshot(std::shared_ptr<const Snapshot> snapshot);
  void begin_drain();
  void abort_all();  // ends what is left; the thread ends soon after
  void join();

  // On the worker's thread, for its connections.
  net::Loop& loop() noexcept { return loop_; }
  telemetry::Shard& shard() noexcept { return shard_; }
  const Snapshot& snapshot() const noexcept { return *snapshot_; }
  const std::shared_ptr<const exchange::Rules>& rules(telemetry::Direction direction) const {
    return rules_[static_cast<std::size_t>(direction)];
  }
  exchange::ExchangePool& exchanges() noexcept { return exchanges_; }
  upstream::Environment& upstream() noexcept { return upstream_; }
  telemetry::RateLimitedLog& rate_limited_log() noexcept { return rate_limited_log_; }
  OriginalClusters& originals() noexcept { return originals_; }
  // Intercepted destinations that spoke first, and those whose clients spoke HTTP.
  detect::Destinations& server_first() noexcept { return server_first_; }
  detect::Destinations& speaks_http() noexcept { return speaks_http_; }
  telemetry::AccessLog::Producer& access_log() noexcept { return exchange_.access_log; }
  filter::WorkerState& filter_state() noexcept { return filter_state_; }
  void downstream_closed();
  // File descriptors are plentiful: some may go into pipes, which only make a relay faster.
  bool may_splice() const;

 private:
  // One listening socket of this worker.
  class Port final : private net::ListenerUser {
   public:
    Port(Worker& worker, telemetry::Direction direction)
        : worker_(worker), direction_(direction), listener_(worker.loop_, *this) {}
    Result<> listen(net::BoundSocket socket) { return listener_.listen(std::move(socket)); }
    bool retry() { return listener_.retry(); }
    void stop_new() { listener_.stop_new(); }
    void finish() { listener_.finish(); }

   private:
    void on_accept(std::unique_ptr<net::TcpTransport> transport) override;
    bool has_room() override { return worker_.has_room(); }
    void on_accept_failed(int error) override;

    Worker& worker_;
    const telemetry::Direction direction_;
    net::Listener listener_;
  };

  // This worker's part of the file descriptors that clients may take. The workers share evenly.
  struct DescriptorShare {
    std::size_t used;  // by clients, an upstream connection for each of them, and pipes
    std::size_t size;
  };

  void apply(std::shared_ptr<const Snapshot> snapshot);
  std::shared_ptr<const exchange::Rules> make_rules(
      telemetry::Direction direction, const route::Table& routes, const filter::Chain& filters,
      const std::vector<std::shared_ptr<const upstream::ClusterSpec>>& specs);
  std::vector<std::shared_ptr<upstream::Cluster>> make_clusters(
      telemetry::Direction direction,
      const std::vector<std::shared_ptr<const upstream::ClusterSpec>>& specs);
  void accept(telemetry::Direction direction, std::unique_ptr<net::TcpTransport> transport);
  bool has_room() const;
  DescriptorShare descriptor_share(std::size_t clients) const;
  std::optional<net::SocketAddress> original_of(telemetry::Direction direction,
                                                const net::TcpTransport& transport) const;
  bool is_loop(telemetry::Direction direction, const net::SocketAddress& original,
               const net::TcpTransport& transport) const;
  void close_ports();
  void measure_lag();
  void finish();
  void run();

  net::Loop loop_;  // first: everything below may hold on to it
  telemetry::Shard& shard_;
  telemetry::RateLimitedLog rate_limited_log_;
  telemetry::PeerMetadataCache peers_;
  filter::RequestIds request_ids_;
  tls::ClientSessions sessions_;
  Http2Counters upstream_http2_;
  filter::WorkerState filter_state_;
  upstream::Environment upstream_;
  exchange::Environment exchange_;
  exchange::ExchangePool exchanges_;
  OriginalClusters originals_;
  detect::Destinations server_first_;
  detect::Destinations speaks_http_;
  std::vector<net::SocketAddress> own_listeners_;
  std::size_t own_descriptors_ = 0;
  std::shared_ptr<const Snapshot> snapshot_;
  std::array<std::shared_ptr<const exchange::Rules>, 2> rules_;  // by Direction
  std::vector<std::unique_ptr<Port>> ports_;
  std::size_t retried_first_ = 0;                    // which of them, modulo their number
  IntrusiveList<DownstreamConnection> connections_;  // owned: each reaps itself when it ends
  net::Timer ports_timer_;                           // until the ports close, draining
  net::Timer lag_timer_;
  std::uint64_t lag_due_us_ = 0;
  std::function<void()> on_drained_;
  bool draining_ = false;
  bool finished_ = false;
  std::thread thread_;
};

}  // namespace proxy::server
