// Binding and accepting.
// Not where a port in use is explained to the user; that needs /proc and belongs to the commands.
#include "proxy/net/listener.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <exception>

#include "proxy/net/handle.h"

namespace proxy::net {
namespace {
constexpr int kBacklog = 4096;  // the kernel lowers it to net.core.somaxconn

std::unexpected<Error> failed() {
  return std::unexpected(make_error(Code::system, Side::local, errno));
}

bool set(int fd, int level, int option) {
  const int on = 1;
  return setsockopt(fd, level, option, &on, sizeof on) == 0;
}
}  // namespace

struct Listener::Node {
  uv_tcp_t handle{};
  Listener* owner = nullptr;
  Loop* loop = nullptr;
};

BoundSocket::~BoundSocket() {
  if (fd_ >= 0) ::close(fd_);
}

SocketAddress BoundSocket::address() const {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (getsockname(fd_, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return {};
  return SocketAddress(storage);
}

Result<BoundSocket> bind_tcp(const SocketAddress& address, bool exclusive) {
  BoundSocket socket(
      ::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = socket.get();
  if (fd < 0) return failed();
  if (!set(fd, SOL_SOCKET, SO_REUSEADDR)) return failed();
  // Two families on one port are two sockets; neither takes the other's connections.
  if (address.is_ipv6() && !set(fd, IPPROTO_IPV6, IPV6_V6ONLY)) return failed();
  if (!exclusive && !set(fd, SOL_SOCKET, SO_REUSEPORT)) return failed();
  if (::bind(fd, address.get(), address.length()) != 0) return failed();
  if (exclusive) {
    // SO_REUSEADDR lets two binds of one address succeed as long as nobody listens; so listen now.
    if (!set(fd, SOL_SOCKET, SO_REUSEPORT)) return failed();
    if (::listen(fd, kBacklog) != 0) return failed();
  }
  return socket;
}

Listener::Listener(Loop& loop, ListenerUser& user) : loop_(loop), user_(user), node_(new Node) {
  if (uv_tcp_init(loop.uv(), &node_->handle) != 0) std::terminate();
  node_->owner = this;
  node_->loop = &loop;
  node_->handle.data = node_;
}

Listener::~Listener() {
  UvHandle<Node> closing(node_);
}

Result<> Listener::listen(BoundSocket socket) {
  int error = uv_tcp_open(&node_->handle, socket.get());
  if (error != 0) return std::unexpected(make_error(Code::system, Side::local, -error));
  socket.release();
  error =
      uv_listen(reinterpret_cast<uv_stream_t*>(&node_->handle), kBacklog, &Listener::on_connection);
  if (error != 0) return std::unexpected(make_error(Code::system, Side::local, -error));
  return {};
}

void Listener::on_connection(uv_stream_s* handle, int status) noexcept {
  auto& node = *static_cast<Node*>(handle->data);
  if (node.owner == nullptr) return;
  Loop::Turn turn(*node.loop);
  node.owner->accept_waiting(status);
}

void Listener::accept_waiting(int status) {
  if (status != 0) {
    user_.on_accept_failed(-status);
    return;
  }
  auto transport = TcpTransport::accept(loop_, reinterpret_cast<uv_stream_t*>(&node_->handle));
  if (transport != nullptr) user_.on_accept(std::move(transport));
}

}  // namespace proxy::net
