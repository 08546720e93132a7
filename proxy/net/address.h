// SocketAddress: an IP address and port, ready for the kernel.
// Not a name: names are looked up elsewhere and arrive here as literals.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/base/result.h"

namespace proxy::net {

class SocketAddress {
 public:
  SocketAddress() = default;
  explicit SocketAddress(const sockaddr_storage& storage) noexcept : storage_(storage) {}
  // `literal` as inet_pton takes it ("127.0.0.1", "::1"); bad_request when it is none.
  static Result<SocketAddress> parse(std::string_view literal, std::uint16_t port);

  const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const noexcept;
  bool is_ipv6() const noexcept { return storage_.ss_family == AF_INET6; }
  bool is_loopback() const noexcept;
  std::uint16_t port() const noexcept;
  // "127.0.0.1:80", "[::1]:80"; empty when not set.
  std::string text() const;

 private:
  sockaddr_storage storage_{};
};

}  // namespace proxy::net
