// The table of Destinations.
#include "proxy/detect/destinations.h"

#include <algorithm>
#include <functional>
#include <string_view>

namespace proxy::detect {

std::size_t Destinations::Hash::operator()(const Destination& destination) const noexcept {
  const std::string_view bytes(reinterpret_cast<const char*>(destination.address.data()),
                               destination.address.size());
  return std::hash<std::string_view>{}(bytes) * 31 + destination.port;
}

bool Destinations::knows(const Destination& destination, std::uint64_t now_ms) const noexcept {
  const auto found = seen_.find(destination);
  return found != seen_.end() && now_ms - found->second <= static_cast<std::uint64_t>(kAge.count());
}

void Destinations::remember(const Destination& destination, std::uint64_t now_ms) {
  if (seen_.size() >= kCapacity && !seen_.contains(destination)) {
    seen_.erase(std::min_element(seen_.begin(), seen_.end(),
                                 [](const auto& a, const auto& b) { return a.second < b.second; }));
  }
  seen_[destination] = now_ms;
}

}  // namespace proxy::detect
