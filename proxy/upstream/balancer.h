// Balancer: picks the endpoint for the next request.
// Not health checking: an endpoint that could not be connected is only avoided for a while.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "proxy/config/schema.h"
#include "proxy/upstream/endpoint.h"

namespace proxy::upstream {

class Balancer {
 public:
  // `seed` differs between workers, so that they do not all begin with the same endpoint.
  Balancer(config::Balance policy, std::uint64_t seed);

  static constexpr std::size_t kNone = ~std::size_t{0};
  // An index into `endpoints`, or kNone when there are none. `not_this`: the endpoint that just
  // failed this request, taken only when there is no other. Avoided endpoints are taken only when
  // all are avoided.
  std::size_t pick(std::span<const Endpoint* const> endpoints, std::uint64_t now_ms,
                   std::size_t not_this = kNone);

 private:
  std::size_t next(std::size_t count);
  std::size_t two_choices(std::span<const Endpoint* const> endpoints);

  config::Balance policy_;
  std::minstd_rand random_;
  std::size_t turn_;
};

}  // namespace proxy::upstream
