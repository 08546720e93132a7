// Cluster: picks, limits and budgets.
// Not the connections themselves (pool.cc).
#include "proxy/upstream/cluster.h"

#include <algorithm>
#include <unordered_map>

#include "proxy/upstream/pool.h"

namespace proxy::upstream {

bool ClusterSpec::same_as(const ClusterSpec& other) const {
  return endpoints == other.endpoints && same_but_endpoints(other);
}

bool ClusterSpec::same_but_endpoints(const ClusterSpec& other) const {
  const bool same_tls = connect.tls == other.connect.tls ||
                        (connect.tls != nullptr && other.connect.tls != nullptr &&
                         connect.tls->fingerprint() == other.connect.tls->fingerprint());
  return same_tls && name == other.name && balance == other.balance && protocol == other.protocol &&
         upgrade == other.upgrade && connect.sni == other.connect.sni &&
         connect.expected_sans == other.connect.expected_sans &&
         connect.connect_timeout == other.connect.connect_timeout &&
         connect.tls_timeout == other.connect.tls_timeout &&
         max_connections == other.max_connections && max_pending == other.max_pending &&
         max_idle_per_endpoint == other.max_idle_per_endpoint &&
         retry_percent == other.retry_percent && idle_timeout == other.idle_timeout &&
         max_age == other.max_age && message_limits.head_bytes == other.message_limits.head_bytes &&
         message_limits.header_count == other.message_limits.header_count &&
         http2.max_concurrent_streams == other.http2.max_concurrent_streams &&
         http2.ping_interval == other.http2.ping_interval &&
         http2.write_stall_timeout == other.http2.write_stall_timeout;
}

Cluster::Cluster(Environment& environment, std::shared_ptr<const ClusterSpec> spec,
                 std::uint64_t seed)
    : environment_(environment),
      first_spec_(std::move(spec)),
      spec_(first_spec_),
      balancer_(spec_->balance, seed) {
  for (const config::Endpoint& configured : spec_->endpoints) {
    live_.push_back(&add_endpoint(configured));
  }
}

Cluster::~Cluster() = default;

// --- endpoints ----------------------------------------------------------------------------

Endpoint& Cluster::add_endpoint(const config::Endpoint& configured) {
  auto endpoint = std::make_unique<Endpoint>();
  endpoint->text = configured.text;
  for (const config::IpAddress& address : configured.addresses) {
    if (auto parsed = net::SocketAddress::parse(address.text, configured.port)) {
      endpoint->addresses.push_back(*parsed);
    }
  }
  ASSERT(!endpoint->addresses.empty());
  const auto free = std::find(endpoints_.begin(), endpoints_.end(), nullptr);
  endpoint->slot = static_cast<std::size_t>(free - endpoints_.begin());
  if (free == endpoints_.end()) {
    endpoints_.emplace_back();
    pools_.resize(pools_.size() + kCodecs);
  }
  for (const Codec codec : {Codec::http1, Codec::http2}) {
    pools_[endpoint->slot * kCodecs + static_cast<std::size_t>(codec)] =
        std::make_unique<Pool>(environment_, *this, *endpoint, codec);
  }
  auto& slot = endpoints_[endpoint->slot];
  slot = std::move(endpoint);
  return *slot;
}

void Cluster::update(std::shared_ptr<const ClusterSpec> spec) {
  spec_ = std::move(spec);
  remove_unused();
  // By text, which says the addresses; one that is there twice is two endpoints.
  std::unordered_multimap<std::string_view, Endpoint*> known;
  for (const auto& endpoint : endpoints_) {
    if (endpoint != nullptr) known.emplace(endpoint->text, endpoint.get());
  }
  live_.clear();
  for (const config::Endpoint& configured : spec_->endpoints) {
    if (const auto found = known.find(configured.text); found != known.end()) {
      live_.push_back(found->second);
      known.erase(found);
    } else {
      live_.push_back(&add_endpoint(configured));
    }
  }
  for (const Codec codec : {Codec::http1, Codec::http2}) {
    for (const Endpoint* endpoint : live_) pool_at(endpoint->slot, codec).set_draining(false);
    for (const auto& [text, gone] : known) pool_at(gone->slot, codec).set_draining(true);
  }
}

// What went before, and has no users left by now.
void Cluster::remove_unused() {
  for (auto& endpoint : endpoints_) {
    if (endpoint == nullptr || endpoint->active > 0 || endpoint->holds > 0) continue;
    if (std::find(live_.begin(), live_.end(), endpoint.get()) != live_.end()) continue;
    if (!pool_at(endpoint->slot, Codec::http1).unused()) continue;
    if (!pool_at(endpoint->slot, Codec::http2).unused()) continue;
    for (std::size_t i = 0; i < kCodecs; ++i) pools_[endpoint->slot * kCodecs + i].reset();
    endpoint.reset();
  }
}

Result<std::size_t> Cluster::pick(std::size_t not_this) {
  if (not_this != Balancer::kNone) {
    const auto at = std::find_if(live_.begin(), live_.end(), [not_this](const Endpoint* endpoint) {
      return endpoint->slot == not_this;
    });
    not_this = at == live_.end() ? Balancer::kNone : static_cast<std::size_t>(at - live_.begin());
  }
  const std::size_t index = balancer_.pick(live_, environment_.loop.now_ms(), not_this);
  if (index == Balancer::kNone) {
    return std::unexpected(make_error(Code::no_endpoint, Side::upstream));
  }
  return live_[index]->slot;
}

// --- requests -----------------------------------------------------------------------------

Codec Cluster::codec_for(const http::RequestHead& head) const noexcept {
  if (!head.upgrade_view().empty() && !head.websocket) return Codec::http1;
  return codec_for(head.version == http::Version::http2 ? Codec::http2 : Codec::http1);
}

Codec Cluster::codec_for(Codec client) const noexcept {
  switch (spec_->protocol) {
    case config::Protocol::http1:
      return Codec::http1;
    case config::Protocol::http2:
      return Codec::http2;
    case config::Protocol::automatic:
      break;
  }
  return spec_->upgrade ? Codec::http2 : client;
}

Result<PooledConnection*> Cluster::acquire(std::size_t endpoint, Codec codec, Waiter& waiter) {
  if (waiter.upgrade && pool_at(endpoint, codec).refuses_upgrades()) codec = Codec::http1;
  Pool& pool = pool_at(endpoint, codec);
  if (PooledConnection* connection = pool.take(waiter)) return connection;
  // max_pending counts those for whom no connection may be opened, or will be; the others are
  // bounded by max_connections.
  const bool barren = pool.barren();
  if (barren || !may_connect(codec)) {
    if (!barren) {
      environment_.shard.add(telemetry::Counter::limits_hit, 1,
                             telemetry::Limit::upstream_connections);
    }
    if (waiting_in_vain() >= spec_->max_pending) {
      environment_.shard.add(telemetry::Counter::limits_hit, 1, telemetry::Limit::pending_requests);
      return std::unexpected(make_error(Code::overloaded, Side::upstream));
    }
    if (waiter.refused_by != 0) {
      waiter.refused_by = 0;  // there will be no other
      if (PooledConnection* connection = pool.take(waiter)) return connection;
    }
  }
  pool.wait(waiter);
  pool.connect_for_waiters();
  return nullptr;
}

void Cluster::adopt(std::size_t endpoint, Codec client, std::unique_ptr<net::Transport> transport) {
  pool_at(endpoint, codec_for(client)).adopt(std::move(transport));
}

void Cluster::wait_for_http1(const Pool& http2, Waiter& waiter) {
  const auto at = std::find_if(pools_.begin(), pools_.end(),
                               [&http2](const auto& pool) { return pool.get() == &http2; });
  Pool& pool = pool_at(static_cast<std::size_t>(at - pools_.begin()) / kCodecs, Codec::http1);
  pool.wait(waiter);
  if (PooledConnection* connection = pool.take(waiter)) {
    waiter.unlink();
    waiter.on_ready(*connection);
  } else {
    pool.connect_for_waiters();
  }
}

void Cluster::request_started(std::size_t endpoint) noexcept {
  ++active_;
  ++endpoints_[endpoint]->active;
}

void Cluster::request_ended(std::size_t endpoint) noexcept {
  --active_;
  --endpoints_[endpoint]->active;
}

bool Cluster::retry_started() noexcept {
  if (spec_->retry_percent == 0) return false;
  if (retries_ >= std::max(kFreeRetries, active_ * spec_->retry_percent / 100)) return false;
  ++retries_;
  return true;
}

std::size_t Cluster::waiting_in_vain() const {
  std::size_t count = 0;
  for (const auto& pool : pools_) {
    if (pool != nullptr) count += pool->waiting_in_vain();
  }
  return count;
}

bool Cluster::may_connect(Codec codec) {
  if (connections_ < spec_->max_connections) return true;
  for (const auto& pool : pools_) {
    if (pool != nullptr && pool->close_an_idle_one(codec)) return true;
  }
  return false;
}

void Cluster::connection_freed(const Pool& by) {
  if (connections_ + 1 < spec_->max_connections) return;  // nobody waits for the limit
  for (const bool starving : {true, false}) {
    for (const auto& pool : pools_) {
      if (pool == nullptr || pool.get() == &by || pool->starving() != starving) continue;
      if (pool->waiting_in_vain() > 0) pool->connect_for_waiters();
    }
  }
}

bool Cluster::starves_another(const Pool& by) const {
  if (connections_ < spec_->max_connections) return false;
  return std::any_of(pools_.begin(), pools_.end(), [&by](const auto& pool) {
    return pool != nullptr && pool.get() != &by && pool->starving();
  });
}

}  // namespace proxy::upstream
