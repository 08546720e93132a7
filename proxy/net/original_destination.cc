// getsockopt on the two families' netfilter options.
// Not libuv's business: it knows none of this.
#include "proxy/net/original_destination.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace proxy::net {
namespace {

// linux/netfilter_ipv4.h and linux/netfilter_ipv6/ip6_tables.h, which clash with netinet/in.h.
constexpr int kOriginalDestination = 80;

}  // namespace

std::optional<SocketAddress> local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0) return std::nullopt;
  return SocketAddress(storage).unmapped();
}

std::optional<SocketAddress> original_destination(int fd) {
  const auto own = local_address(fd);
  if (!own) return std::nullopt;
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const int level = own->is_ipv6() ? IPPROTO_IPV6 : IPPROTO_IP;
  if (::getsockopt(fd, level, kOriginalDestination, &storage, &length) != 0) return std::nullopt;
  return SocketAddress(storage);
}

bool is_local(const SocketAddress& address) {
  const int fd = ::socket(address.get()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const SocketAddress any_port = address.with_port(0);
  const bool bound = ::bind(fd, any_port.get(), any_port.length()) == 0;
  ::close(fd);
  return bound;
}

SocketAddress passthrough_source(bool ipv6) {
  return *SocketAddress::parse(ipv6 ? "::6" : "127.0.0.6", 0);
}

bool is_passthrough_source(const SocketAddress& address) {
  return address.same_host(passthrough_source(address.is_ipv6()));
}

}  // namespace proxy::net
