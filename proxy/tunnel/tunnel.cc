// Connecting, joining, counting.
// Not the moving of bytes: relay.cc.
#include "proxy/tunnel/tunnel.h"

#include <utility>

namespace proxy::tunnel {
namespace {

using telemetry::Flag;
using telemetry::Flags;
using telemetry::Gauge;

constexpr std::string_view kExchangeAlpn = "istio-peer-exchange";

bool exchanges(const net::Transport& transport) {
  const tls::HandshakeFacts* facts = transport.handshake();
  return facts != nullptr && facts->alpn == kExchangeAlpn;
}

std::string_view principal_of(const net::Transport& transport) {
  const tls::PeerIdentity* identity = transport.peer();
  return identity == nullptr ? std::string_view{} : std::string_view(identity->spiffe_uri);
}

}  // namespace

Tunnel::Tunnel(upstream::Environment& environment, Plan plan, TunnelOwner& owner)
    : environment_(environment),
      plan_(std::move(plan)),
      owner_(owner),
      downstream_peer_(*this),
      upstream_peer_(*this),
      report_(environment.loop, [this] {
        report(false);
        report_.start(kReportEvery);
      }) {
  const bool outbound = plan_.direction == telemetry::Direction::outbound;
  facts_.reporter = outbound ? telemetry::Reporter::source : telemetry::Reporter::destination;
  facts_.destination = plan_.destination;
  if (plan_.cluster != nullptr) {
    connect_ = plan_.cluster->spec().connect;
    connect_.tcp = true;
  }
}

Tunnel::~Tunnel() {
  if (connecting_ != nullptr) connecting_->give_up();
  if (upstream_counted_) {
    environment_.shard.gauge_add(Gauge::upstream_connections_open, -1);
  }
  if (joined_) {
    report(true);
    environment_.shard.gauge_add(Gauge::tcp_connections_open, -1, plan_.direction);
  }
}

// --- the destination ----------------------------------------------------------------------

void Tunnel::connect() {
  if (connecting_ != nullptr || upstream_ != nullptr || ended_) return;
  ++attempts_;
  const auto picked =
      plan_.cluster == nullptr
          ? Result<std::size_t>(std::unexpected(make_error(Code::no_endpoint, Side::upstream)))
          : plan_.cluster->pick(attempts_ > 1 ? endpoint_ : upstream::Balancer::kNone);
  if (!picked) {
    refuse(Flag::uh);
    return;
  }
  endpoint_ = *picked;
  held_.take(*plan_.cluster, endpoint_);
  connecting_ = std::make_unique<upstream::Connecting>(
      environment_, plan_.cluster->endpoint(endpoint_), connect_, upstream::Codec::http1,
      static_cast<upstream::ConnectUser&>(*this));
}

void Tunnel::on_connected(upstream::Connecting&, std::unique_ptr<net::Transport> transport) {
  environment_.loop.reap(std::move(connecting_));
  environment_.shard.gauge_add(Gauge::upstream_connections_open, 1);
  upstream_counted_ = true;
  upstream_principal_ = principal_of(*transport);
  if (transport->session() != nullptr && plan_.direction == telemetry::Direction::outbound) {
    own_principal_ = transport->session()->context().spiffe_uri();
  }
  if (exchanges(*transport)) {
    upstream_peer_.expected = true;
    auto exchange =
        std::make_unique<PeerExchange>(std::move(transport), *plan_.frame, upstream_peer_);
    upstream_exchange_ = exchange.get();
    transport = std::move(exchange);
  }
  upstream_ = std::move(transport);
  if (downstream_ != nullptr) {
    relay();
    return;
  }
  upstream_->start(*this);
  owner_.on_tunnel_connected(*this);
}

void Tunnel::on_connect_failed(upstream::Connecting&, Error) {
  environment_.loop.reap(std::move(connecting_));
  if (attempts_ < kMaxAttempts && plan_.cluster->endpoint_count() > 1) {
    connect();
    return;
  }
  refuse(Flags(Flag::uf) | Flags(Flag::urx));
}

std::unique_ptr<net::Transport> Tunnel::take_upstream() {
  upstream_counted_ = false;
  environment_.shard.gauge_add(Gauge::upstream_connections_open, -1);
  if (upstream_exchange_ != nullptr) upstream_exchange_->forget_peer_user();
  abandon();
  return std::move(upstream_);
}

void Tunnel::abandon() {
  ended_ = true;
  if (downstream_exchange_ != nullptr) downstream_exchange_->forget_peer_user();
  downstream_exchange_ = nullptr;
}

void Tunnel::count_unjoined() {
  if (std::exchange(joined_, true)) return;
  environment_.shard.gauge_add(Gauge::tcp_connections_open, 1, plan_.direction);
}

// Before there is a downstream: whoever speaks first decides.
void Tunnel::on_bytes(Chain bytes) {
  const Chain first = bytes.share();
  upstream_->set_reading(false);
  upstream_->put_back(std::move(bytes));
  if (!std::exchange(spoke_, true)) owner_.on_destination_spoke(*this, first);
}

void Tunnel::on_eof() {
  if (!std::exchange(spoke_, true)) owner_.on_destination_spoke(*this, {});
}

void Tunnel::on_closed(Error) {
  refuse(Flag::uc);
}

// --- the client ---------------------------------------------------------------------------

std::unique_ptr<net::Transport> Tunnel::exchange_with(std::unique_ptr<net::Transport> downstream) {
  downstream_peer_.expected = true;
  auto exchange =
      std::make_unique<PeerExchange>(std::move(downstream), *plan_.frame, downstream_peer_);
  downstream_exchange_ = exchange.get();
  return exchange;
}

void Tunnel::join(std::unique_ptr<net::Transport> downstream) {
  joined_ = true;
  environment_.shard.gauge_add(Gauge::tcp_connections_open, 1, plan_.direction);
  if (plan_.direction == telemetry::Direction::inbound) {
    downstream_principal_ = principal_of(*downstream);
    if (downstream->session() != nullptr) {
      own_principal_ = downstream->session()->context().spiffe_uri();
    }
  }
  downstream_ = std::move(downstream);
  peer_learnt();
  if (upstream_ != nullptr) {
    relay();
  } else {
    downstream_->set_reading(false);
    connect();
  }
}

void Tunnel::relay() {
  downstream_->set_reading(true);
  upstream_->set_reading(true);
  relay_ = std::make_unique<Relay>(environment_.loop, std::move(downstream_), std::move(upstream_),
                                   plan_.idle, static_cast<RelayOwner&>(*this));
  relay_->start();
  peer_learnt();
}

void Tunnel::on_relay_ended(Relay&) {
  if (relay_->timed_out()) {
    environment_.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::idle);
  }
  end();
}

