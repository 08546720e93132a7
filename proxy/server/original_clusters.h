// OriginalClusters: one worker's clusters of one endpoint each: where intercepted connections were
// going. Not the services' clusters, which are the rules'.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "proxy/net/address.h"
#include "proxy/upstream/cluster.h"

namespace proxy::server {

// Bounded: when it is full, the half that was used longest ago goes, and with it its idle
// connections. Whoever uses a cluster holds it.
class OriginalClusters {
 public:
  explicit OriginalClusters(upstream::Environment& environment) : environment_(environment) {}

  // The cluster whose endpoint is `to`, with all else as in `like`, which is part of what it is
  // found by, as is the source that connections are made from.
  std::shared_ptr<upstream::Cluster> get(const std::shared_ptr<const upstream::ClusterSpec>& like,
                                         const net::SocketAddress& to,
                                         const net::ConnectOptions& from);
  void clear() { clusters_.clear(); }
  std::size_t size() const noexcept { return clusters_.size(); }

  static constexpr std::size_t kCapacity = 1024;

 private:
  struct Entry {
    std::shared_ptr<const upstream::ClusterSpec> like;  // its address is in the key
    std::shared_ptr<upstream::Cluster> cluster;
    std::uint64_t used = 0;
  };
  void drop_half();

  upstream::Environment& environment_;
  std::unordered_map<std::string, Entry> clusters_;
  std::string key_;
  std::uint64_t clock_ = 0;
};

}  // namespace proxy::server
