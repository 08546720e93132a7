// What the tests of net/ talk with: a plain blocking-free client socket, and users that record.
// Not for use outside tests/unit/net.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proxy/net/listener.h"
#include "proxy/net/tcp_transport.h"

namespace proxy::test {

// A non-blocking socket of the test's own, connected over loopback.
class RawSocket {
 public:
  RawSocket() = default;
  explicit RawSocket(const net::SocketAddress& to) {
    fd_ = ::socket(to.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd_, to.get(), to.length()) != 0) close();
    if (fd_ >= 0) ::fcntl(fd_, F_SETFL, O_NONBLOCK);
  }
  RawSocket(RawSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~RawSocket() { close(); }

  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  // Bytes sent; fewer than given when the kernel takes no more.
  std::size_t send(std::string_view text) const {
    const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
    return n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  // Reads what is there (at most `most`); false once the other side has ended.
  bool receive(std::string& into, std::size_t most = 65536) {
    std::string buffer(most, '\0');
    const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (n > 0) into.append(buffer, 0, static_cast<std::size_t>(n));
    if (n < 0 && errno != EAGAIN) error_ = errno;
    return n > 0 || (n < 0 && errno == EAGAIN);
  }
  int error() const { return error_; }  // of the last receive() that failed
  void end() const { ::shutdown(fd_, SHUT_WR); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  void close_with_reset() {
    const linger now{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close();
  }

 private:
  int fd_ = -1;
  int error_ = 0;
};

inline std::string text_of(const Chain& chain) {
  std::string all(chain.size(), '\0');
  chain.copy_to(std::as_writable_bytes(std::span(all)));
  return all;
}

inline Chain chain_of(net::Loop& loop, std::string_view text) {
  Chain chain;
  chain.append_copy(loop.chunks(), text);
  return chain;
}

// Writes down what happens to a transport; `hook` can react.
struct Recorder : net::TransportUser {
  void on_open(const tls::HandshakeFacts*) override { note("open"); }
  void on_bytes(Chain bytes) override {
    received += text_of(bytes);
    note("bytes");
  }
  void on_eof() override { note("eof"); }
  void on_sent(std::size_t bytes) override {
    sent += bytes;
    note("sent");
  }
  void on_closed(Error why) override {
    error = why;
    note("closed");
  }
  void note(std::string_view event) {
    if (closed() && event != "closed") after_closed = true;
    if (events.empty() || events.back() != event || event == "closed") events.emplace_back(event);
    if (hook) hook(event);
  }
  bool saw(std::string_view event) const {
    for (const std::string& each : events) {
      if (each == event) return true;
    }
    return false;
  }
  bool closed() const { return saw("closed"); }

  std::vector<std::string> events;  // runs of one event are one, but for closed
  std::string received;
  std::size_t sent = 0;
  Error error{};
  bool after_closed = false;  // something came after the last event
  std::function<void(std::string_view)> hook;
};

// A listener on a free port of 127.0.0.1 that keeps what it accepts.
struct Acceptor : net::ListenerUser {
  explicit Acceptor(net::Loop& loop) : listener(loop, *this) {
    auto socket = net::bind_tcp(*net::SocketAddress::parse("127.0.0.1", 0), true);
    if (!socket) return;
    address = socket->address();
    listening = listener.listen(std::move(*socket)).has_value();
  }
  void on_accept(std::unique_ptr<net::TcpTransport> transport) override {
    accepted.push_back(std::move(transport));
    if (hook) hook();
  }
  void on_accept_failed(int error) override { failures.push_back(error); }

  std::vector<std::unique_ptr<net::TcpTransport>> accepted;
  std::vector<int> failures;
  std::function<void()> hook;
  net::SocketAddress address;
  bool listening = false;
  net::Listener listener;
};

}  // namespace proxy::test
