// TcpPeer and TestServer: the far ends of real loopback connections, on the test's own loop.
// Not protocols: text in, text out; a test says what the other side says.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/net/listener.h"
#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"

namespace proxy::test {

class TcpPeer final : public net::TransportUser {
 public:
  explicit TcpPeer(std::unique_ptr<net::Transport> transport)
      : loop_(transport->loop()), transport_(std::move(transport)) {
    const net::Loop::Turn turn(loop_);
    transport_->start(*this);
  }
  ~TcpPeer() override { close(); }

  // Each of these is a turn of its own.
  void send(std::string_view text) {
    const net::Loop::Turn turn(loop_);
    if (transport_ == nullptr) return;
    Chain bytes;
    bytes.append_copy(loop_.chunks(), text);
    transport_->write(std::move(bytes));
  }
  void shutdown() {
    const net::Loop::Turn turn(loop_);
    if (transport_ != nullptr) transport_->shutdown_write();
  }
  void close() {  // FIN, or RST when there are unread bytes
    const net::Loop::Turn turn(loop_);
    loop_.reap(std::move(transport_));
  }
  void reset() {  // RST
    const net::Loop::Turn turn(loop_);
    if (transport_ != nullptr) transport_->abort_on_close();
    loop_.reap(std::move(transport_));
  }
  void pause(bool on) {
    const net::Loop::Turn turn(loop_);
    if (transport_ != nullptr) transport_->set_reading(!on);
  }
  bool has(std::string_view text) const { return received.find(text) != std::string::npos; }
  std::string take() { return std::exchange(received, {}); }

  std::string received;
  bool opened = false;
  bool eof = false;
  bool closed = false;
  bool gone() const noexcept { return eof || closed; }

 private:
  void on_open(const tls::HandshakeFacts*) override { opened = true; }
  void on_bytes(Chain bytes) override {
    const std::size_t old = received.size();
    received.resize(old + bytes.size());
    bytes.copy_to(std::as_writable_bytes(std::span(received)).subspan(old));
  }
  void on_eof() override { eof = true; }
  void on_sent(std::size_t) override {}
  void on_closed(Error) override { closed = true; }

  net::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
};

// Listens on a free port of 127.0.0.1 and keeps whoever connects.
class TestServer final : private net::ListenerUser {
 public:
  explicit TestServer(net::Loop& loop) : loop_(loop) { listen(0); }

  void listen(std::uint16_t port) {
    auto socket = net::bind_tcp(*net::SocketAddress::parse("127.0.0.1", port), true);
    if (!socket) std::abort();
    address_ = socket->address();
    listener_ = std::make_unique<net::Listener>(loop_, static_cast<net::ListenerUser&>(*this));
    const net::Loop::Turn turn(loop_);
    if (!listener_->listen(std::move(*socket))) std::abort();
  }
  // New connections are refused from here on.
  void stop() { listener_.reset(); }
  const net::SocketAddress& address() const noexcept { return address_; }
  TcpPeer& last() { return *peers.back(); }

  std::vector<std::unique_ptr<TcpPeer>> peers;  // in the order they came

 private:
  void on_accept(std::unique_ptr<net::TcpTransport> transport) override {
    peers.push_back(std::make_unique<TcpPeer>(std::move(transport)));
  }
  void on_accept_failed(int) override {}

  net::Loop& loop_;
  net::SocketAddress address_;
  std::unique_ptr<net::Listener> listener_;
};

}  // namespace proxy::test
