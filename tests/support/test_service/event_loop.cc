// The epoll loop of the test service.
// Not libuv's: the service must not share what it is used to test.
#include "tests/support/test_service/event_loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace test_service {
namespace {

void watch(int epoll, int operation, int fd, std::uint32_t events, void* who) {
  epoll_event event{};
  event.events = events;
  event.data.ptr = who;
  if (::epoll_ctl(epoll, operation, fd, &event) != 0) {
    std::perror("test_service: epoll_ctl");
    std::_Exit(1);
  }
}

}  // namespace

EventLoop::EventLoop(const std::vector<Listener>& listeners, const Settings& settings)
    : listeners_(listeners), epoll_(::epoll_create1(EPOLL_CLOEXEC)), settings_(settings) {
  for (const Listener& listener : listeners_) {
    watch(epoll_, EPOLL_CTL_ADD, listener.fd, EPOLLIN | EPOLLEXCLUSIVE,
          const_cast<Listener*>(&listener));
  }
}

void EventLoop::run() {
  std::array<epoll_event, 256> events{};
  for (;;) {
    const int count =
        ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), wait_ms());
    now_ms_ = now_ms();
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      const auto listener =
          std::find_if(listeners_.begin(), listeners_.end(),
                       [&event](const Listener& each) { return &each == event.data.ptr; });
      if (listener != listeners_.end()) {
        accept_some(*listener);
      } else {
        auto* const connection = static_cast<Served*>(event.data.ptr);
        settle(connection, connection->on_events(event.events, now_ms_));
      }
    }
    run_timers();
  }
}

void EventLoop::accept_some(const Listener& listener) {
  for (int i = 0; i < 64; ++i) {
    const int fd = ::accept4(listener.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    Served* const connection = listener.serve(fd, settings_);
    connection->armed_events = connection->wanted_events();
    watch(epoll_, EPOLL_CTL_ADD, fd, connection->armed_events, connection);
  }
}

// Makes the kernel and the timers know what the connection wants now; deletes it when it is over.
void EventLoop::settle(Served* connection, bool alive) {
  const std::uint64_t deadline = alive ? connection->deadline_ms() : 0;
  if (deadline != connection->armed_deadline_ms) {
    if (connection->armed_deadline_ms != 0) {
      timers_.erase({connection->armed_deadline_ms, connection});
    }
    if (deadline != 0) timers_.insert({deadline, connection});
    connection->armed_deadline_ms = deadline;
  }
  if (!alive) {
    delete connection;
    return;
  }
  const std::uint32_t wanted = connection->wanted_events();
  if (wanted != connection->armed_events) {
    watch(epoll_, EPOLL_CTL_MOD, connection->fd(), wanted, connection);
    connection->armed_events = wanted;
  }
}

void EventLoop::run_timers() {
  while (!timers_.empty() && timers_.begin()->first <= now_ms_) {
    Served* const connection = timers_.begin()->second;
    timers_.erase(timers_.begin());
    connection->armed_deadline_ms = 0;
    settle(connection, connection->on_timer(now_ms_));
  }
}

int EventLoop::wait_ms() const {
  if (timers_.empty()) return -1;
  const std::uint64_t due = timers_.begin()->first;
  const std::uint64_t now = now_ms();
  return due <= now ? 0 : static_cast<int>(std::min<std::uint64_t>(due - now, 60'000));
}

std::uint64_t EventLoop::now_ms() const {
  const auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(since).count());
}

}  // namespace test_service
