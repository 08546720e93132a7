// The two ways of a Splice, driven by readiness.
// libuv watches a descriptor once, so these are duplicates of the transports' descriptors.
#include "proxy/net/splice.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "proxy/net/handle.h"
#include "proxy/net/tcp_transport.h"

namespace proxy::net {
namespace {

constexpr int kPipeBytes = 256 * 1024;
// Others are to be served as well; what is left makes the sockets ready again at once.
constexpr std::size_t kBytesATurn = 1024 * 1024;

void close_pipe(std::array<int, 2>& pipe) {
  for (int& end : pipe) {
    if (end >= 0) ::close(std::exchange(end, -1));
  }
}

thread_local std::size_t pipe_ends = 0;  // of this thread's splices

bool open_pipe(std::array<int, 2>& pipe) {
  if (::pipe2(pipe.data(), O_NONBLOCK | O_CLOEXEC) != 0) return false;
  ::fcntl(pipe[1], F_SETPIPE_SZ, kPipeBytes);  // the usual 64 KiB serve as well
  return true;
}

}  // namespace

struct Splice::Node {
  uv_poll_t handle{};
  Splice* owner = nullptr;
  Loop* loop = nullptr;
  int fd = -1;
  int events = 0;
};

std::unique_ptr<Splice> Splice::make(Loop& loop, const TcpTransport& first,
                                     const TcpTransport& second, SpliceUser& user) {
  std::unique_ptr<Splice> splice(new Splice(user));
  std::array<int, 2> fds{};
  bool done = open_pipe(splice->forth_.pipe) && open_pipe(splice->back_.pipe);
  for (std::size_t i = 0; i < fds.size(); ++i) {
    const int original = i == 0 ? first.descriptor() : second.descriptor();
    fds[i] = done ? ::fcntl(original, F_DUPFD_CLOEXEC, 0) : -1;
    done = done && fds[i] >= 0;
  }
  if (!done) {
    close_pipe(fds);
    return nullptr;
  }
  for (std::size_t i = 0; i < fds.size(); ++i) {
    auto* node = new Node;
    node->owner = splice.get();
    node->loop = &loop;
    node->fd = fds[i];
    node->handle.data = node;
    if (uv_poll_init(loop.uv(), &node->handle, node->fd) != 0) std::terminate();
    splice->nodes_[i] = node;
  }
  pipe_ends += kPipeEnds;
  splice->forth_.from = splice->back_.to = splice->nodes_[0];
  splice->forth_.to = splice->back_.from = splice->nodes_[1];
  return splice;
}

std::size_t Splice::open_pipe_ends() noexcept {
  return pipe_ends;
}

Splice::~Splice() {
  if (nodes_[0] != nullptr) pipe_ends -= kPipeEnds;
  for (Node* node : nodes_) {
    if (node == nullptr) continue;
    const int fd = node->fd;
    UvHandle<Node>(node).close();
    ::close(fd);  // libuv has let go of it already
  }
  close_pipe(forth_.pipe);
  close_pipe(back_.pipe);
}

void Splice::abort_on_close() noexcept {
  const linger reset{1, 0};
  for (const Node* node : nodes_) {
    if (node != nullptr) ::setsockopt(node->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  }
}

void Splice::start() {
  watch();
}

void Splice::ready() {
  std::size_t forth = 0;
  std::size_t back = 0;
  forth_.blocked = back_.blocked = false;
  const bool fine = move(forth_, forth) && move(back_, back);
  const int error = errno;
  if (forth + back > 0) user_.on_spliced(forth, back);
  if (!fine) {
    end(make_error(Code::connection_lost, Side::local, error));
  } else if (forth_.ended && back_.ended) {
    end(Error{});
  } else {
    watch();
  }
}

// False: a socket has failed, errno says how.
bool Splice::move(Way& way, std::size_t& moved) {
  constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
  while (!way.ended && moved < kBytesATurn) {
    bool progress = false;
    if (!way.eof && way.held < kPipeBytes) {
      const ssize_t n =
          ::splice(way.from->fd, nullptr, way.pipe[1], nullptr, kPipeBytes - way.held, kFlags);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      way.eof = n == 0;
      progress = n >= 0;
      if (n > 0) way.held += static_cast<std::size_t>(n);
    }
    if (way.held > 0) {
      const ssize_t n = ::splice(way.pipe[0], nullptr, way.to->fd, nullptr, way.held, kFlags);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return false;
      if (n > 0) {
        way.held -= static_cast<std::size_t>(n);
        moved += static_cast<std::size_t>(n);
        progress = true;
      }
      if (n < 0 && errno == EAGAIN) {
        way.blocked = true;
        return true;
      }
    }
    if (way.eof && way.held == 0) {
      end_way(way);
      return true;
    }
    if (!progress) break;
  }
  // A turn's share has moved. What is left in the pipe asks for room behind it: before it there may
  // be nothing more that would wake us.
  way.blocked = way.held > 0;
  return true;
}

void Splice::end_way(Way& way) {
  way.ended = true;
  ::shutdown(way.to->fd, SHUT_WR);
}

void Splice::watch() {
  watch(*nodes_[0], forth_, back_);
  watch(*nodes_[1], back_, forth_);
}

// `out`: the way that begins at this socket; `in`: the one that ends there.
void Splice::watch(Node& node, const Way& out, const Way& in) {
  const int events = (!out.eof && !out.blocked ? UV_READABLE : 0) | (in.blocked ? UV_WRITABLE : 0);
  if (events == node.events) return;
  node.events = events;
  if (events == 0) {
    uv_poll_stop(&node.handle);
    return;
  }
  uv_poll_start(&node.handle, events, [](uv_poll_t* handle, int, int) noexcept {
    auto& ready = *static_cast<Node*>(handle->data);
    if (ready.owner == nullptr) return;
    Loop::Turn turn(*ready.loop);
    ready.owner->ready();
  });
}

void Splice::end(Error why) {
  if (std::exchange(finished_, true)) return;
  for (Node* node : nodes_) uv_poll_stop(&node->handle);
  user_.on_splice_ended(why);
}

}  // namespace proxy::net
