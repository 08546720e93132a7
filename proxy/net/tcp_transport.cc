// TCP over libuv: one read into the loop's chunk, one gathered write a turn.
// Not buffered beyond what write() was given; back-pressure is unsent() and on_sent.
#include "proxy/net/tcp_transport.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <exception>

#include "proxy/net/handle.h"

namespace proxy::net {
namespace {

constexpr std::size_t kFirstRead = 16000;
constexpr std::size_t kBulkRead = 64000;
constexpr std::size_t kMaxSlices = 64;
// What waits for a full socket to take more. Not all there is: on_sent is the measure of progress,
// and a slow reader must not look like a dead one until its last byte is gone.
constexpr std::size_t kWaitingWrite = 16384;
constexpr std::size_t kWaitingSlices = 4;  // as many as libuv keeps without allocating

std::size_t gather(const Chain& chain, std::span<uv_buf_t> buffers) {
  std::size_t n = 0;
  for (const Slice* slice = chain.slices(); slice != nullptr && n < buffers.size();
       slice = slice->next) {
    const auto bytes = slice->bytes();
    buffers[n++] = uv_buf_init(reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data())),
                               static_cast<unsigned>(bytes.size()));
  }
  return n;
}

}  // namespace

// Outlives its transport until libuv has let go of the handle and of what is being written.
struct TcpTransport::Node {
  uv_tcp_t handle{};
  TcpTransport* owner = nullptr;
  Loop* loop = nullptr;
  uv_connect_t connect{};
  uv_write_t write{};
  uv_shutdown_t shutdown{};
  Chain in_flight;  // what uv_write points to
  std::size_t read_size = kFirstRead;
};

TcpTransport::TcpTransport(Loop& loop, Node* node, State state, const SocketAddress& peer)
    : loop_(loop), node_(node), peer_(peer), state_(state) {
  node_->owner = this;
  node_->loop = &loop;
  node_->handle.data = node_;
}

TcpTransport::~TcpTransport() {
  UvHandle<Node> closing(node_);
  if (reset_on_close_ && state_ == State::open) closing.close_reset();
}

std::unique_ptr<TcpTransport> TcpTransport::adopt(Loop& loop, int fd, const SocketAddress& peer) {
  auto* node = new Node;
  if (uv_tcp_init(loop.uv(), &node->handle) != 0) std::terminate();
  std::unique_ptr<TcpTransport> transport(new TcpTransport(loop, node, State::open, peer));
  const int error = uv_tcp_open(&node->handle, fd);
  if (error != 0) {
    ::close(fd);
    transport->fail(Code::connection_lost, error);
    return transport;
  }
  uv_tcp_nodelay(&node->handle, 1);
  return transport;
}

