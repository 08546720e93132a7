// PeerExchange: a Transport over another one on which both sides first say who they are, in Istio's
// frame. Its user sees neither frame. Not the choice of ALPN, which decides whether it is used.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/net/loop.h"
#include "proxy/net/transport.h"
#include "telemetry/facts.h"
#include "telemetry/peer_exchange.h"

namespace proxy::tunnel {

class PeerExchangeUser {
 public:
  virtual ~PeerExchangeUser() = default;
  // Once: what the peer's frame gave. `metadata` is null unless `result` is decoded; valid during
  // the call. Comes before the peer's first byte, and never when the connection ends before it.
  virtual void on_peer(telemetry::MetadataResult result,
                       const telemetry::PeerMetadata* metadata) = 0;
};

// A peer that sends something else is one without metadata, and its bytes are data. One whose frame
// is too long to be metadata loses the connection. Never holds more than a frame and one read.
class PeerExchange final : public net::Transport,
                           public net::Reapable,
                           private net::TransportUser,
                           private net::TurnTask {
 public:
  // `lower` is open. `frame`: ours; goes out first. `peers` outlives this, or forget_peer_user().
  PeerExchange(std::unique_ptr<net::Transport> lower, std::string_view frame,
               PeerExchangeUser& peers);
  void forget_peer_user() noexcept { peers_ = nullptr; }

  void start(net::TransportUser& user) override;
  void put_back(Chain bytes) override;
  void write(Chain bytes) override { lower_->write(std::move(bytes)); }
  void shutdown_write() override { lower_->shutdown_write(); }
  void set_reading(bool on) override;
  void abort_on_close() noexcept override { lower_->abort_on_close(); }
  std::size_t unsent() const noexcept override;
  const tls::PeerIdentity* peer() const noexcept override { return lower_->peer(); }
  const tls::HandshakeFacts* handshake() const noexcept override { return lower_->handshake(); }
  tls::Session* session() noexcept override { return lower_->session(); }
  std::string local_address() const override { return lower_->local_address(); }
  std::string remote_address() const override { return lower_->remote_address(); }
  net::Loop& loop() noexcept override { return lower_->loop(); }

 private:
  void on_open(const tls::HandshakeFacts* facts) override;
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void run_at_turn_end() override;

  bool read_frame();
  void know(telemetry::MetadataResult result, const telemetry::PeerMetadata* metadata);
  void update_lower_reading();

  std::unique_ptr<net::Transport> lower_;
  PeerExchangeUser* peers_;
  net::TransportUser* user_ = nullptr;
  std::string frame_;
  std::size_t frame_unsent_ = 0;
  Chain first_;   // until the peer's frame is whole
  Chain unread_;  // behind the frame, or put back
  std::optional<Error> failure_;
  bool known_ = false;
  bool lower_open_ = false;
  bool announced_ = false;
  bool want_reading_ = true;
  bool eof_ = false;
  bool eof_told_ = false;
};

}  // namespace proxy::tunnel
