// Conversions of Endpoint.
#include "proxy/redirect/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

#include <fmt/format.h>

namespace proxy::redirect {

Endpoint endpoint(Family family, std::string_view literal, std::uint16_t port) {
  Endpoint out{family, {}, port};
  ::inet_pton(family == Family::ipv4 ? AF_INET : AF_INET6, std::string(literal).c_str(),
              out.bytes.data());
  return out;
}

Endpoint endpoint(const sockaddr_storage& storage) noexcept {
  Endpoint out;
  if (storage.ss_family == AF_INET) {
    sockaddr_in in{};
    std::memcpy(&in, &storage, sizeof in);
    std::memcpy(out.bytes.data(), &in.sin_addr, 4);
    out.port = ntohs(in.sin_port);
    return out;
  }
  sockaddr_in6 in{};
  std::memcpy(&in, &storage, sizeof in);
  out.port = ntohs(in.sin6_port);
  if (IN6_IS_ADDR_V4MAPPED(&in.sin6_addr)) {
    std::copy_n(in.sin6_addr.s6_addr + 12, 4, out.bytes.begin());
    return out;
  }
  out.family = Family::ipv6;
  std::copy_n(in.sin6_addr.s6_addr, 16, out.bytes.begin());
  return out;
}

sockaddr_storage storage_of(const Endpoint& endpoint) noexcept {
  sockaddr_storage out{};
  if (endpoint.family == Family::ipv4) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(endpoint.port);
    std::memcpy(&in.sin_addr, endpoint.bytes.data(), 4);
    std::memcpy(&out, &in, sizeof in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(endpoint.port);
    std::memcpy(&in.sin6_addr, endpoint.bytes.data(), 16);
    std::memcpy(&out, &in, sizeof in);
  }
  return out;
}

socklen_t length_of(const Endpoint& endpoint) noexcept {
  return endpoint.family == Family::ipv4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

std::string to_string(const Endpoint& endpoint) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = endpoint.family == Family::ipv4;
  ::inet_ntop(v4 ? AF_INET : AF_INET6, endpoint.bytes.data(), text.data(), text.size());
  return v4 ? fmt::format("{}:{}", text.data(), endpoint.port)
            : fmt::format("[{}]:{}", text.data(), endpoint.port);
}

bool contains(const Cidr& range, const Endpoint& endpoint) noexcept {
  if (range.family != endpoint.family) return false;
  for (unsigned bit = 0; bit < range.prefix; ++bit) {
    const auto mask = static_cast<unsigned char>(0x80U >> (bit % 8));
    if ((range.bytes[bit / 8] & mask) != (endpoint.bytes[bit / 8] & mask)) return false;
  }
  return true;
}

}  // namespace proxy::redirect
