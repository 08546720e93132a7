// Makes connections and finds out on which port each of them arrives.
// Not which connections, nor what their arrival means: check.h.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/redirect/endpoint.h"
#include "proxy/redirect/wire.h"

namespace proxy::redirect {

// Whose the socket is, as iptables' owner match sees it.
struct Identity {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;

  bool operator==(const Identity&) const = default;
};
Identity identity_here();
// May this process open sockets as that?
bool can_be(const Identity& identity);

struct Probe {
  enum class From : std::uint8_t { here, outside };

  std::string what;  // for the report: "what the app sends"
  From from = From::here;
  Identity identity;               // of `here`
  std::optional<Endpoint> source;  // of `here`: bound before connecting
  Endpoint to;                     // of `outside`: Wire::server()
  std::uint16_t wanted_port = 0;   // where it must arrive; 0 = not at the proxy
};

struct Landing {
  bool started = false;
  std::string error;                 // why it was not
  std::uint16_t port = 0;            // where it arrived; 0 = nowhere that is known
  bool bytes = false;                // bytes went through
  std::optional<Endpoint> original;  // where it wanted to, as the proxy would be told
};

struct Ports {
  std::uint16_t outbound = 0;
  std::uint16_t inbound = 0;
  std::uint16_t app = 0;     // where an app would be reached without the proxy
  bool transparent = false;  // inbound is by TPROXY
};

// Listens on these ports where nobody does; where somebody does, the kernel's table of sockets says
// what arrived. Ends when each probe has arrived that shall, and those that shall not have had time
// to, at the latest after `limit`. One landing for each probe. Probes from outside need `wire`.
std::vector<Landing> run_probes(const std::vector<Probe>& probes, const Ports& ports, bool ipv6,
                                Wire* wire, std::chrono::milliseconds limit);

// As /proc/net/tcp and tcp6 list them: the local port of the connection whose other end is `peer`.
// 0 = there is none. For tests and for run_probes.
std::uint16_t port_reached_by(const Endpoint& peer, const std::string& table);

}  // namespace proxy::redirect
