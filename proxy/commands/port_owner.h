// Who holds a TCP port, as far as /proc tells, and what to do about it. Linux only.
// Not the binding of addresses (server/).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <sys/types.h>

namespace proxy::commands {

struct PortOwner {
  uid_t uid = 0;
  /// Nothing when the socket is there and its process cannot be seen: another user's, or one
  /// outside of this container.
  std::optional<pid_t> pid;
  std::string program;  ///< the process's comm, at most 15 bytes, control bytes replaced
};

/// The holder of what stands in the way of binding `address` ("127.0.0.1:8000", "[::1]:8000",
/// "*:8000", "8000"): listeners first, then connections that have the port as their own. Reads
/// `proc`, which is another folder in tests. Nothing = nobody is to be seen.
std::optional<PortOwner> find_port_owner(std::string_view address,
                                         const std::string& proc = "/proc");

/// Two lines for the user, each ended by a line feed: who holds it, and what to do.
std::string explain_address_in_use(std::string_view address, const std::string& proc = "/proc");

}  // namespace proxy::commands