namespace {

// A socket that is bound as `options` want it; a negative errno when that can't be.
int bound_socket(const SocketAddress& to, const ConnectOptions& options) {
  const int fd = ::socket(to.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  const int on = 1;
  const int level = to.is_ipv6() ? IPPROTO_IPV6 : IPPROTO_IP;
  const int transparent = to.is_ipv6() ? IPV6_TRANSPARENT : IP_TRANSPARENT;
  const SocketAddress source = options.source;
  // The port is chosen when the destination is known, so that one source serves many destinations.
  bool done = ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0;
  if (options.transparent) done = done && ::setsockopt(fd, level, transparent, &on, sizeof on) == 0;
  if (options.mark != 0) {
    done = done && ::setsockopt(fd, SOL_SOCKET, SO_MARK, &options.mark, sizeof options.mark) == 0;
  }
  if (source.is_set()) done = done && ::bind(fd, source.get(), source.length()) == 0;
  if (done) return fd;
  const int error = errno;
  ::close(fd);
  return -error;
}

}  // namespace

int TcpTransport::descriptor() const noexcept {
  uv_os_fd_t fd = -1;
  return uv_fileno(reinterpret_cast<const uv_handle_t*>(&node_->handle), &fd) == 0 ? fd : -1;
}

bool TcpTransport::is_quiet() const noexcept {
  return state_ == State::open && announced_ && out_.empty() && unread_.empty() &&
         node_->in_flight.empty() && !eof_ && !shutdown_wanted_ && !write_broken_;
}

std::unique_ptr<TcpTransport> TcpTransport::connect(Loop& loop, const SocketAddress& to,
                                                    const ConnectOptions& options) {
  auto* node = new Node;
  if (uv_tcp_init(loop.uv(), &node->handle) != 0) std::terminate();
  std::unique_ptr<TcpTransport> transport(new TcpTransport(loop, node, State::connecting, to));
  node->connect.data = node;
  if (options.source.is_set() || options.mark != 0) {
    const int fd = bound_socket(to, options);
    const int failure = fd < 0 ? fd : uv_tcp_open(&node->handle, fd);
    if (failure != 0) {
      if (fd >= 0) ::close(fd);
      transport->fail(Code::connect_failed, failure);
      return transport;
    }
  }
  const int error = uv_tcp_connect(&node->connect, &node->handle, to.get(),
                                   [](uv_connect_t* request, int status) noexcept {
                                     auto& that = *static_cast<Node*>(request->data);
                                     if (that.owner == nullptr) return;
                                     Loop::Turn turn(*that.loop);
                                     if (status != 0) {
                                       that.owner->fail(Code::connect_failed, status);
                                       return;
                                     }
                                     uv_tcp_nodelay(&that.handle, 1);
                                     that.owner->state_ = State::open;
                                     that.owner->loop_.at_turn_end(*that.owner);
                                   });
  if (error != 0) transport->fail(Code::connect_failed, error);
  return transport;
}

void TcpTransport::start(TransportUser& user) {
  user_ = &user;
  announced_ = false;
  eof_told_ = false;
  loop_.at_turn_end(*this);
}

void TcpTransport::put_back(Chain bytes) {
  bytes.append(std::move(unread_));
  unread_ = std::move(bytes);
}

// One event a call, then in the queue again while more is owed: each event may change what is.
void TcpTransport::run_at_turn_end() {
  if (user_ == nullptr) return;
  const bool was_open = state_ == State::open || !unread_.empty();
  if (was_open && !announced_) {
    announced_ = true;
    update_reading();
    if (!out_.empty() || shutdown_wanted_) loop_.mark_dirty(*this);
    if (!unread_.empty() || eof_ || failure_.code != Code::none) loop_.at_turn_end(*this);
    user_->on_open(nullptr);
    return;
  }
  if (want_reading_ && !unread_.empty()) {
    if (eof_ || failure_.code != Code::none) loop_.at_turn_end(*this);
    user_->on_bytes(std::move(unread_));
    return;
  }
  if (want_reading_ && eof_ && !eof_told_) {
    eof_told_ = true;
    if (failure_.code != Code::none) loop_.at_turn_end(*this);
    user_->on_eof();
    return;
  }
  if (failure_.code != Code::none) user_->on_closed(std::exchange(failure_, Error{}));
}

void TcpTransport::write(Chain bytes) {
  if (state_ == State::closed || write_broken_) return;
  out_.append(std::move(bytes));
  if (node_->in_flight.empty()) loop_.mark_dirty(*this);
}

void TcpTransport::shutdown_write() {
  shutdown_wanted_ = true;
  if (node_->in_flight.empty()) loop_.mark_dirty(*this);
}

void TcpTransport::flush() {
  if (state_ != State::open || !announced_ || write_broken_) return;
  if (!node_->in_flight.empty()) return;
  std::size_t sent = 0;
  while (!out_.empty()) {
    std::array<uv_buf_t, kMaxSlices> buffers;
    const std::size_t count = gather(out_, buffers);
    const int n = uv_try_write(reinterpret_cast<uv_stream_t*>(&node_->handle), buffers.data(),
                               static_cast<unsigned>(count));
    if (n == UV_EAGAIN) break;
    if (n < 0) {
      write_failed(n);
      return;
    }
    out_.drop_front(static_cast<std::size_t>(n));
    sent += static_cast<std::size_t>(n);
    if (count < kMaxSlices) break;  // a short write means a full socket, not a full array
  }
  if (!out_.empty()) {
    write_rest();
  } else if (shutdown_wanted_ && !shutdown_sent_) {
    shutdown_sent_ = true;
    uv_shutdown(&node_->shutdown, reinterpret_cast<uv_stream_t*>(&node_->handle),
                [](uv_shutdown_t*, int) noexcept {});
  }
  if (sent > 0 && user_ != nullptr) user_->on_sent(sent);
}

void TcpTransport::write_rest() {
  node_->in_flight = out_.take_front(std::min(out_.size(), kWaitingWrite));
  std::array<uv_buf_t, kWaitingSlices> buffers;
  const std::size_t count = gather(node_->in_flight, buffers);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) bytes += buffers[i].len;
  if (bytes < node_->in_flight.size()) {
    Chain waiting = node_->in_flight.take_front(bytes);
    node_->in_flight.append(std::move(out_));
    out_ = std::exchange(node_->in_flight, std::move(waiting));
  }
  node_->write.data = node_;
  const int error =
      uv_write(&node_->write, reinterpret_cast<uv_stream_t*>(&node_->handle), buffers.data(),
               static_cast<unsigned>(count), [](uv_write_t* request, int status) noexcept {
                 auto& node = *static_cast<Node*>(request->data);
                 if (node.owner == nullptr) return;
                 Loop::Turn turn(*node.loop);
                 node.owner->on_written(status);
               });
  if (error != 0) write_failed(error);
}

