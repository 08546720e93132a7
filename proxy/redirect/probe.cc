// One poll loop over listeners in the proxy's place and the far end of a veth pair; of the outgoing
// connections only the arrival counts, so one that the kernel refuses is tried again.
#include "proxy/redirect/probe.h"

#include <arpa/inet.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <random>
#include <sstream>
#include <utility>

namespace proxy::redirect {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::string_view kBytes = "hoplite";
constexpr int kOriginalDestination = 80;     // SO_ORIGINAL_DST, IP6T_SO_ORIGINAL_DST
constexpr int kTransparentV6 = 75;           // IPV6_TRANSPARENT
constexpr milliseconds kTimeToGoWrong{250};  // an arrival takes a thousandth of that
constexpr milliseconds kTurn{20};

class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  // Reset rather than closed: no state is left behind, on either side.
  ~Socket() {
    if (fd_ < 0) return;
    const linger reset{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

// As who files are opened, for as long as it lives; sockets count as files.
class Disguise {
 public:
  explicit Disguise(const Identity& identity)
      : gid_(static_cast<gid_t>(::setfsgid(identity.gid))),
        uid_(static_cast<uid_t>(::setfsuid(identity.uid))) {}
  ~Disguise() {
    ::setfsuid(uid_);
    ::setfsgid(gid_);
  }
  Disguise(const Disguise&) = delete;
  Disguise& operator=(const Disguise&) = delete;

 private:
  gid_t gid_;
  uid_t uid_;
};

bool set(const Socket& socket, int level, int option) {
  const int on = 1;
  return ::setsockopt(socket.get(), level, option, &on, sizeof on) == 0;
}

Socket open_socket(Family family) {
  return Socket(::socket(family == Family::ipv4 ? AF_INET : AF_INET6,
                         SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

bool bind_to(const Socket& socket, const Endpoint& at) {
  const auto storage = storage_of(at);
  return ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&storage), length_of(at)) == 0;
}

// Empty when somebody else listens there.
Socket listen_on(Family family, std::uint16_t port, bool transparent) {
  auto out = open_socket(family);
  if (!out) return out;
  set(out, SOL_SOCKET, SO_REUSEADDR);
  if (family == Family::ipv6) set(out, IPPROTO_IPV6, IPV6_V6ONLY);
  if (transparent) {
    if (family == Family::ipv4) {
      set(out, IPPROTO_IP, IP_TRANSPARENT);
    } else {
      set(out, IPPROTO_IPV6, kTransparentV6);
    }
  }
  if (!bind_to(out, Endpoint{family, {}, port}) || ::listen(out.get(), 64) != 0) return Socket();
  return out;
}

Endpoint name_of(int fd, int (*ask)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  ask(fd, reinterpret_cast<sockaddr*>(&storage), &length);
  return endpoint(storage);
}

// As the proxy asks; where nothing was rewritten, the address it was accepted on.
Endpoint original_of(int fd, Family family) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  const int level = family == Family::ipv4 ? SOL_IP : SOL_IPV6;
  if (::getsockopt(fd, level, kOriginalDestination, &storage, &length) == 0) {
    return endpoint(storage);
  }
  return name_of(fd, &::getsockname);
}

class Run {
 public:
  Run(const std::vector<Probe>& probes, const Ports& ports, bool ipv6, Wire* wire)
      : probes_(probes), wire_(wire), landings_(probes.size()) {
    for (const auto port : {ports.outbound, ports.inbound, ports.app}) {
      const bool transparent = ports.transparent && port == ports.inbound;
      listen(Family::ipv4, port, transparent);
      if (ipv6) listen(Family::ipv6, port, transparent);
    }
    for (std::size_t i = 0; i < probes.size(); ++i) start(i);
  }

  // The limit is counted in turns: who was held up between two of them has not waited.
  std::vector<Landing> finish(milliseconds limit) {
    const auto begin = Clock::now();
    for (milliseconds waited{0}; waited < limit; waited += kTurn) {
      turn();
      look_up();
      start_again();
      if (all_arrived() && (nothing_to_refute() || Clock::now() - begin > kTimeToGoWrong)) break;
    }
    return std::move(landings_);
  }

 private:
  struct Listener {
    Socket socket;
    Family family;
    std::uint16_t port;
  };

  void listen(Family family, std::uint16_t port, bool transparent) {
    if (auto socket = listen_on(family, port, transparent)) {
      listeners_.push_back({std::move(socket), family, port});
    } else {
      others_listen_ = true;
    }
  }

  void start(std::size_t index) {
    clients_.emplace_back();
    from_.emplace_back();
    if (probes_[index].from == Probe::From::outside) {
      start_outside(index);
    } else {
      start_here(index);
    }
  }

  void start_here(std::size_t index) {
    const auto& probe = probes_[index];
    auto& landing = landings_[index];
    Socket socket;
    {
      const Disguise disguise(probe.identity);
      socket = open_socket(probe.to.family);
    }
    const auto to = storage_of(probe.to);
    if (!socket || (probe.source && !bind_to(socket, *probe.source)) ||
        (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to), length_of(probe.to)) !=
             0 &&
         errno != EINPROGRESS)) {
      landing.error = std::strerror(errno);
      return;
    }
    landing.started = true;
    from_[index] = name_of(socket.get(), &::getsockname);
    clients_[index] = std::move(socket);
  }

  // An address or a rule that was made a moment ago may not yet serve the first packet, and an
  // error that comes back for it (ICMPv6) ends the connection.
  void start_again() {
    for (std::size_t i = 0; i < probes_.size(); ++i) {
      if (!clients_[i] || probes_[i].wanted_port == 0 || landings_[i].port != 0) continue;
      int error = 0;
      socklen_t length = sizeof error;
      ::getsockopt(clients_[i].get(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) start_here(i);
    }
  }

  void start_outside(std::size_t index) {
    const auto& probe = probes_[index];
    auto& landing = landings_[index];
    if (wire_ == nullptr) return;
    // Another in each run: the kernel remembers how it treated connections that are just over.
    const auto port = static_cast<std::uint16_t>(first_port_ + index);
    from_[index] = Wire::client(probe.to.family, port);
    landing.started = true;
    wire_->connect(probe.to.family, port, probe.to.port);
  }

  void turn() {
    std::vector<pollfd> polled;
    polled.reserve(listeners_.size() + 1);
    for (const auto& listener : listeners_) polled.push_back({listener.socket.get(), POLLIN, 0});
    if (wire_ != nullptr) polled.push_back({wire_->descriptor(), POLLIN, 0});
    ::poll(polled.data(), polled.size(), static_cast<int>(kTurn.count()));
    if (wire_ != nullptr) wire_->answer(kBytes);
    for (const auto& listener : listeners_) accept_all(listener);
  }

  void accept_all(const Listener& listener) {
    while (true) {
      const Socket accepted(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!accepted) return;
      const auto peer = name_of(accepted.get(), &::getpeername);
      const auto found = std::ranges::find(from_, peer);
      if (found == from_.end()) continue;  // not of ours
      const auto index = static_cast<std::size_t>(found - from_.begin());
      auto& landing = landings_[index];
      landing.port = listener.port;
      landing.original = original_of(accepted.get(), listener.family);
      landing.bytes = exchange(clients_[index], accepted);
    }
  }

  // The handshake is complete, so over loopback nothing here has to wait.
  static bool exchange(const Socket& client, const Socket& accepted) {
    if (client) (void)::send(client.get(), kBytes.data(), kBytes.size(), MSG_NOSIGNAL);
    const timeval patience{1, 0};
    ::setsockopt(accepted.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    std::array<char, kBytes.size()> got{};
    const auto length = ::recv(accepted.get(), got.data(), got.size(), MSG_WAITALL);
    return length == static_cast<ssize_t>(got.size()) &&
           std::string_view(got.data(), got.size()) == kBytes;
  }

  void look_up() {
    if (!others_listen_) return;
    for (std::size_t i = 0; i < probes_.size(); ++i) {
      auto& landing = landings_[i];
      if (!landing.started || landing.port != 0) continue;
      for (const auto* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
        const auto port = port_reached_by(from_[i], table);
        const bool ours = std::ranges::any_of(
            listeners_, [&](const Listener& listener) { return listener.port == port; });
        if (port != 0 && !ours) landing.port = port;  // accept_all() knows more about ours
      }
    }
  }

  bool all_arrived() const {
    for (std::size_t i = 0; i < probes_.size(); ++i) {
      if (landings_[i].started && probes_[i].wanted_port != 0 && landings_[i].port == 0)
        return false;
    }
    return true;
  }

  bool nothing_to_refute() const {
    return std::ranges::none_of(probes_, [](const Probe& p) { return p.wanted_port == 0; });
  }

  const std::vector<Probe>& probes_;
  Wire* const wire_;
  const unsigned first_port_ = 20000 + std::random_device{}() % 40000;
  std::vector<Landing> landings_;
  std::vector<Listener> listeners_;
  bool others_listen_ = false;
  std::vector<Socket> clients_;  // by probe; empty for one from outside
  std::vector<Endpoint> from_;   // by probe: its own end
};

// "0100007F:1F90", or 32 digits: words of four bytes in the machine's order, then the port.
std::optional<Endpoint> parse_entry(const std::string& text) {
  const auto colon = text.find(':');
  if (colon != 8 && colon != 32) return std::nullopt;
  sockaddr_storage storage{};
  std::array<std::uint32_t, 4> words{};
  for (std::size_t i = 0; i < colon / 8; ++i) {
    std::from_chars(text.data() + i * 8, text.data() + i * 8 + 8, words[i], 16);
  }
  unsigned port = 0;
  std::from_chars(text.data() + colon + 1, text.data() + text.size(), port, 16);
  if (colon == 8) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<std::uint16_t>(port));
    std::memcpy(&in.sin_addr, words.data(), 4);
    std::memcpy(&storage, &in, sizeof in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(static_cast<std::uint16_t>(port));
    std::memcpy(&in.sin6_addr, words.data(), 16);
    std::memcpy(&storage, &in, sizeof in);
  }
  return endpoint(storage);
}

}  // namespace

Identity identity_here() {
  return {static_cast<std::uint32_t>(::geteuid()), static_cast<std::uint32_t>(::getegid())};
}

bool can_be(const Identity& identity) {
  const Disguise disguise(identity);
  // An impossible id changes nothing and tells the present one.
  const auto uid = static_cast<std::uint32_t>(::setfsuid(static_cast<uid_t>(-1)));
  const auto gid = static_cast<std::uint32_t>(::setfsgid(static_cast<gid_t>(-1)));
  return Identity{uid, gid} == identity;
}

std::vector<Landing> run_probes(const std::vector<Probe>& probes, const Ports& ports, bool ipv6,
                                Wire* wire, std::chrono::milliseconds limit) {
  return Run(probes, ports, ipv6, wire).finish(limit);
}

std::uint16_t port_reached_by(const Endpoint& peer, const std::string& table) {
  std::ifstream in(table);
  std::string line;
  std::getline(in, line);  // the names of the columns
  while (std::getline(in, line)) {
    std::istringstream columns(line);
    std::string number, local, remote;
    columns >> number >> local >> remote;
    const auto other = parse_entry(remote);
    if (!other || *other != peer) continue;
    if (const auto here = parse_entry(local)) return here->port;
  }
  return 0;
}

}  // namespace proxy::redirect
