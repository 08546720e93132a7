// Listener: accepts connections on one address for one loop.
// Not a codec chooser: it hands out transports.
#pragma once

#include <chrono>
#include <memory>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"
#include "proxy/net/timer.h"

namespace proxy::net {

// A bound descriptor, listening or soon to, closed by its destructor unless released.
class BoundSocket {
 public:
  explicit BoundSocket(int fd) noexcept : fd_(fd) {}
  BoundSocket(BoundSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  BoundSocket& operator=(BoundSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~BoundSocket();
  int get() const noexcept { return fd_; }
  int release() noexcept { return std::exchange(fd_, -1); }
  // What was bound, the port the kernel chose included.
  SocketAddress address() const;

 private:
  int fd_;
};

// First comes, with exclusive: binds without SO_REUSEPORT, so that an address somebody else
// listens on is an error even when that somebody is another copy of us; then turns SO_REUSEPORT on,
// so that `exclusive = false` calls for the other workers can join. Error.detail is errno.
// `transparent`: takes connections to any address that the kernel brings here (TPROXY), which
// needs CAP_NET_ADMIN.
Result<BoundSocket> bind_tcp(const SocketAddress& address, bool exclusive,
                             bool transparent = false);

class ListenerUser {
 public:
  virtual ~ListenerUser() = default;
  virtual void on_accept(std::unique_ptr<TcpTransport> transport) = 0;
  // Is there a descriptor to spare for one more connection? Asked before each is accepted.
  virtual bool has_room() { return true; }
  // Accepting failed (EMFILE and the like), or there is no room (EMFILE as well). The listener goes
  // on by itself: it leaves the waiting connections to the kernel's queue and tries again every
  // kRetry. `error` is an errno.
  virtual void on_accept_failed(int error) = 0;
};

// Accepts by itself rather than through uv_listen, which at EMFILE closes every waiting connection
// and, without its spare descriptor, never returns from its accept loop.
class Listener {
 public:
  Listener(Loop& loop, ListenerUser& user);
  ~Listener();  // stops listening; the kernel resets connections nobody accepted
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Begins to accept. on_accept comes in turns of the loop, never from inside this call.
  Result<> listen(BoundSocket socket);
  // Something was given back: what waits for room is tried in the loop's next round. False when
  // nothing waited.
  bool retry();
  // New clients are no longer let in: the kernel drops their SYNs, so that they try again in a
  // second and are told that nobody listens. Handshakes under way come to their end and are
  // accepted. Where the kernel can't do it this is nothing.
  void stop_new();
  // Accepts what waits in the kernel's queue (on_accept is called from inside), then stops
  // listening: for drains, so that no connected client is reset.
  void finish();

  static constexpr std::chrono::milliseconds kRetry{100};

 private:
  struct Node;
  static void on_ready(Node& node);
  bool accept_one();
  void pause(int error);
  void poll();
  void close();

  Loop& loop_;
  ListenerUser& user_;
  Node* node_ = nullptr;
  Timer retry_;
};

}  // namespace proxy::net
