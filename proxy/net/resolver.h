// Resolver: the addresses of one name by DNS (c-ares), and for how long they hold.
// Not the names' refreshing, nor what to do without an answer (server/name_refresh.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"

struct ares_channeldata;
struct ares_addrinfo;

namespace proxy::net {

// How a lookup ended. The words are those of hoplite_dns_lookups_total.
enum class LookupOutcome : std::uint8_t {
  resolved,
  not_found,       // NXDOMAIN (RFC 1035 4.1.1)
  no_data,         // the name exists and has no address
  server_failure,  // SERVFAIL, REFUSED and the like from every server, or none could be sent to
  timeout,
  malformed,  // an answer that is none
  failed,     // anything else, such as a name that DNS can't carry
};

struct DnsAnswer {
  LookupOutcome outcome = LookupOutcome::failed;
  std::string error;                     // what c-ares says of it; empty when resolved
  std::vector<SocketAddress> addresses;  // port 0; sorted, each once; not empty when resolved
  // The least of all records' on the way to the addresses, aliases included; 0: they say nothing
  // (/etc/hosts), or are not to be kept at all.
  std::chrono::seconds ttl{0};
};

// One for the process, on the main thread's loop. Asks for A records, and where a name has none
// for AAAA, so that of a name in both families only the one is used that nearly every network
// routes. Follows /etc/hosts, and /etc/resolv.conf (servers, search domains, ndots), which is read
// again after a failure of the servers. A truncated answer is asked for again by TCP.
class Resolver final : private TurnTask {
 public:
  struct Options {
    std::vector<std::string> servers;         // "IP", "IP:PORT", "[IP]:PORT"; none: resolv.conf's
    std::chrono::milliseconds timeout{1000};  // of a server's first try; doubles with each
    int tries = 3;
  };
  // Of one answer; what is beyond them is left out.
  static constexpr std::size_t kMaxAddresses = 256;

  Resolver(Loop& loop, Options options);
  // Lookups under way are forgotten; nobody is told.
  ~Resolver() override;
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // Called in a turn. `done` is called once, at a turn's end, never from in here; it may look up
  // more, and reap but not destroy the resolver.
  void look_up(const std::string& name, std::function<void(DnsAnswer)> done);

 private:
  struct Lookup;
  struct Socket;
  class Sockets;

  bool open();
  void close() noexcept;
  void ask(std::unique_ptr<Lookup> lookup);
  void answered(std::unique_ptr<Lookup> lookup, int status, ares_addrinfo* result);
  void queue(std::unique_ptr<Lookup> lookup);
  void socket_changed(int fd, bool readable, bool writable);
  void socket_ready(int fd, bool readable, bool writable);
  void wait_for_timeouts();
  void run_at_turn_end() override;

  Loop& loop_;
  const Options options_;
  ares_channeldata* channel_ = nullptr;  // opened by the first lookup
  std::unique_ptr<Sockets> sockets_;     // c-ares' open ones, by descriptor
  Timer timeouts_;
  std::vector<std::unique_ptr<Lookup>> queue_;  // for the turn's end: told, or asked once more
  std::size_t running_ = 0;
  bool read_anew_ = false;  // resolv.conf may name other servers by now
};

}  // namespace proxy::net
