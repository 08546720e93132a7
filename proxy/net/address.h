// SocketAddress: an IP address and port, ready for the kernel.
// Not a name: names are looked up elsewhere and arrive here as literals.
#pragma once

#include <sys/socket.h>

#include <array>
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
  SocketAddress with_port(std::uint16_t port) const noexcept;
  // An IPv4 address in IPv6's clothes (::ffff:1.2.3.4) as IPv4; any other as it is.
  SocketAddress unmapped() const noexcept;
  // The same family and host, whatever the ports.
  bool same_host(const SocketAddress& other) const noexcept;
  bool is_any() const noexcept;  // 0.0.0.0, ::
  bool is_set() const noexcept { return storage_.ss_family != 0; }
  // The 16 bytes of an IPv6 address; of IPv4 as it is mapped into IPv6. Without a port.
  std::array<std::uint8_t, 16> bytes() const noexcept;
  // "127.0.0.1:80", "[::1]:80"; empty when not set.
  std::string text() const;
  // The same without the port and without brackets; empty when not set.
  std::string host_text() const;

 private:
  sockaddr_storage storage_{};
};

}  // namespace proxy::net
