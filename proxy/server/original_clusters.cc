// The table and its bound.
#include "proxy/server/original_clusters.h"

#include <algorithm>
#include <vector>

namespace proxy::server {
namespace {

template <class T>
void append_bytes(std::string& key, const T& value) {
  key.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace

std::shared_ptr<upstream::Cluster> OriginalClusters::get(
    const std::shared_ptr<const upstream::ClusterSpec>& like, const net::SocketAddress& to,
    const net::ConnectOptions& from) {
  key_.clear();
  append_bytes(key_, reinterpret_cast<std::uintptr_t>(like.get()));
  append_bytes(key_, to.bytes());
  append_bytes(key_, to.port());
  if (from.source.is_set()) append_bytes(key_, from.source.bytes());
  ++clock_;
  if (const auto known = clusters_.find(key_); known != clusters_.end()) {
    known->second.used = clock_;
    return known->second.cluster;
  }
  if (clusters_.size() >= kCapacity) drop_half();
  upstream::ClusterSpec spec = *like;
  config::Endpoint endpoint;
  endpoint.text = to.text();
  endpoint.host = to.host_text();
  endpoint.port = to.port();
  endpoint.addresses = {
      {endpoint.host, to.is_ipv6() ? config::Family::ipv6 : config::Family::ipv4}};
  spec.endpoints = {std::move(endpoint)};
  spec.connect.options = from;
  auto cluster = std::make_shared<upstream::Cluster>(
      environment_, std::make_shared<const upstream::ClusterSpec>(std::move(spec)), clock_);
  clusters_.emplace(key_, Entry{like, cluster, clock_});
  return cluster;
}

void OriginalClusters::drop_half() {
  std::vector<std::uint64_t> uses;
  uses.reserve(clusters_.size());
  for (const auto& [key, entry] : clusters_) uses.push_back(entry.used);
  const auto middle = uses.begin() + static_cast<std::ptrdiff_t>(uses.size() / 2);
  std::nth_element(uses.begin(), middle, uses.end());
  std::erase_if(clusters_, [&](const auto& each) { return each.second.used < *middle; });
}

}  // namespace proxy::server
