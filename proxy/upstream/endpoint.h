// Endpoint: one address behind a service, as one worker sees it.
// Not its connections (pool.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "proxy/net/address.h"

namespace proxy::upstream {

struct Endpoint {
  std::string text;                           // "10.0.0.7:8080", "[::1]:80", ":9898"
  std::vector<net::SocketAddress> addresses;  // tried in order; never empty
  std::size_t slot = 0;                       // its number in the cluster, while it is there
  std::size_t active = 0;                     // requests in flight from this worker
  std::size_t holds = 0;                      // EndpointHolds
  // Loop time until which other endpoints are preferred, because connecting failed; 0 = none.
  std::uint64_t avoid_until_ms = 0;
};

}  // namespace proxy::upstream
