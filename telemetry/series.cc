// Bucket search. Not the cells.
#include "telemetry/series.h"

#include <algorithm>

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

template <std::size_t N>
std::size_t bucket(const std::array<std::uint64_t, N>& bounds, std::uint64_t value) noexcept {
  return static_cast<std::size_t>(std::lower_bound(bounds.begin(), bounds.end(), value) -
                                  bounds.begin());
}

}  // namespace

std::size_t duration_bucket(std::uint64_t microseconds) noexcept {
  return bucket(kDurationBoundsUs, microseconds);
}
std::size_t size_bucket(std::uint64_t bytes) noexcept {
  return bucket(kSizeBounds, bytes);
}

}  // namespace telemetry
