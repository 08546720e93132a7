// Tunnel: one TCP connection passed on as bytes: connects its destination, exchanges metadata with
// sidecars, relays, and is counted in Istio's TCP metrics. Not the decision that it is TCP, nor
// whether it may pass: its owner's (server/).
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "proxy/tunnel/peer_exchange.h"
#include "proxy/tunnel/relay.h"
#include "proxy/upstream/cluster.h"
#include "proxy/upstream/connector.h"
#include "telemetry/record.h"

namespace proxy::tunnel {

// Where a tunnel goes and what is known of it before its first byte.
struct Plan {
  telemetry::Direction direction = telemetry::Direction::inbound;
  std::shared_ptr<upstream::Cluster> cluster;  // null: nowhere, it is refused (BlackHoleCluster)
  telemetry::DestinationRef destination;
  std::shared_ptr<const std::string> frame;  // ours, for a peer that exchanges metadata
  std::chrono::milliseconds idle{0};
  bool verified_policy = false;  // source: say what was verified, rather than Istio's "unknown"
};

class Tunnel;

class TunnelOwner {
 public:
  virtual ~TunnelOwner() = default;
  // As RelayOwner's.
  virtual bool may_splice() = 0;
  // The destination is connected. What follows from it, if anything, is the owner's to do.
  virtual void on_tunnel_connected(Tunnel& tunnel) = 0;
  // Once: the destination has sent something, or ended its side (`first` is empty then), before the
  // tunnel had a downstream. `first` waits for whoever takes over; valid during the call.
  virtual void on_destination_spoke(Tunnel& tunnel, const Chain& first) = 0;
  // Last; the owner reaps the tunnel. Also when the destination could not be connected.
  virtual void on_tunnel_ended(Tunnel& tunnel) = 0;
};

class Tunnel final : public net::Reapable,
                     private upstream::ConnectUser,
                     private net::TransportUser,
                     private RelayOwner {
 public:
  Tunnel(upstream::Environment& environment, Plan plan, TunnelOwner& owner);
  ~Tunnel() override;

  // Begins to connect, perhaps before there is anybody to connect it for.
  void connect();
  // The client's side: from now on this is a TCP connection and counted as one, whatever happens.
  // It must be open; bytes put back to it go first. A sidecar's (ALPN istio-peer-exchange) has to
  // be wrapped before by exchange_with().
  void join(std::unique_ptr<net::Transport> downstream);
  // Wraps a downstream whose peer exchanges metadata; this tunnel learns of it what it says.
  std::unique_ptr<net::Transport> exchange_with(std::unique_ptr<net::Transport> downstream);
  // The destination's side, for somebody who speaks a protocol on it. Only while connected() and
  // before join(). The tunnel is not counted and to be reaped.
  std::unique_ptr<net::Transport> take_upstream();
  // The downstream goes on without this tunnel, which is not counted and to be reaped.
  void abandon();
  // The destination could not be had for a client that had said nothing: counted all the same.
  void count_unjoined();

  bool connected() const noexcept { return upstream_ != nullptr; }
  bool joined() const noexcept { return joined_; }
  const Plan& plan() const noexcept { return plan_; }
  std::size_t endpoint() const noexcept { return endpoint_; }
  // For the access log, at the end.
  telemetry::TcpFacts facts() const noexcept { return facts_; }
  std::uint64_t received() const noexcept { return relay_ == nullptr ? 0 : relay_->received(); }
  std::uint64_t sent() const noexcept { return relay_ == nullptr ? 0 : relay_->sent(); }
  const std::string& peer_principal() const noexcept {
    return plan_.direction == telemetry::Direction::outbound ? upstream_principal_
                                                             : downstream_principal_;
  }
  std::string_view upstream_address() const noexcept { return held_.text(); }

 private:
  // The peer on one side, once it has said who it is.
  class Peer final : public PeerExchangeUser {
   public:
    explicit Peer(Tunnel& tunnel) : tunnel_(tunnel) {}
    bool expected = false;
    bool known = false;
    std::optional<telemetry::PeerMetadata> metadata;

   private:
    void on_peer(telemetry::MetadataResult result, const telemetry::PeerMetadata* said) override;
    Tunnel& tunnel_;
  };

  void on_connected(upstream::Connecting& attempt,
                    std::unique_ptr<net::Transport> transport) override;
  void on_connect_failed(upstream::Connecting& attempt, Error why) override;
  void on_open(const tls::HandshakeFacts*) override {}
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t) override {}
  void on_closed(Error why) override;
  bool may_splice() override { return owner_.may_splice(); }
  void on_relay_ended(Relay& relay) override;

  void relay();
  void refuse(telemetry::Flags flags);
  void peer_learnt();
  telemetry::PartyRef intern_peer();
  void report(bool closed);
  void end();

  static constexpr std::chrono::seconds kReportEvery{5};
  static constexpr unsigned kMaxAttempts = 3;

  upstream::Environment& environment_;
  Plan plan_;
  TunnelOwner& owner_;
  upstream::ConnectSpec connect_;
  std::size_t endpoint_ = 0;
  upstream::EndpointHold held_;  // in plan_.cluster
  unsigned attempts_ = 0;
  std::unique_ptr<upstream::Connecting> connecting_;
  Peer downstream_peer_;
  Peer upstream_peer_;
  std::unique_ptr<net::Transport> downstream_;  // joined, until the relay has it
  std::unique_ptr<net::Transport> upstream_;    // connected, until the relay has it
  std::unique_ptr<Relay> relay_;
  std::string downstream_principal_;
  std::string upstream_principal_;
  std::string own_principal_;
  net::Timer report_;
  telemetry::TcpFacts facts_;
  telemetry::SeriesCache series_;
  PeerExchange* downstream_exchange_ = nullptr;  // owned by whoever has the downstream
  PeerExchange* upstream_exchange_ = nullptr;
  std::uint64_t told_sent_ = 0;
  std::uint64_t told_received_ = 0;
  std::uint64_t told_spliced_ = 0;
  bool joined_ = false;
  bool opened_ = false;  // told, labels frozen
  bool spoke_ = false;
  bool ended_ = false;
  bool upstream_counted_ = false;
};

}  // namespace proxy::tunnel
