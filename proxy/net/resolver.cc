// c-ares on a libuv loop: its sockets are polled, its timeouts are one timer.
// Not a thread: where c-ares has one of its own (1.26 and later), it is not used.
#include "proxy/net/resolver.h"

#include <ares.h>
#include <netinet/in.h>
#include <sys/time.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "proxy/net/handle.h"

namespace proxy::net {
namespace {

LookupOutcome outcome_of(int status) {
  switch (status) {
    case ARES_SUCCESS:
      return LookupOutcome::resolved;
    case ARES_ENOTFOUND:
      return LookupOutcome::not_found;
    case ARES_ENODATA:
      return LookupOutcome::no_data;
    case ARES_EFORMERR:
    case ARES_ESERVFAIL:
    case ARES_ENOTIMP:
    case ARES_EREFUSED:
    case ARES_ECONNREFUSED:  // before 1.20 also when every server said one of the others
      return LookupOutcome::server_failure;
    case ARES_ETIMEOUT:
      return LookupOutcome::timeout;
    case ARES_EBADRESP:
      return LookupOutcome::malformed;
    default:
      return LookupOutcome::failed;
  }
}

// Nobody can be reached at 0.0.0.0 or ::, with which some servers say "blocked"; connecting there
// would lead to this machine.
void append_address(DnsAnswer& answer, const ares_addrinfo_node& node) {
  if (node.ai_family != AF_INET && node.ai_family != AF_INET6) return;
  if (node.ai_addrlen > static_cast<ares_socklen_t>(sizeof(sockaddr_storage))) return;
  sockaddr_storage storage{};
  std::memcpy(&storage, node.ai_addr, static_cast<std::size_t>(node.ai_addrlen));
  const SocketAddress address = SocketAddress(storage).unmapped().with_port(0);
  if (!address.is_any()) answer.addresses.push_back(address);
}

void read_addresses(DnsAnswer& answer, const ares_addrinfo& result) {
  int ttl = result.nodes == nullptr ? 0 : result.nodes->ai_ttl;
  for (const auto* node = result.nodes; node != nullptr; node = node->ai_next) {
    append_address(answer, *node);
    ttl = std::min(ttl, node->ai_ttl);
  }
  for (const auto* alias = result.cnames; alias != nullptr; alias = alias->next) {
    ttl = std::min(ttl, alias->ttl);
  }
  // RFC 2181 8: a TTL with its highest bit set is 0.
  answer.ttl = std::chrono::seconds(std::max(ttl, 0));
  auto& all = answer.addresses;
  const auto key = [](const SocketAddress& address) {
    return std::pair(address.is_ipv6(), address.bytes());
  };
  std::sort(all.begin(), all.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });
  all.erase(std::unique(all.begin(), all.end(),
                        [](const auto& a, const auto& b) { return a.same_host(b); }),
            all.end());
  if (all.size() > Resolver::kMaxAddresses) all.resize(Resolver::kMaxAddresses);
}

}  // namespace

struct Resolver::Lookup {
  Resolver* resolver;
  std::string name;
  std::function<void(DnsAnswer)> done;
  int family = AF_INET;
  bool ended = false;
  DnsAnswer answer;
};

// A descriptor of c-ares, which opens and closes it.
struct Resolver::Socket {
  uv_poll_t handle{};
  Resolver* owner = nullptr;
  Loop* loop = nullptr;
  int fd = -1;
};

class Resolver::Sockets : public std::map<int, UvHandle<Socket>> {};

Resolver::Resolver(Loop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      sockets_(std::make_unique<Sockets>()),
      timeouts_(loop, [this] { socket_ready(ARES_SOCKET_BAD, false, false); }) {}

Resolver::~Resolver() {
  close();
}

// --- the channel --------------------------------------------------------------------------

bool Resolver::open() {
  if (channel_ != nullptr) return true;
  ares_options options{};
  options.timeout = static_cast<int>(options_.timeout.count());
  options.tries = options_.tries;
  options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
    static_cast<Resolver*>(self)->socket_changed(fd, readable != 0, writable != 0);
  };
  options.sock_state_cb_data = this;
  int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE
  // 1.31 and later keep answers for an hour by default; when to ask is our user's business.
  options.qcache_max_ttl = 0;
  mask |= ARES_OPT_QUERY_CACHE;
#endif
  if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) return false;
  ares_channel channel = nullptr;
  int status = ares_init_options(&channel, &options, mask);
  if (status == ARES_SUCCESS && !options_.servers.empty()) {
    std::string servers;
    for (const std::string& server : options_.servers) {
      servers += (servers.empty() ? "" : ",") + server;
    }
    status = ares_set_servers_ports_csv(channel, servers.c_str());
    if (status != ARES_SUCCESS) ares_destroy(channel);
  }
  if (status != ARES_SUCCESS) {
    ares_library_cleanup();
    return false;
  }
  channel_ = channel;
  return true;
}

