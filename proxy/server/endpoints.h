// The names among a configuration's endpoints, and the endpoints that their addresses are.
// Not the looking up (name_refresh.h).
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "proxy/config/schema.h"

namespace proxy::server {

// The addresses of a name as they are known now; empty: none.
using AddressesOf = std::function<std::vector<config::IpAddress>(const std::string& name)>;

// Not an address, and not localhost, which is one by itself.
bool is_name(const config::Endpoint& endpoint) noexcept;

// Every name of inbound.app and outbound.services, once.
std::set<std::string> names_in(const config::Config& config);

// The same with an endpoint for each address in the place of a name ("10.0.0.7:8080"), as often as
// it comes each address once. Without addresses a name is no endpoint.
std::vector<config::Endpoint> resolved(const std::vector<config::Endpoint>& endpoints,
                                       const AddressesOf& addresses_of);

}  // namespace proxy::server
