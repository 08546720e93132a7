// One thread of the test service: accepts, waits with epoll, runs timers.
// Not aware of HTTP.
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/test_service/served.h"

namespace test_service {

// A listening socket, and who serves those who come there.
struct Listener {
  int fd;
  Served* (*serve)(int fd, const Settings& settings);
};

class EventLoop {
 public:
  // Accepts on `listeners`, which other loops may share and which stay the caller's.
  EventLoop(const std::vector<Listener>& listeners, const Settings& settings);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  [[noreturn]] void run();

 private:
  void accept_some(const Listener& listener);
  void settle(Served* connection, bool alive);
  void run_timers();
  int wait_ms() const;
  std::uint64_t now_ms() const;

  const std::vector<Listener>& listeners_;
  const int epoll_;
  const Settings& settings_;
  std::uint64_t now_ms_ = 0;
  std::set<std::pair<std::uint64_t, Served*>> timers_;
};

}  // namespace test_service
