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
  std::string text;                           // as configured, "10.0.0.7:8080"
  std::vector<net::SocketAddress> addresses;  // tried in order; never empty
  std::size_t active = 0;                     // requests in flight from this worker
  // Loop time until which other endpoints are preferred, because connecting failed; 0 = none.
  std::uint64_t avoid_until_ms = 0;
};

}  // namespace proxy::upstream
