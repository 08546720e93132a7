// Binding with words for what goes wrong.
// Not the search for the process that holds a port; that is the command's.
#include "proxy/server/listen.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace proxy::server {
namespace {

// A machine without IPv6 may leave the second of two addresses out.
bool may_be_missing(const config::ListenAddress& listen, const config::IpAddress& address,
                    int error) {
  return listen.addresses.size() > 1 && address.family == config::Family::ipv6 &&
         (error == EADDRNOTAVAIL || error == EAFNOSUPPORT);
}

StartError explain(std::string_view what, const std::string& text, int error) {
  StartError result;
  result.text = fmt::format("can't listen on {} ({}): {}", text, what, std::strerror(error));
  if (error == EADDRINUSE) result.address_in_use = text;
  if (error == EPERM) result.text += "; TPROXY needs CAP_NET_ADMIN";
  if (error == EACCES) result.text += "; ports below 1024 need CAP_NET_BIND_SERVICE";
  return result;
}

std::expected<SocketSets, StartError> open_all(const config::ListenAddress& listen,
                                               std::string_view what, unsigned workers,
                                               std::vector<Listening>& listening,
                                               bool transparent) {
  SocketSets sets(workers);
  std::uint16_t port = listen.port;
  for (const config::IpAddress& address : listen.addresses) {
    auto parsed = net::SocketAddress::parse(address.text, port);
    if (!parsed) return std::unexpected(StartError{"not an IP address: " + address.text, {}});
    for (unsigned worker = 0; worker < workers; ++worker) {
      auto socket = net::bind_tcp(*parsed, worker == 0, transparent);
      if (!socket) {
        const int error = socket.error().detail;
        if (worker == 0 && may_be_missing(listen, address, error)) break;
        return std::unexpected(explain(what, parsed->text(), error));
      }
      if (worker == 0) {
        const net::SocketAddress bound = socket->address();
        port = bound.port();
        parsed = bound;
        listening.push_back({std::string(what), bound.text()});
      }
      sets[worker].push_back(std::move(*socket));
    }
  }
  return sets;
}

}  // namespace

std::expected<SocketSets, StartError> open_listener(const config::ListenAddress& listen,
                                                    std::string_view what, unsigned workers,
                                                    std::vector<Listening>& listening,
                                                    bool transparent) {
  // The port that is free on one address may be taken on the next: then another is looked for.
  int tries = listen.port == 0 ? 10 : 1;
  while (true) {
    std::vector<Listening> opened;
    auto sets = open_all(listen, what, workers, opened, transparent);
    if (!sets && !sets.error().address_in_use.empty() && --tries > 0) continue;
    if (sets) listening.insert(listening.end(), opened.begin(), opened.end());
    return sets;
  }
}

}  // namespace proxy::server
