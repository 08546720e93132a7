// Listener: accepts connections on one address for one loop.
// Not a codec chooser: it hands out transports.
#pragma once

#include <memory>
#include <string>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"

struct uv_stream_s;

namespace proxy::net {

// A bound, listening-to-be descriptor, closed by its destructor unless released.
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
Result<BoundSocket> bind_tcp(const SocketAddress& address, bool exclusive);

class ListenerUser {
 public:
  virtual ~ListenerUser() = default;
  virtual void on_accept(std::unique_ptr<TcpTransport> transport) = 0;
  // Accepting failed (EMFILE and the like); the listener goes on by itself. `error` is an errno.
  virtual void on_accept_failed(int error) = 0;
};

class Listener {
 public:
  Listener(Loop& loop, ListenerUser& user);
  ~Listener();  // stops listening
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  Result<> listen(BoundSocket socket);

 private:
  struct Node;
  static void on_connection(uv_stream_s* handle, int status) noexcept;
  void accept_waiting(int status);

  Loop& loop_;
  ListenerUser& user_;
  Node* node_;
};

}  // namespace proxy::net
