// SocketAddress to and from text.
// Not a resolver.
#include "proxy/net/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <array>
#include <cstring>

namespace proxy::net {
namespace {
template <class T>
T as(const sockaddr_storage& storage) noexcept {
  T address{};
  std::memcpy(&address, &storage, sizeof address);
  return address;
}
}  // namespace

Result<SocketAddress> SocketAddress::parse(std::string_view literal, std::uint16_t port) {
  const std::string text(literal.substr(0, literal.find('\0')));
  if (text.size() != literal.size()) {
    return std::unexpected(make_error(Code::bad_request, Side::local));
  }
  sockaddr_storage storage{};
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  if (inet_pton(AF_INET, text.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    std::memcpy(&storage, &v4, sizeof v4);
  } else if (inet_pton(AF_INET6, text.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&storage, &v6, sizeof v6);
  } else {
    return std::unexpected(make_error(Code::bad_request, Side::local));
  }
  return SocketAddress(storage);
}

socklen_t SocketAddress::length() const noexcept {
  return is_ipv6() ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
}

bool SocketAddress::is_loopback() const noexcept {
  if (is_ipv6()) {
    const auto v6 = as<sockaddr_in6>(storage_);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
  }
  return (ntohl(as<sockaddr_in>(storage_).sin_addr.s_addr) >> 24) == 127;
}

std::uint16_t SocketAddress::port() const noexcept {
  return ntohs(is_ipv6() ? as<sockaddr_in6>(storage_).sin6_port
                         : as<sockaddr_in>(storage_).sin_port);
}

SocketAddress SocketAddress::with_port(std::uint16_t port) const noexcept {
  SocketAddress copy = *this;
  if (is_ipv6()) {
    auto v6 = as<sockaddr_in6>(storage_);
    v6.sin6_port = htons(port);
    std::memcpy(&copy.storage_, &v6, sizeof v6);
  } else {
    auto v4 = as<sockaddr_in>(storage_);
    v4.sin_port = htons(port);
    std::memcpy(&copy.storage_, &v4, sizeof v4);
  }
  return copy;
}

SocketAddress SocketAddress::unmapped() const noexcept {
  if (!is_ipv6()) return *this;
  const auto v6 = as<sockaddr_in6>(storage_);
  if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) == 0) return *this;
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = v6.sin6_port;
  std::memcpy(&v4.sin_addr, v6.sin6_addr.s6_addr + 12, 4);
  sockaddr_storage storage{};
  std::memcpy(&storage, &v4, sizeof v4);
  return SocketAddress(storage);
}

std::array<std::uint8_t, 16> SocketAddress::bytes() const noexcept {
  std::array<std::uint8_t, 16> out{};
  if (is_ipv6()) {
    const auto v6 = as<sockaddr_in6>(storage_);
    std::memcpy(out.data(), &v6.sin6_addr, 16);
  } else {
    const auto v4 = as<sockaddr_in>(storage_);
    out[10] = out[11] = 0xff;
    std::memcpy(out.data() + 12, &v4.sin_addr, 4);
  }
  return out;
}

bool SocketAddress::same_host(const SocketAddress& other) const noexcept {
  return storage_.ss_family == other.storage_.ss_family && bytes() == other.bytes();
}

bool SocketAddress::is_any() const noexcept {
  if (is_ipv6()) return bytes() == std::array<std::uint8_t, 16>{};
  return as<sockaddr_in>(storage_).sin_addr.s_addr == 0;
}

std::string SocketAddress::host_text() const {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (storage_.ss_family == AF_INET) {
    const auto v4 = as<sockaddr_in>(storage_);
    inet_ntop(AF_INET, &v4.sin_addr, host.data(), host.size());
  } else if (storage_.ss_family == AF_INET6) {
    const auto v6 = as<sockaddr_in6>(storage_);
    inet_ntop(AF_INET6, &v6.sin6_addr, host.data(), host.size());
  }
  return host.data();
}

std::string SocketAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> host{};
  if (storage_.ss_family == AF_INET) {
    const auto v4 = as<sockaddr_in>(storage_);
    inet_ntop(AF_INET, &v4.sin_addr, host.data(), host.size());
    return std::string(host.data()) + ":" + std::to_string(port());
  }
  if (storage_.ss_family == AF_INET6) {
    const auto v6 = as<sockaddr_in6>(storage_);
    inet_ntop(AF_INET6, &v6.sin6_addr, host.data(), host.size());
    return "[" + std::string(host.data()) + "]:" + std::to_string(port());
  }
  return {};
}

}  // namespace proxy::net
