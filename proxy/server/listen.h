// Opening the configured addresses: all sockets of all workers, or none.
// Not accepting: the sockets go to workers and the stats listener.
#pragma once

#include <expected>
#include <string>
#include <vector>

#include "proxy/config/schema.h"
#include "proxy/net/listener.h"
#include "proxy/server/server.h"

namespace proxy::server {

// One set of sockets a worker; each set has one socket for every address.
using SocketSets = std::vector<std::vector<net::BoundSocket>>;

// Binds every address of `listen`, first exclusively, then once more for each further worker. Port
// 0 takes one free port for all addresses. What was bound is added to `listening` as `what`.
std::expected<SocketSets, StartError> open_listener(const config::ListenAddress& listen,
                                                    std::string_view what, unsigned workers,
                                                    std::vector<Listening>& listening,
                                                    bool transparent = false);

}  // namespace proxy::server
