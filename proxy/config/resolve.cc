// getaddrinfo for the endpoints that are names.
// Not DNS at run time.
#include "proxy/config/resolve.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <expected>
#include <map>
#include <memory>
#include <string>

#include <fmt/format.h>

#include "proxy/config/values.h"

namespace proxy::config {
namespace {

constexpr std::size_t kMaxAddresses = 16;

using Addresses = std::expected<std::vector<IpAddress>, std::string>;

Addresses look_up(const std::string& name) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  if (const int error = ::getaddrinfo(name.c_str(), nullptr, &hints, &list); error != 0) {
    return std::unexpected(
        fmt::format("the name {} has no address: {}", quoted(name), ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<IpAddress> out;
  for (const auto* at = list; at != nullptr && out.size() < kMaxAddresses; at = at->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(at->ai_addr, at->ai_addrlen, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    const auto address = parse_ip(text.data());  // none: a scope id, which we cannot use
    if (address && std::find(out.begin(), out.end(), *address) == out.end()) {
      out.push_back(*address);
    }
  }
  if (out.empty()) {
    return std::unexpected(fmt::format("the name {} has no usable address", quoted(name)));
  }
  return out;
}

}  // namespace

void resolve_names(Config& config, const Origins& origins, Diagnostics& diagnostics) {
  std::map<std::string, Addresses> known;
  const auto resolve = [&](Endpoint& endpoint, const std::string& path) {
    if (!endpoint.is_set() || !endpoint.addresses.empty()) return;
    auto found = known.find(endpoint.host);
    if (found == known.end()) found = known.emplace(endpoint.host, look_up(endpoint.host)).first;
    if (found->second) {
      endpoint.addresses = *found->second;
    } else {
      diagnostics.push_back({Severity::error, origins.nearest(path), path, found->second.error()});
    }
  };
  resolve(config.inbound.app, "inbound.app");
  for (std::size_t s = 0; s < config.outbound.services.size(); ++s) {
    auto& endpoints = config.outbound.services[s].endpoints;
    for (std::size_t e = 0; e < endpoints.size(); ++e) {
      resolve(endpoints[e], fmt::format("outbound.services[{}].endpoints[{}]", s, e));
    }
  }
}

}  // namespace proxy::config
