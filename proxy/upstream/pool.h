// Pool: one worker's connections to one endpoint, used again last in first out.
// Not the choice of the endpoint, and not HTTP: the codec behind ClientConnection is.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "proxy/http/connection.h"
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

 private:
  friend class Pool;
  void on_available(http::ClientConnection& connection) override;
  void on_closed(http::ClientConnection& connection, Error why) override;

  Environment& environment_;
  Pool* pool_;                 // null once the pool is gone and this only waits to be reaped
  net::Transport* transport_;  // owned by connection_
  std::unique_ptr<http::ClientConnection> connection_;
  std::unique_ptr<ConnectionNote> note_;
  net::Timer idle_;
  std::uint64_t opened_ms_;
};

// Waits for a connection. Leaving the queue cancels; destroying leaves the queue.
class Waiter : public ListHook<Waiter> {
 public:
  virtual ~Waiter() = default;
  // Both are last. The connection has a free slot, to be taken by open_stream at once.
  virtual void on_ready(PooledConnection& connection) = 0;
  virtual void on_failed(Error why) = 0;
};

class Pool final : private ConnectUser {
 public:
  Pool(Environment& environment, Cluster& cluster, Endpoint& endpoint);
  ~Pool() override;

  PooledConnection* take_idle();
  void wait(Waiter& waiter);
  // Opens connections while more wait than are on their way.
  void connect_for_waiters();
  // Takes an open connection to this endpoint, on which nothing was said yet, for HTTP/1.
  void adopt(std::unique_ptr<net::Transport> transport);
  // Closes the idle connection that was used longest ago; false when none is idle.
  bool close_an_idle_one();
  // Requests that wait, and for which no connection is on its way.
  std::size_t waiting_in_vain() const noexcept {
    return waiters_.size() - std::min(waiters_.size(), connecting_.size());
  }
  // Requests wait, and there is no connection at all that could become theirs.
  bool starving() const noexcept {
    return !waiters_.empty() && connecting_.empty() && idle_.empty() && busy_.empty();
  }

 private:
  friend class PooledConnection;
  bool too_old(const PooledConnection& connection) const;
  void hand_out(PooledConnection& connection);
  void close(PooledConnection& connection);
  void refused(PooledConnection& connection);
  void lost(PooledConnection& connection);
  void on_connected(Connecting& attempt, std::unique_ptr<net::Transport> transport) override;
  void on_connect_failed(Connecting& attempt, Error why) override;

  Environment& environment_;
  Cluster& cluster_;
  Endpoint& endpoint_;
  IntrusiveList<PooledConnection> idle_;  // owned; front = used last
  IntrusiveList<PooledConnection> busy_;  // owned
  IntrusiveList<Connecting> connecting_;  // owned
  IntrusiveList<Waiter> waiters_;         // not owned; oldest first
};

}  // namespace proxy::upstream
