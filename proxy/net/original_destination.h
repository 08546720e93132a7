// Where an intercepted connection was going, and whose addresses are ours.
// Not the rules that intercept (redirect/) and not what is done with the answer (server/).
#pragma once

#include <optional>

#include "proxy/net/address.h"

namespace proxy::net {

// The destination before a REDIRECT or DNAT rule changed it, as conntrack remembers it
// (SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST). For a connection that no rule changed it is the address
// the client connected to. Nothing when conntrack knows nothing of the connection or isn't there.
std::optional<SocketAddress> original_destination(int fd);

// The address of our end. Under TPROXY that is the original destination.
std::optional<SocketAddress> local_address(int fd);

// True when `address` is one of this network namespace. A few system calls: not for every
// connection. The port does not matter.
bool is_local(const SocketAddress& address);

// The source that tells our connections to the app from those to be intercepted: 127.0.0.6 or ::6,
// as Istio has it.
SocketAddress passthrough_source(bool ipv6);
bool is_passthrough_source(const SocketAddress& address);

}  // namespace proxy::net
