// An address and a port, comparable, from and to what the kernel uses. For the probes of `check`.
// Not the data path's: net/address.h.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/redirect/options.h"

namespace proxy::redirect {

struct Endpoint {
  Family family = Family::ipv4;
  std::array<unsigned char, 16> bytes{};  // IPv4: the first four
  std::uint16_t port = 0;

  bool operator==(const Endpoint&) const = default;
};

// `literal` must be an address of the family.
Endpoint endpoint(Family family, std::string_view literal, std::uint16_t port);
// IPv4 in IPv6 (::ffff:1.2.3.4) becomes IPv4.
Endpoint endpoint(const sockaddr_storage& storage) noexcept;
sockaddr_storage storage_of(const Endpoint& endpoint) noexcept;
socklen_t length_of(const Endpoint& endpoint) noexcept;
// "192.0.2.1:80", "[2001:db8::1]:80"
std::string to_string(const Endpoint& endpoint);

bool contains(const Cidr& range, const Endpoint& endpoint) noexcept;

}  // namespace proxy::redirect
