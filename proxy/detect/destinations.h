// Destinations: a memory of addresses of which something was found out, as that they speak first.
// Not how that is found out (server/), and not shared between workers.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace proxy::detect {

// Bounded and aged: an entry that was not confirmed for kAge is forgotten, and when all kCapacity
// are taken, the one that was confirmed longest ago makes room.
class Destinations {
 public:
  struct Destination {
    std::array<std::uint8_t, 16> address{};
    std::uint16_t port = 0;
    bool operator==(const Destination&) const = default;
  };
  static constexpr std::size_t kCapacity = 1024;
  static constexpr std::chrono::milliseconds kAge{std::chrono::hours(1)};

  bool knows(const Destination& destination, std::uint64_t now_ms) const noexcept;
  void remember(const Destination& destination, std::uint64_t now_ms);
  // It turned out to be otherwise.
  void forget(const Destination& destination) noexcept { seen_.erase(destination); }
  std::size_t size() const noexcept { return seen_.size(); }

 private:
  struct Hash {
    std::size_t operator()(const Destination& destination) const noexcept;
  };
  std::unordered_map<Destination, std::uint64_t, Hash> seen_;  // to when it was confirmed last
};

}  // namespace proxy::detect
