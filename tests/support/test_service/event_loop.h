// One thread of the test service: accepts, waits with epoll, runs timers.
// Not aware of HTTP.
#pragma once

#include <cstdint>
#include <set>
#include <utility>

#include "tests/support/test_service/connection.h"

namespace test_service {

class EventLoop {
 public:
  // Accepts on `listener`, which other loops may share and which stays the caller's.
  EventLoop(int listener, const Settings& settings);
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  [[noreturn]] void run();

 private:
  void accept_some();
  void settle(Connection* connection, bool alive);
  void run_timers();
  int wait_ms() const;
  std::uint64_t now_ms() const;

  const int listener_;
  const int epoll_;
  const Settings& settings_;
  std::uint64_t now_ms_ = 0;
  std::set<std::pair<std::uint64_t, Connection*>> timers_;
};

}  // namespace test_service
