// A plain TCP relay on raw epoll: what any proxy must at least do, and so the benchmark's floor.
// Not a proxy: it looks at nothing, so every client connection gets an upstream connection of its
// own. In the steady state a request costs two reads, two writes and its share of the waits.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kReadSize = 64 * 1024;

struct Pair;

// One direction's reading end; what could not be written to the other end waits in `unsent`.
struct End {
  int fd = -1;
  std::uint32_t armed = 0;
  bool ended = false;  // this side has sent its last byte
  std::string unsent;  // for this side, from the other
  End* other = nullptr;
  Pair* pair = nullptr;
};

struct Pair {
  End client;
  End upstream;
  bool dead = false;
};

void watch(int epoll, int operation, End& end, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = &end;
  end.armed = events;
  ::epoll_ctl(epoll, operation, end.fd, &event);
}

// Both ends' events as their state wants them: no reading while the other end is full.
void arm(int epoll, Pair& pair) {
  for (End* end : {&pair.client, &pair.upstream}) {
    std::uint32_t wanted = 0;
    if (!end->ended && end->other->unsent.empty()) wanted |= EPOLLIN;
    if (!end->unsent.empty()) wanted |= EPOLLOUT;
    if (wanted != end->armed) watch(epoll, EPOLL_CTL_MOD, *end, wanted);
  }
}

// False when the end's peer is gone.
bool send_to(End& end, std::string_view bytes) {
  const ssize_t sent = ::send(end.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0 && errno != EAGAIN && errno != EINPROGRESS && errno != ENOTCONN) return false;
  end.unsent.assign(bytes.substr(sent < 0 ? 0 : static_cast<std::size_t>(sent)));
  return true;
}

bool move_bytes(End& from) {
  static std::array<char, kReadSize> room;
  const ssize_t got = ::recv(from.fd, room.data(), room.size(), 0);
  if (got < 0) return errno == EAGAIN;
  if (got > 0) return send_to(*from.other, {room.data(), static_cast<std::size_t>(got)});
  from.ended = true;
  ::shutdown(from.other->fd, SHUT_WR);
  return !from.other->ended;
}

bool on_events(End& end, std::uint32_t events) {
  if ((events & EPOLLERR) != 0) return false;
  if ((events & EPOLLOUT) != 0 && !end.unsent.empty()) {
    const std::string bytes = std::move(end.unsent);
    end.unsent.clear();
    if (!send_to(end, bytes)) return false;
  }
  if ((events & EPOLLIN) != 0) return move_bytes(end);
  return (events & EPOLLHUP) == 0;
}

void accept_some(int epoll, int listener, const sockaddr_in& upstream) {
  for (int i = 0; i < 64; ++i) {
    const int client = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server < 0) {
      ::close(client);
      return;
    }
    const int on = 1;
    ::setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::connect(server, reinterpret_cast<const sockaddr*>(&upstream), sizeof upstream);
    auto* const pair = new Pair;
    pair->client.fd = client;
    pair->upstream.fd = server;
    pair->client.other = &pair->upstream;
    pair->upstream.other = &pair->client;
    pair->client.pair = pair->upstream.pair = pair;
    watch(epoll, EPOLL_CTL_ADD, pair->upstream, EPOLLIN);
    watch(epoll, EPOLL_CTL_ADD, pair->client, EPOLLIN);
  }
}

[[noreturn]] void run(int listener, const sockaddr_in& upstream) {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  End accepting;
  accepting.fd = listener;
  watch(epoll, EPOLL_CTL_ADD, accepting, EPOLLIN);
  std::array<epoll_event, 256> events{};
  std::vector<Pair*> dead;
  for (;;) {
    const int count = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      auto& end = *static_cast<End*>(event.data.ptr);
      if (&end == &accepting) {
        accept_some(epoll, listener, upstream);
      } else if (!end.pair->dead && !on_events(end, event.events)) {
        end.pair->dead = true;  // its other end may be among these events still
        dead.push_back(end.pair);
      } else if (!end.pair->dead) {
        arm(epoll, *end.pair);
      }
    }
    for (Pair* pair : dead) {
      ::close(pair->client.fd);
      ::close(pair->upstream.fd);
      delete pair;
    }
    dead.clear();
  }
}

bool parse(std::string_view text, sockaddr_in& address) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  std::uint16_t port = 0;
  const auto [stop, error] =
      std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
  address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  return error == std::errc() && stop == text.data() + text.size() &&
         ::inet_pton(AF_INET, std::string(text.substr(0, colon)).c_str(), &address.sin_addr) == 1;
}

}  // namespace

int main(int count, char** values) {
  sockaddr_in address{};
  sockaddr_in upstream{};
  if (count != 3 || !parse(values[1], address) || !parse(values[2], upstream)) {
    std::fputs("usage: relay LISTEN_ADDRESS:PORT UPSTREAM_ADDRESS:PORT   (IPv4; port 0: any)\n",
               stderr);
    return 64;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  socklen_t size = sizeof address;
  if (::bind(listener, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::listen(listener, 4096) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::perror("relay");
    return 1;
  }
  std::printf("listening on 127.0.0.1:%u\n", ntohs(address.sin_port));
  std::fflush(stdout);
  run(listener, upstream);
}
