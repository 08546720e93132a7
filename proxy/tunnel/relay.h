// Relay: two transports joined byte for byte, with half-close and bounded buffers.
// Not HTTP: what a connection gets whose bytes are none of our business.
#pragma once

#include <chrono>
#include <memory>

#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

namespace proxy::tunnel {

class Relay;

class RelayOwner {
 public:
  virtual ~RelayOwner() = default;
  // Last: both directions have ended, or one side failed. The owner reaps the relay.
  virtual void on_relay_ended(Relay& relay) = 0;
};

class Relay final : public net::Reapable {
 public:
  // Both transports are open (or opening); bytes put back to them go first. `idle`: 0 = no limit.
  Relay(net::Loop& loop, std::unique_ptr<net::Transport> downstream,
        std::unique_ptr<net::Transport> upstream, std::chrono::milliseconds idle,
        RelayOwner& owner);
  void start();

 private:
  // At most this much read from one side waits for the other.
  static constexpr std::size_t kWindow = 64 * 1024;

  class End final : public net::TransportUser {
   public:
    End(Relay& relay, std::unique_ptr<net::Transport> transport)
        : relay_(relay), transport_(std::move(transport)) {}
    void start() { transport_->start(*this); }
    void set_other(End& other) { other_ = &other; }
    bool ended() const noexcept { return eof_; }
    net::Transport& transport() noexcept { return *transport_; }

   private:
    void on_open(const tls::HandshakeFacts*) override {}
    void on_bytes(Chain bytes) override;
    void on_eof() override;
    void on_sent(std::size_t bytes) override;
    void on_closed(Error why) override;

    Relay& relay_;
    std::unique_ptr<net::Transport> transport_;
    End* other_ = nullptr;
    bool eof_ = false;
  };

  void moved();
  void end();
  void check_done();

  net::Loop& loop_;
  RelayOwner& owner_;
  End downstream_;
  End upstream_;
  std::chrono::milliseconds idle_limit_;
  net::Timer idle_;
  bool ended_ = false;
};

}  // namespace proxy::tunnel