void Tunnel::refuse(Flags flags) {
  if (!opened_) facts_.flags = flags;
  end();
}

void Tunnel::end() {
  if (std::exchange(ended_, true)) return;
  report_.stop();
  owner_.on_tunnel_ended(*this);
}

// --- counting -----------------------------------------------------------------------------

void Tunnel::Peer::on_peer(telemetry::MetadataResult result, const telemetry::PeerMetadata* said) {
  tunnel_.environment_.shard.add(telemetry::Counter::tcp_peer_metadata, 1, result);
  known = true;
  if (said != nullptr) metadata = *said;
  tunnel_.peer_learnt();
}

// Told as open once the peer is known; of a destination that exchanges nothing, once it is there.
void Tunnel::peer_learnt() {
  if (opened_ || !joined_) return;
  if (plan_.direction == telemetry::Direction::inbound) {
    if (downstream_peer_.expected && !downstream_peer_.known) return;
  } else if (relay_ == nullptr || (upstream_peer_.expected && !upstream_peer_.known)) {
    return;
  }
  report(false);
  report_.start(kReportEvery);
}

telemetry::PartyRef Tunnel::intern_peer() {
  const bool outbound = plan_.direction == telemetry::Direction::outbound;
  const Peer& peer = outbound ? upstream_peer_ : downstream_peer_;
  const std::string& principal = outbound ? upstream_principal_ : downstream_principal_;
  const bool mutual = !principal.empty() && !own_principal_.empty();
  if (!outbound) {
    facts_.policy =
        mutual ? telemetry::SecurityPolicy::mutual_tls : telemetry::SecurityPolicy::none;
  } else if (plan_.verified_policy && relay_ != nullptr) {
    facts_.policy =
        principal.empty() ? telemetry::SecurityPolicy::none : telemetry::SecurityPolicy::mutual_tls;
  }
  // Istio's destination side names principals only when both are there.
  const std::string_view theirs = mutual || outbound ? std::string_view(principal) : "";
  const std::string_view ours = mutual || outbound ? std::string_view(own_principal_) : "";
  return environment_.shard.intern_peer(telemetry::peer_labels(
      peer.metadata ? &*peer.metadata : nullptr, theirs, ours, facts_.policy, outbound));
}

void Tunnel::report(bool closed) {
  facts_.opened = !opened_;
  facts_.closed = closed;
  if (!opened_) facts_.peer = intern_peer();
  opened_ = true;
  if (relay_ != nullptr) {
    facts_.sent_bytes = relay_->sent() - std::exchange(told_sent_, relay_->sent());
    facts_.received_bytes = relay_->received() - std::exchange(told_received_, relay_->received());
    const std::uint64_t spliced =
        relay_->spliced() - std::exchange(told_spliced_, relay_->spliced());
    environment_.shard.add(telemetry::Counter::spliced_bytes, spliced);
  }
  telemetry::record(environment_.shard, facts_, series_);
}

}  // namespace proxy::tunnel
