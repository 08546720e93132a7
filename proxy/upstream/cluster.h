// Cluster: a service as one worker sees it: its endpoints, their pools, its limits.
// Not shared between workers; kept over a reload, or an answer of DNS, that changes no more of its
// spec than the endpoints.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/schema.h"
#include "proxy/http/message.h"
#include "proxy/http1/limits.h"
#include "proxy/http2/client_connection.h"
#include "proxy/upstream/balancer.h"
#include "proxy/upstream/connector.h"
#include "proxy/upstream/endpoint.h"

namespace proxy::upstream {

class Pool;
class PooledConnection;
class Waiter;

// Everything that decides how a cluster behaves, made from the configuration. Immutable.
struct ClusterSpec {
  std::string name;
  std::vector<config::Endpoint> endpoints;
  config::Balance balance = config::Balance::round_robin;
  ConnectSpec connect;
  config::Protocol protocol = config::Protocol::automatic;
  bool upgrade = false;           // HTTP/1 requests go over HTTP/2
  std::string_view http1_advice;  // how an operator gets HTTP/1 spoken, for the log; a literal
  std::size_t max_connections = 1024;
  std::size_t max_pending = 1024;
  std::size_t max_idle_per_endpoint = 1024;
  std::size_t retry_percent = 20;
  std::chrono::milliseconds idle_timeout{55000};
  std::chrono::milliseconds max_age{0};
  http1::Limits message_limits;
  http2::ClientConnectionOptions http2;

  // Whether a cluster made from `other` can serve on in this one's place; or can once its endpoints
  // have been updated.
  bool same_as(const ClusterSpec& other) const;
  bool same_but_endpoints(const ClusterSpec& other) const;
};

class Cluster {
 public:
  Cluster(Environment& environment, std::shared_ptr<const ClusterSpec> spec, std::uint64_t seed);
  ~Cluster();  // closes its idle connections; there must be no users any more
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  const ClusterSpec& spec() const noexcept { return *spec_; }
  // Goes over to the endpoints of `spec`, which is the same in all else. Those that stay keep their
  // connections. Those that go are picked no more: their idle connections close, the others with
  // the end of their requests.
  void update(std::shared_ptr<const ClusterSpec> spec);

  // Which endpoint the next try of a request goes to; no_endpoint when there is none.
  Result<std::size_t> pick(std::size_t not_this = Balancer::kNone);
  // The HTTP version that a request goes on in. One that wants to become something else than a
  // WebSocket can only do so in HTTP/1.
  Codec codec_for(const http::RequestHead& head) const noexcept;
  // A connection with a free slot at once, or null: `waiter` is told later (destroying or unlinking
  // it cancels). overloaded when too many wait already.
  Result<PooledConnection*> acquire(std::size_t endpoint, Codec codec, Waiter& waiter);
  // An open connection to this endpoint that was not made for a request: the next one of a client
  // that speaks `client` uses it.
  void adopt(std::size_t endpoint, Codec client, std::unique_ptr<net::Transport> transport);
  // By the number that pick() gave. One that has gone since is there while an EndpointHold or a
  // request is.
  const Endpoint& endpoint(std::size_t index) const noexcept { return *endpoints_[index]; }
  // Those that may be picked.
  std::size_t endpoint_count() const noexcept { return live_.size(); }

  // Brackets each request, for least request and the retry budget.
  void request_started(std::size_t endpoint) noexcept;
  void request_ended(std::size_t endpoint) noexcept;
  // A retry may start now: at most retry_percent of the requests in flight, but always 3. Every
  // true is given back by retry_ended.
  bool retry_started() noexcept;
  void retry_ended() noexcept { --retries_; }

 private:
  friend class Pool;
  friend class PooledConnection;
  friend class EndpointHold;
  static constexpr std::uint64_t kAvoidMs = 1000;
  static constexpr std::size_t kFreeRetries = 3;

  Codec codec_for(Codec client) const noexcept;
  Pool& pool_at(std::size_t endpoint, Codec codec) const noexcept {
    return *pools_[endpoint * kCodecs + static_cast<std::size_t>(codec)];
  }
  Endpoint& add_endpoint(const config::Endpoint& configured);
  void remove_unused();
  // HTTP/2 at this endpoint takes no upgrades: the waiter goes on in its HTTP/1 pool.
  void wait_for_http1(const Pool& http2, Waiter& waiter);
  std::size_t waiting_in_vain() const;
  // Under the connection limit, if need be by closing an idle one elsewhere.
  bool may_connect(Codec codec);
  // `by` has a connection less, or one that is idle: who waits at another endpoint may have its
  // place.
  void connection_freed(const Pool& by);
  // At the connection limit, another endpoint than `by`'s has requests and not one connection.
  bool starves_another(const Pool& by) const;

  Environment& environment_;
  const std::shared_ptr<const ClusterSpec> first_spec_;  // connections being made refer to it
  std::shared_ptr<const ClusterSpec> spec_;
  Balancer balancer_;
  std::vector<std::unique_ptr<Endpoint>> endpoints_;  // by slot; null: the slot is free
  std::vector<std::unique_ptr<Pool>> pools_;          // kCodecs for each slot, null likewise
  std::vector<Endpoint*> live_;                       // in the spec's order
  std::size_t connections_ = 0;                       // open and being opened
  std::size_t active_ = 0;
  std::size_t retries_ = 0;
  std::uint64_t connection_numbers_ = 0;
};

// Keeps an endpoint there that may have gone from its cluster, for whoever names it later. The
// cluster outlives it.
class EndpointHold {
 public:
  EndpointHold() = default;
  ~EndpointHold() { release(); }
  EndpointHold(const EndpointHold&) = delete;
  EndpointHold& operator=(const EndpointHold&) = delete;

  void take(Cluster& cluster, std::size_t endpoint) noexcept {
    release();
    endpoint_ = cluster.endpoints_[endpoint].get();
    ++endpoint_->holds;
  }
  void release() noexcept {
    if (endpoint_ != nullptr) --endpoint_->holds;
    endpoint_ = nullptr;
  }
  // Empty when nothing is held.
  std::string_view text() const noexcept {
    return endpoint_ == nullptr ? std::string_view{} : endpoint_->text;
  }

 private:
  Endpoint* endpoint_ = nullptr;
};

}  // namespace proxy::upstream