void TcpTransport::on_written(int status) {
  const std::size_t bytes = node_->in_flight.size();
  node_->in_flight.clear();
  if (state_ == State::closed) return;
  if (status != 0) {
    write_failed(status);
    return;
  }
  if (!out_.empty() || shutdown_wanted_) loop_.mark_dirty(*this);
  if (user_ != nullptr) user_->on_sent(bytes);
}

std::size_t TcpTransport::unsent() const noexcept {
  return out_.size() + node_->in_flight.size();
}

void TcpTransport::set_reading(bool on) {
  if (want_reading_ == on) return;
  want_reading_ = on;
  if (!on && write_broken_) {
    fail(Code::connection_lost, write_error_);
    return;
  }
  update_reading();
  if (on && (!unread_.empty() || (eof_ && !eof_told_))) loop_.at_turn_end(*this);
}

void TcpTransport::update_reading() {
  const bool read = want_reading_ && announced_ && state_ == State::open && !eof_;
  if (read == reading_) return;
  reading_ = read;
  auto* stream = reinterpret_cast<uv_stream_t*>(&node_->handle);
  if (!read) {
    uv_read_stop(stream);
    return;
  }
  uv_read_start(
      stream,
      [](uv_handle_t* handle, std::size_t, uv_buf_t* buffer) noexcept {
        auto& node = *static_cast<Node*>(handle->data);
        const auto room = node.loop->read_chunk(node.read_size, node.read_size / 4)->room();
        *buffer = uv_buf_init(reinterpret_cast<char*>(room.data()),
                              static_cast<unsigned>(std::min(room.size(), node.read_size)));
      },
      [](uv_stream_t* handle, ssize_t n, const uv_buf_t*) noexcept {
        auto& node = *static_cast<Node*>(handle->data);
        if (node.owner == nullptr || n == 0) return;
        Loop::Turn turn(*node.loop);
        node.owner->on_read(n);
      });
}

void TcpTransport::on_read(std::ptrdiff_t n) {
  if (n == UV_EOF && !write_broken_) {
    eof_ = eof_told_ = true;
    reading_ = false;
    user_->on_eof();
    return;
  }
  if (n < 0) {
    fail(Code::connection_lost, write_broken_ ? write_error_ : static_cast<int>(n));
    return;
  }
  const auto bytes = static_cast<std::size_t>(n);
  ChunkRef& chunk = loop_.read_chunk_in_use();
  const std::size_t offset = chunk->used();
  chunk->grow_used(bytes);
  // Full reads ask for more room next time, small ones for less.
  if (bytes >= node_->read_size) {
    node_->read_size = kBulkRead;
  } else if (bytes < kFirstRead / 2) {
    node_->read_size = kFirstRead;
  }
  Chain chain;
  chain.append(chunk, offset, bytes);
  user_->on_bytes(std::move(chain));
}

// The socket is dead for writing. If the peer ended it, what it had said before may be waiting to
// be read, with the error behind it; on_closed comes when that is reached.
void TcpTransport::write_failed(int uv_error) {
  const bool ended_by_peer = uv_error == UV_EPIPE || uv_error == UV_ECONNRESET;
  if (!reading_ || !ended_by_peer) {
    fail(Code::connection_lost, uv_error);
    return;
  }
  write_broken_ = true;
  write_error_ = uv_error;
  out_.clear();
}

void TcpTransport::fail(Code code, int uv_error) {
  if (state_ == State::closed) return;
  state_ = State::closed;
  failure_ = make_error(code, Side::local, -uv_error);
  out_.clear();
  update_reading();
  loop_.at_turn_end(*this);
}

std::string TcpTransport::local_address() const {
  sockaddr_storage storage{};
  int length = sizeof storage;
  if (uv_tcp_getsockname(&node_->handle, reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return {};
  }
  return SocketAddress(storage).text();
}

std::string TcpTransport::remote_address() const {
  return peer_.text();
}

}  // namespace proxy::net