void Resolver::close() noexcept {
  read_anew_ = false;
  timeouts_.stop();
  if (channel_ == nullptr) return;
  ares_destroy(std::exchange(channel_, nullptr));  // tells each lookup ARES_EDESTRUCTION
  ares_library_cleanup();
}

// --- lookups ------------------------------------------------------------------------------

void Resolver::look_up(const std::string& name, std::function<void(DnsAnswer)> done) {
  ++running_;
  auto lookup = std::make_unique<Lookup>();
  lookup->resolver = this;
  lookup->name = name;
  lookup->done = std::move(done);
  if (open()) {
    ask(std::move(lookup));
  } else {
    lookup->answer.error = "the resolver can't be set up; is /etc/resolv.conf readable?";
    lookup->ended = true;
    queue(std::move(lookup));
  }
}

void Resolver::ask(std::unique_ptr<Lookup> lookup) {
  ares_addrinfo_hints hints{};
  hints.ai_family = lookup->family;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = ARES_AI_NOSORT;  // sorting would connect a socket to each of them
  const std::string name = lookup->name;
  ares_getaddrinfo(
      channel_, name.c_str(), nullptr, &hints,
      [](void* given, int status, int, ares_addrinfo* result) {
        std::unique_ptr<Lookup> asked(static_cast<Lookup*>(given));
        Resolver& self = *asked->resolver;
        self.answered(std::move(asked), status, result);
        if (result != nullptr) ares_freeaddrinfo(result);
      },
      lookup.release());
  wait_for_timeouts();
}

void Resolver::answered(std::unique_ptr<Lookup> lookup, int status, ares_addrinfo* result) {
  if (channel_ == nullptr) return;  // being destroyed
  DnsAnswer& answer = lookup->answer;
  if (status == ARES_SUCCESS && result != nullptr) read_addresses(answer, *result);
  answer.outcome = outcome_of(status);
  if (answer.outcome == LookupOutcome::resolved && answer.addresses.empty()) {
    answer.outcome = LookupOutcome::no_data;
    status = ARES_ENODATA;
  }
  const bool none =
      answer.outcome == LookupOutcome::no_data || answer.outcome == LookupOutcome::not_found;
  if (none && lookup->family == AF_INET) {
    answer = {};
    lookup->family = AF_INET6;  // asked at the turn's end, when c-ares is done with this answer
    queue(std::move(lookup));
    return;
  }
  if (answer.outcome != LookupOutcome::resolved) {
    answer.error = ares_strerror(status);
    if (!none) read_anew_ = true;
  }
  lookup->ended = true;
  queue(std::move(lookup));
}

void Resolver::queue(std::unique_ptr<Lookup> lookup) {
  queue_.push_back(std::move(lookup));
  loop_.at_turn_end(*this);
}

void Resolver::run_at_turn_end() {
  for (auto& lookup : std::exchange(queue_, {})) {
    if (!lookup->ended) {
      ask(std::move(lookup));
      continue;
    }
    --running_;
    const auto done = std::move(lookup->done);
    done(std::move(lookup->answer));
  }
  if (read_anew_ && running_ == 0) close();
}

// --- the loop -----------------------------------------------------------------------------

void Resolver::socket_changed(int fd, bool readable, bool writable) {
  const auto known = sockets_->find(fd);
  if (!readable && !writable) {
    if (known != sockets_->end()) sockets_->erase(known);
    return;
  }
  Socket* socket = known == sockets_->end() ? nullptr : known->second.get();
  if (socket == nullptr) {
    socket = new Socket;
    if (uv_poll_init(loop_.uv(), &socket->handle, fd) != 0) {
      delete socket;  // its queries time out
      return;
    }
    socket->owner = this;
    socket->loop = &loop_;
    socket->fd = fd;
    socket->handle.data = socket;
    sockets_->emplace(fd, UvHandle<Socket>(socket));
  }
  const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  uv_poll_start(&socket->handle, events, [](uv_poll_t* handle, int status, int happened) noexcept {
    const auto& polled = *static_cast<Socket*>(handle->data);
    if (polled.owner == nullptr) return;
    Loop::Turn turn(*polled.loop);
    // An error shows itself to whoever reads.
    polled.owner->socket_ready(polled.fd, status != 0 || (happened & UV_READABLE) != 0,
                               (happened & UV_WRITABLE) != 0);
  });
}

void Resolver::socket_ready(int fd, bool readable, bool writable) {
  if (channel_ == nullptr) return;
  ares_process_fd(channel_, readable ? fd : ARES_SOCKET_BAD, writable ? fd : ARES_SOCKET_BAD);
  wait_for_timeouts();
}

void Resolver::wait_for_timeouts() {
  timeval room{};
  const timeval* next = ares_timeout(channel_, nullptr, &room);
  if (next == nullptr) {
    timeouts_.stop();
  } else {
    timeouts_.start(std::chrono::milliseconds(next->tv_sec * 1000 + next->tv_usec / 1000 + 1));
  }
}

}  // namespace proxy::net
