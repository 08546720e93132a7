// LoopFixture: a Loop for one test case, with a deadline on every wait and checks at its end.
// Not a scheduler: what happens is what the kernel and the code under test do.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdint>
#include <functional>

#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "tests/support/catch.h"

namespace proxy::test {

// Declare it before all that lives on its loop: its destructor checks that every chunk and slice
// came back, after the close callbacks of what has been destroyed have run.
class LoopFixture {
 public:
  LoopFixture() { std::signal(SIGPIPE, SIG_IGN); }
  LoopFixture(const LoopFixture&) = delete;
  LoopFixture& operator=(const LoopFixture&) = delete;
  ~LoopFixture() {
    settle();
    CHECK(leaked() == 0);
  }

  net::Loop loop;

  // Runs the loop until `done` holds; false when it does not within `limit` of real time.
  bool run_until(const std::function<bool()>& done,
                 std::chrono::milliseconds limit = std::chrono::seconds(60)) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    // Wakes a waiting loop now and then, so that the deadline and `done` are looked at.
    net::Timer tick(loop, [&tick] { tick.start(std::chrono::milliseconds(10)); });
    tick.start(std::chrono::milliseconds(10));
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      loop.run_once(true);
    }
    return true;
  }

  // Runs what is ready, without waiting: for events that must not come, and after destroying.
  void settle(int passes = 3) {
    for (int i = 0; i < passes; ++i) loop.run_once(false);
  }

  // Moves the clock on and fires what is due by then.
  void advance(std::chrono::milliseconds by) {
    loop.advance_clock_for_test(static_cast<std::uint64_t>(by.count()) * 1000);
    loop.run_once(false);
  }

  // Chunks and slices that are out, beside the one chunk the loop keeps for its reads.
  std::size_t leaked() {
    const auto& kept = loop.read_chunk_in_use();
    return loop.chunks().outstanding() - (kept && kept->references() == 1 ? 1 : 0);
  }
};

}  // namespace proxy::test
