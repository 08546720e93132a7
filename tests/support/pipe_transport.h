// PipeTransport: two Transports joined in memory, deterministic: no socket, no wait.
// Not a model of TCP's timing; of its order, its bounded buffers, its half-close and its reset.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "proxy/net/loop.h"
#include "proxy/net/transport.h"

namespace proxy::test {

struct PipeOptions {
  std::size_t capacity = 64 * 1024;  // bytes that wait unread before writing stops
  std::size_t piece = 64 * 1024;     // most bytes in one on_bytes
};

class PipeTransport final : public net::Transport, private net::TurnTask, private net::Flushable {
 public:
  using Pair = std::pair<std::unique_ptr<PipeTransport>, std::unique_ptr<PipeTransport>>;
  static Pair make(net::Loop& loop, PipeOptions options = {});
  ~PipeTransport() override;

  void start(net::TransportUser& user) override;
  void put_back(Chain bytes) override;
  void write(Chain bytes) override;
  void shutdown_write() override;
  void set_reading(bool on) override;
  void abort_on_close() noexcept override { reset_on_close_ = true; }
  std::size_t unsent() const noexcept override { return out_.size(); }
  const tls::PeerIdentity* peer() const noexcept override { return nullptr; }
  const tls::HandshakeFacts* handshake() const noexcept override { return nullptr; }
  tls::Session* session() noexcept override { return nullptr; }
  std::string local_address() const override { return "pipe:1"; }
  std::string remote_address() const override { return "pipe:2"; }
  net::Loop& loop() noexcept override { return loop_; }

  bool reading() const noexcept { return reading_; }
  // Bytes that wait to be read by this end's user.
  std::size_t unread() const noexcept { return inbox_.size(); }
  bool other_gone() const noexcept { return other_ == nullptr; }

 private:
  PipeTransport(net::Loop& loop, PipeOptions options) : loop_(loop), options_(options) {}
  void run_at_turn_end() override;
  void flush() override;

  net::Loop& loop_;
  PipeOptions options_;
  PipeTransport* other_ = nullptr;
  net::TransportUser* user_ = nullptr;
  Chain out_;
  Chain inbox_;
  bool reading_ = true;
  bool open_told_ = false;
  bool shutdown_wanted_ = false;
  bool eof_in_ = false;
  bool eof_told_ = false;
  bool reset_in_ = false;
  bool closed_told_ = false;
  bool reset_on_close_ = false;
};

// The other end as a test sees it: text in, text out.
class PipePeer final : public net::TransportUser {
 public:
  explicit PipePeer(std::unique_ptr<PipeTransport> transport) : transport_(std::move(transport)) {
    net::Loop::Turn turn(transport_->loop());
    transport_->start(*this);
  }
  // Each of these is a turn of its own; all that follows from it has happened when it returns.
  void send(std::string_view text);
  void shutdown();
  void close();  // FIN
  void reset();  // RST
  void pause(bool on);

  // Everything received since the last call.
  std::string take() { return std::exchange(received, {}); }

  std::string received;
  bool eof = false;
  bool closed = false;
  bool gone() const noexcept { return eof || closed; }
  PipeTransport& transport() noexcept { return *transport_; }

 private:
  void on_open(const tls::HandshakeFacts*) override {}
  void on_bytes(Chain bytes) override;
  void on_eof() override { eof = true; }
  void on_sent(std::size_t) override {}
  void on_closed(Error) override { closed = true; }

  std::unique_ptr<PipeTransport> transport_;
};

}  // namespace proxy::test
