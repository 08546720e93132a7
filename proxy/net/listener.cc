// Binding and accepting.
// Not where a port in use is explained to the user; that needs /proc and belongs to the commands.
#include "proxy/net/listener.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <array>
#include <cerrno>
#include <utility>

#include "proxy/net/handle.h"

namespace proxy::net {
namespace {
constexpr int kBacklog = 4096;  // the kernel lowers it to net.core.somaxconn
constexpr int kAcceptsATurn = 16;

std::unexpected<Error> failed() {
  return std::unexpected(make_error(Code::system, Side::local, errno));
}

// From here on the kernel drops SYNs (RFC 9293 3.1: bit 1 of byte 13).
void drop_syns(int fd) {
  std::array<sock_filter, 4> program{{
      {BPF_LD | BPF_B | BPF_ABS, 0, 0, 13},
      {BPF_JMP | BPF_JSET | BPF_K, 0, 1, 0x02},
      {BPF_RET | BPF_K, 0, 0, 0},
      {BPF_RET | BPF_K, 0, 0, 0xffffffff},
  }};
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter);
}

bool set(int fd, int level, int option) {
  const int on = 1;
  return setsockopt(fd, level, option, &on, sizeof on) == 0;
}
}  // namespace

struct Listener::Node {
  explicit Node(BoundSocket bound) noexcept : socket(std::move(bound)) {}
  uv_poll_t handle{};
  Listener* owner = nullptr;
  Loop* loop = nullptr;
  BoundSocket socket;
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

Result<BoundSocket> bind_tcp(const SocketAddress& address, bool exclusive, bool transparent) {
  BoundSocket socket(
      ::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = socket.get();
  if (fd < 0) return failed();
  if (!set(fd, SOL_SOCKET, SO_REUSEADDR)) return failed();
  // Two families on one port are two sockets; neither takes the other's connections.
  if (address.is_ipv6() && !set(fd, IPPROTO_IPV6, IPV6_V6ONLY)) return failed();
  if (transparent && !set(fd, address.is_ipv6() ? IPPROTO_IPV6 : IPPROTO_IP,
                          address.is_ipv6() ? IPV6_TRANSPARENT : IP_TRANSPARENT)) {
    return failed();
  }
  if (!exclusive && !set(fd, SOL_SOCKET, SO_REUSEPORT)) return failed();
  if (::bind(fd, address.get(), address.length()) != 0) return failed();
  if (exclusive) {
    // SO_REUSEADDR lets two binds of one address succeed as long as nobody listens; so listen now.
    if (!set(fd, SOL_SOCKET, SO_REUSEPORT)) return failed();
    if (::listen(fd, kBacklog) != 0) return failed();
  }
  return socket;
}

Listener::Listener(Loop& loop, ListenerUser& user)
    : loop_(loop), user_(user), retry_(loop, [this] { poll(); }) {}

Listener::~Listener() {
  close();
}

void Listener::close() {
  if (node_ == nullptr) return;
  retry_.stop();
  Node& node = *std::exchange(node_, nullptr);
  UvHandle<Node>(&node).close();
  // libuv has let go of the descriptor already: nobody connects to it while the node waits.
  node.socket = BoundSocket(-1);
}

Result<> Listener::listen(BoundSocket socket) {
  ASSERT(node_ == nullptr);
  if (::listen(socket.get(), kBacklog) != 0) return failed();
  auto node = std::make_unique<Node>(std::move(socket));
  const int error = uv_poll_init(loop_.uv(), &node->handle, node->socket.get());
  if (error != 0) return std::unexpected(make_error(Code::system, Side::local, -error));
  node_ = node.release();
  node_->owner = this;
  node_->loop = &loop_;
  node_->handle.data = node_;
  poll();
  return {};
}

bool Listener::retry() {
  if (!retry_.running()) return false;
  retry_.stop();
  poll();
  return true;
}

void Listener::stop_new() {
  if (node_ != nullptr) drop_syns(node_->socket.get());
}

void Listener::finish() {
  if (node_ == nullptr) return;
  Loop::Turn turn(loop_);
  while (node_ != nullptr && accept_one()) {
  }
  close();
}

void Listener::poll() {
  uv_poll_start(&node_->handle, UV_READABLE, [](uv_poll_t* handle, int, int) noexcept {
    on_ready(*static_cast<Node*>(handle->data));
  });
}

// A few at a time: connections that are already here must not wait behind a flood of new ones.
void Listener::on_ready(Node& node) {
  Loop::Turn turn(*node.loop);
  // The user may end this listener from its callback; the node lives on until it is closed.
  for (int i = 0; i < kAcceptsATurn && node.owner != nullptr; ++i) {
    if (!node.owner->accept_one()) return;
  }
}

bool Listener::accept_one() {
  if (!user_.has_room()) {
    pause(EMFILE);
    return false;
  }
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  const int fd = ::accept4(node_->socket.get(), reinterpret_cast<sockaddr*>(&peer), &length,
                           SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd >= 0) {
    user_.on_accept(TcpTransport::adopt(loop_, fd, SocketAddress(peer)));
    return true;
  }
  const int error = errno;
  if (error == EAGAIN || error == EWOULDBLOCK) return false;
  // The connection went away while it waited, or had an error of its own (accept(2)): the next.
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM) return true;
  pause(error);
  return false;
}

void Listener::pause(int error) {
  uv_poll_stop(&node_->handle);
  retry_.start(kRetry);
  user_.on_accept_failed(error);
}

}  // namespace proxy::net
