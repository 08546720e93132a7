// Round robin, and least request by two random choices (as Envoy: "power of two choices").
// No weights.
#include "proxy/upstream/balancer.h"

namespace proxy::upstream {

Balancer::Balancer(config::Balance policy, std::uint64_t seed)
    : policy_(policy),
      random_(static_cast<std::minstd_rand::result_type>(seed)),
      turn_(static_cast<std::size_t>(seed)) {}

std::size_t Balancer::next(std::size_t count) {
  return turn_++ % count;
}

std::size_t Balancer::two_choices(std::span<const Endpoint* const> endpoints) {
  const std::size_t a = random_() % endpoints.size();
  std::size_t b = random_() % (endpoints.size() - 1);
  if (b >= a) ++b;
  return endpoints[b]->active < endpoints[a]->active ? b : a;
}

std::size_t Balancer::pick(std::span<const Endpoint* const> endpoints, std::uint64_t now_ms,
                           std::size_t not_this) {
  const std::size_t count = endpoints.size();
  if (count == 0) return kNone;
  if (count == 1) return 0;
  const bool round_robin = policy_ == config::Balance::round_robin;
  std::size_t chosen = round_robin ? next(count) : two_choices(endpoints);
  // Walk on from the choice to the first endpoint that is fit; without one the choice stands.
  for (std::size_t step = 0; step < count; ++step) {
    const std::size_t index = (chosen + step) % count;
    if (index == not_this || endpoints[index]->avoid_until_ms > now_ms) continue;
    if (round_robin && step > 0) turn_ += step;
    return index;
  }
  if (chosen == not_this) chosen = (chosen + 1) % count;
  return chosen;
}

}  // namespace proxy::upstream
