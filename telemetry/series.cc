// Bucket search. Not the cells.
#include "telemetry/series.h"

#include <array>
#include <bit>
#include <cstdint>

#include "telemetry/catalog.h"

namespace telemetry {
namespace {

constexpr auto scaled_bounds(double factor) {
  std::array<std::uint64_t, kIstioBounds.size()> bounds{};
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    bounds[i] = static_cast<std::uint64_t>(kIstioBounds[i] * factor);
  }
  return bounds;
}
constexpr auto kDurationBoundsUs = scaled_bounds(1000);
constexpr auto kSizeBounds = scaled_bounds(1);  // 0.5 becomes 0: no size lies between
static_assert(kDurationBoundsUs[0] == 500 && kSizeBounds[0] == 0);
static_assert(kIstioBounds.size() + 1 == kBuckets);

using Bounds = std::array<std::uint64_t, kIstioBounds.size()>;

// By bit width of a value: the first bound that a value of that width can fall under. From there
// one or two steps are left.
constexpr auto starts_of(const Bounds& bounds) {
  std::array<std::uint8_t, 65> starts{};
  for (std::size_t width = 1; width < starts.size(); ++width) {
    const std::uint64_t least = std::uint64_t{1} << (width - 1);
    std::uint8_t i = 0;
    while (i < bounds.size() && bounds[i] < least) ++i;
    starts[width] = i;
  }
  return starts;
}
constexpr auto kDurationStarts = starts_of(kDurationBoundsUs);
constexpr auto kSizeStarts = starts_of(kSizeBounds);

std::size_t bucket(const Bounds& bounds, const std::array<std::uint8_t, 65>& starts,
                   std::uint64_t value) noexcept {
  std::size_t i = starts[static_cast<std::size_t>(std::bit_width(value))];
  while (i < bounds.size() && bounds[i] < value) ++i;
  return i;
}

}  // namespace

std::size_t duration_bucket(std::uint64_t microseconds) noexcept {
  return bucket(kDurationBoundsUs, kDurationStarts, microseconds);
}
std::size_t size_bucket(std::uint64_t bytes) noexcept {
  return bucket(kSizeBounds, kSizeStarts, bytes);
}

}  // namespace telemetry
