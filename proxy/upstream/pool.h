// Pool: one worker's connections to one endpoint in one HTTP version, used again last in first out.
// Not the choice of the endpoint, and not HTTP: the codec behind ClientConnection is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "proxy/http/connection.h"
#include "proxy/http2/client_connection.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/connector.h"

namespace proxy::upstream {

// What a pool's user keeps with a connection, such as who is at its other end.
class ConnectionNote {
 public:
  virtual ~ConnectionNote() = default;
};

// A connection and what the pool knows of it. Owned by its Pool.
class PooledConnection final : public net::Reapable,
                               public ListHook<PooledConnection>,
                               private http::ClientConnectionOwner {
 public:
  using ListHook<PooledConnection>::unlink;

  PooledConnection(Pool& pool, std::unique_ptr<net::Transport> transport);
  ~PooledConnection() override;

  http::ClientConnection& connection() noexcept { return *connection_; }
  // Opens a stream, counting whether the connection had been used before.
  http::ClientStream* open_stream(http::ResponseUser& user);
  // The verified identity of the endpoint; null on plaintext.
  const tls::PeerIdentity* peer() const noexcept { return transport_->peer(); }
  std::unique_ptr<ConnectionNote>& note() noexcept { return note_; }
  // Unique within its cluster, never 0.
  std::uint64_t number() const noexcept { return number_; }
  // Other requests are sent on it at the same time.
  bool multiplexed() const noexcept { return http2_ != nullptr; }

 private:
  friend class Pool;
  std::unique_ptr<http::ClientConnection> make_codec(std::unique_ptr<net::Transport> transport);
  bool settled() const noexcept { return http2_ == nullptr || http2_->settings_received(); }
  // No stream, and the peer grants none.
  bool takes_none() const noexcept {
    return http2_ != nullptr && http2_->idle() && http2_->stream_limit() == 0;
  }
  bool takes_upgrades() const noexcept {
    return http2_ == nullptr || http2_->takes_extended_connect();
  }
  void on_available(http::ClientConnection& connection) override;
  void on_closed(http::ClientConnection& connection, Error why) override;

  Environment& environment_;
  Pool* pool_;                 // null once the pool is gone and this only waits to be reaped
  net::Transport* transport_;  // owned by connection_
  http2::ClientConnection* http2_ = nullptr;  // connection_, when it is that
  std::unique_ptr<http::ClientConnection> connection_;
  std::unique_ptr<ConnectionNote> note_;
  net::Timer idle_;  // in Pool::idle_ and Pool::barren_
  std::uint64_t opened_ms_;
  const std::uint64_t number_;
  bool counted_unsettled_ = false;
  bool barren_ = false;
  bool retiring_ = false;  // takes no more requests, closes when the last one ends
};

// Waits for a connection. Leaving the queue cancels; destroying leaves the queue.
class Waiter : public ListHook<Waiter> {
 public:
  virtual ~Waiter() = default;
  // Both are last. The connection has a free slot, to be taken by open_stream at once.
  virtual void on_ready(PooledConnection& connection) = 0;
  virtual void on_failed(Error why) = 0;

  bool upgrade = false;          // wants a connection that takes upgrades
  std::uint64_t refused_by = 0;  // number of the connection that refused this request; 0 = none did
};

class Pool final : private ConnectUser {
 public:
  Pool(Environment& environment, Cluster& cluster, Endpoint& endpoint, Codec codec);
  ~Pool() override;

  // A connection that suits, to be used at once; null when there is none now.
  PooledConnection* take(const Waiter& waiter);
  void wait(Waiter& waiter);
  // Opens connections while more wait than are on their way.
  void connect_for_waiters();
  // Takes an open connection to this endpoint, on which we have said nothing yet.
  void adopt(std::unique_ptr<net::Transport> transport);
  // Closes the idle connection that was used longest ago; for `wanted` HTTP/1 also one whose peer
  // grants no streams. False when there is none.
  bool close_an_idle_one(Codec wanted);
  // A peer in HTTP/2 grants no streams, on a connection that has none (MAX_CONCURRENT_STREAMS of
  // 0, RFC 9113 6.5.2). Envoy would open one connection after the other, or let the requests wait
  // for their whole timeout. Here they wait for the streams to be granted as long as they would
  // for a connection, connect_timeout, and no other one is opened meanwhile; then they fail alike.
  bool barren() const noexcept { return !barren_.empty(); }
  // Requests that wait, and for which no connection is on its way.
  std::size_t waiting_in_vain() const noexcept {
    return barren() ? waiters_.size()
                    : waiters_.size() - std::min(waiters_.size(), expected_slots());
  }
  // Requests wait, and there is no connection at all that could become theirs.
  bool starving() const noexcept {
    return !waiters_.empty() && connecting_.empty() && idle_.empty() && shared_.empty() &&
           barren_.empty() && busy_.empty();
  }
  // The endpoint has gone from its service, or is back: who waits is served still, and then each
  // connection closes as its last request ends.
  void set_draining(bool draining);
  // Nothing of it is left.
  bool unused() const noexcept {
    return waiters_.empty() && connecting_.empty() && idle_.empty() && shared_.empty() &&
           barren_.empty() && busy_.empty();
  }
  // The endpoint's connections said that they take no upgrades.
  bool refuses_upgrades() const noexcept { return refuses_upgrades_; }

 private:
  friend class PooledConnection;
  // HTTP/2: what a peer is taken to grant until one has said it (RFC 9113 6.5.2 asks for no less).
  static constexpr std::size_t kUsualSlots = 100;

  bool too_old(const PooledConnection& connection) const;
  bool suits(const PooledConnection& connection, const Waiter& waiter) const;
  std::size_t expected_slots() const noexcept {
    return (connecting_.size() + unsettled_) * slots_each_;
  }
  PooledConnection* take_from(IntrusiveList<PooledConnection>& list, const Waiter& waiter);
  Waiter* next_waiter(const PooledConnection& connection);
  void add(std::unique_ptr<net::Transport> transport);
  void learn(PooledConnection& connection);
  void move_upgrades_away(PooledConnection& because);
  void hand_out(PooledConnection& connection);
  void place(PooledConnection& connection);
  void place_barren(PooledConnection& connection);
  void fail_waiters(std::size_t most, Error why);
  void retire(PooledConnection& connection);
  void idle_too_long(PooledConnection& connection);
  void barren_too_long(PooledConnection& connection);
  void close(PooledConnection& connection);
  void refused(PooledConnection& connection);
  void lost(PooledConnection& connection);
  void on_connected(Connecting& attempt, std::unique_ptr<net::Transport> transport) override;
  void on_connect_failed(Connecting& attempt, Error why) override;

  Environment& environment_;
  Cluster& cluster_;
  Endpoint& endpoint_;
  const Codec codec_;
  IntrusiveList<PooledConnection> idle_;    // owned; no streams; front = used last
  IntrusiveList<PooledConnection> shared_;  // owned; streams, and slots for more (HTTP/2)
  IntrusiveList<PooledConnection> barren_;  // owned; no streams, and none granted (HTTP/2)
  IntrusiveList<PooledConnection> busy_;    // owned; no slot is free, or retiring
  IntrusiveList<Connecting> connecting_;    // owned
  IntrusiveList<Waiter> waiters_;           // not owned; oldest first
  std::size_t slots_each_;                  // requests that a new connection is expected to take
  std::size_t unsettled_ = 0;               // connections whose peer has not said its settings yet
  bool refuses_upgrades_ = false;
  bool draining_ = false;
  bool grants_nothing_ =
      false;  // what the peer said last: nothing is sent before it says otherwise
};

}  // namespace proxy::upstream
