// From names to endpoints. Not who keeps the addresses.
#include "proxy/server/endpoints.h"

#include <fmt/format.h>

#include <algorithm>

namespace proxy::server {

bool is_name(const config::Endpoint& endpoint) noexcept {
  return endpoint.is_set() && endpoint.addresses.empty();
}

std::set<std::string> names_in(const config::Config& config) {
  std::set<std::string> names;
  const auto add = [&names](const config::Endpoint& endpoint) {
    if (is_name(endpoint)) names.insert(endpoint.host);
  };
  add(config.inbound.app);
  for (const config::Service& service : config.outbound.services) {
    for (const config::Endpoint& endpoint : service.endpoints) add(endpoint);
  }
  return names;
}

std::vector<config::Endpoint> resolved(const std::vector<config::Endpoint>& endpoints,
                                       const AddressesOf& addresses_of) {
  if (std::none_of(endpoints.begin(), endpoints.end(), is_name)) return endpoints;
  std::vector<config::Endpoint> out;
  std::set<std::string> texts;
  for (const config::Endpoint& endpoint : endpoints) {
    if (!is_name(endpoint)) {
      out.push_back(endpoint);
      continue;
    }
    for (config::IpAddress& address : addresses_of(endpoint.host)) {
      config::Endpoint one;
      one.text = address.family == config::Family::ipv6
                     ? fmt::format("[{}]:{}", address.text, endpoint.port)
                     : fmt::format("{}:{}", address.text, endpoint.port);
      if (!texts.insert(one.text).second) continue;
      one.host = address.text;
      one.port = endpoint.port;
      one.addresses = {std::move(address)};
      out.push_back(std::move(one));
    }
  }
  return out;
}

}  // namespace proxy::server
