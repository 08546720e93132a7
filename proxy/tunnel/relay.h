// Relay: two transports joined byte for byte, with half-close and bounded buffers.
// Not HTTP: what a connection gets whose bytes are none of our business.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "proxy/net/loop.h"
#include "proxy/net/splice.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

namespace proxy::tunnel {

class Relay;

class RelayOwner {
 public:
  virtual ~RelayOwner() = default;
  // There are file descriptors enough for a net::Splice, which does only what goes without as well.
  virtual bool may_splice() = 0;
  // Last: both directions have ended, or one side failed. The owner reaps the relay.
  virtual void on_relay_ended(Relay& relay) = 0;
};

// Between two bare sockets the kernel takes the bytes over once kSpliceAfter of them have moved;
// where descriptors are short, that is tried again with each kSpliceAgain.
class Relay final : public net::Reapable, private net::SpliceUser, private net::TurnTask {
 public:
  // Both transports are open (or opening); bytes put back to them go first. `idle`: 0 = no limit.
  Relay(net::Loop& loop, std::unique_ptr<net::Transport> downstream,
        std::unique_ptr<net::Transport> upstream, std::chrono::milliseconds idle,
        RelayOwner& owner);
  void start();

  // Bytes that came from the downstream, and that left to it.
  std::uint64_t received() const noexcept { return received_; }
  std::uint64_t sent() const noexcept { return sent_; }
  // Of both ways, those that never were in user space.
  std::uint64_t spliced() const noexcept { return spliced_; }
  bool timed_out() const noexcept { return timed_out_; }

  static constexpr std::uint64_t kSpliceAfter = 512 * 1024;
  static constexpr std::uint64_t kSpliceAgain = 16 * 1024 * 1024;

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
    std::unique_ptr<net::Transport> take() noexcept { return std::move(transport_); }

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

  void moved(const End& from, std::size_t received, std::size_t sent);
  void end();
  void check_done();
  void run_at_turn_end() override;
  void on_spliced(std::size_t forth, std::size_t back) override;
  void on_splice_ended(Error why) override;

  net::Loop& loop_;
  RelayOwner& owner_;
  End downstream_;
  End upstream_;
  std::unique_ptr<net::Splice> splice_;  // the ends' transports are gone then
  std::chrono::milliseconds idle_limit_;
  net::Timer idle_;
  std::uint64_t received_ = 0;
  std::uint64_t sent_ = 0;
  std::uint64_t spliced_ = 0;
  std::uint64_t splice_at_ = kSpliceAfter;  // of received_ + sent_
  bool splicing_ = false;  // no more is read until all that was read is out; then the kernel's turn
  bool ended_ = false;
  bool timed_out_ = false;
};

}  // namespace proxy::tunnel
