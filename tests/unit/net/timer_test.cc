// Timers: never early, never lost, whatever other timers do. The clock is moved by hand.
// Not real time, but for one case that looks at the kernel's timer.
#include "proxy/net/timer.h"

#include <map>
#include <memory>
#include <random>

#include "tests/support/loop_fixture.h"

namespace proxy::net {
namespace {
using namespace std::chrono_literals;
using test::LoopFixture;
}  // namespace

TEST_CASE("a timer fires once, not before its time", "[net]") {
  for (const auto after : {0ms, 1ms, 62ms, 63ms, 64ms, 65ms, 127ms, 4095ms, 4096ms, 4097ms,
                           262143ms, 262144ms, 75000ms, 16777216ms}) {
    CAPTURE(after.count());
    LoopFixture fixture;
    int fired = 0;
    Timer timer(fixture.loop, [&] { ++fired; });
    const std::uint64_t start = fixture.loop.precise_now_us();
    timer.start(after);
    CHECK(timer.running());
    if (after > 20ms) {
      fixture.advance(after - 20ms);
      // Real time goes on, too: only a fast machine can tell.
      if (fixture.loop.precise_now_us() - start < static_cast<std::uint64_t>(after.count()) * 1000)
        CHECK(fired == 0);
    }
    fixture.advance(22ms);
    CHECK(fired == 1);
    CHECK_FALSE(timer.running());
    fixture.advance(after + 100ms);
    CHECK(fired == 1);
  }
}

TEST_CASE("a stopped or destroyed timer does not fire", "[net]") {
  LoopFixture fixture;
  int fired = 0;
  Timer stopped(fixture.loop, [&] { ++fired; });
  stopped.start(5ms);
  stopped.stop();
  CHECK_FALSE(stopped.running());
  auto gone = std::make_unique<Timer>(fixture.loop, [&] { ++fired; });
  gone->start(5ms);
  gone.reset();
  fixture.advance(100ms);
  CHECK(fired == 0);
}

TEST_CASE("a timer can be started again later and earlier", "[net]") {
  LoopFixture fixture;
  int fired = 0;
  Timer timer(fixture.loop, [&] { ++fired; });
  timer.start(100ms);
  timer.start(10s);
  fixture.advance(5s);
  CHECK(fired == 0);
  CHECK(timer.running());
  timer.start(10s);
  fixture.advance(9s);
  CHECK(fired == 0);
  timer.start(50ms);
  fixture.advance(60ms);
  CHECK(fired == 1);
}

TEST_CASE("a deadline that is pushed back again and again fires once, after the last", "[net]") {
  LoopFixture fixture;
  int fired = 0;
  Timer timer(fixture.loop, [&] { ++fired; });
  for (int i = 0; i < 1000; ++i) {
    timer.start(1000ms);
    fixture.advance(10ms);
  }
  CHECK(fired == 0);
  fixture.advance(1001ms);
  CHECK(fired == 1);
}

TEST_CASE("timers may stop, destroy and start each other while they fire", "[net]") {
  LoopFixture fixture;
  int fired = 0;
  std::unique_ptr<Timer> doomed;
  Timer victim(fixture.loop, [&] { ++fired; });
  Timer later(fixture.loop, [&] { fired += 100; });
  Timer again(fixture.loop, [] {});
  Timer killer(fixture.loop, [&] {
    doomed.reset();
    victim.stop();
    later.start(50ms);
    killer.start(0ms);
  });
  doomed = std::make_unique<Timer>(fixture.loop, [&] { ++fired; });
  killer.start(10ms);
  victim.start(10ms);
  later.start(10ms);
  doomed->start(10ms);
  fixture.advance(12ms);
  CHECK(fired == 0);
  CHECK(killer.running());
  killer.stop();
  fixture.advance(60ms);
  CHECK(fired == 100);
}

TEST_CASE("a timer that starts itself with 0 does not hold the loop", "[net]") {
  LoopFixture fixture;
  int fired = 0;
  Timer timer(fixture.loop, [&] {
    ++fired;
    timer.start(0ms);
  });
  timer.start(0ms);
  fixture.advance(50ms);
  CHECK(fired >= 1);
  CHECK(fired <= 60);
  timer.stop();
}

TEST_CASE("random timers fire at their time over jumps of all sizes", "[net]") {
  for (unsigned seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    LoopFixture fixture;
    std::mt19937 random(seed);
    struct Entry {
      std::unique_ptr<Timer> timer;
      // Due not before and not after this: real time goes on while it is started.
      std::uint64_t earliest_ms = 0;
      std::uint64_t latest_ms = 0;
      bool running = false;
    };
    std::map<int, Entry> entries;
    int early = 0;
    int surprise = 0;
    for (int i = 0; i < 200; ++i) {
      Entry& entry = entries[i];
      entry.timer = std::make_unique<Timer>(fixture.loop, [&] {
        if (!entry.running) ++surprise;
        if (fixture.loop.now_ms() < entry.earliest_ms) ++early;
        entry.running = false;
      });
    }
    int late = 0;
    for (int step = 0; step < 1500; ++step) {
      Entry& entry = entries[static_cast<int>(random() % 200)];
      const std::uint64_t range = std::uint64_t{1} << (random() % 22);
      const std::uint64_t after = random() % range;
      if (random() % 5 == 0) {
        entry.timer->stop();
        entry.running = false;
      } else {
        entry.earliest_ms = fixture.loop.now_ms() + after;
        entry.running = true;
        entry.timer->start(std::chrono::milliseconds(after));
        entry.latest_ms = fixture.loop.now_ms() + after;
      }
      if (random() % 3 == 0) {
        const std::uint64_t by = random() % (1U << (random() % 18));
        const std::uint64_t reached_ms = fixture.loop.now_ms() + by;
        fixture.advance(std::chrono::milliseconds(by));
        for (auto& [number, each] : entries) {
          if (each.running && each.latest_ms + 50 < reached_ms) ++late;
          REQUIRE(each.running == each.timer->running());
        }
      }
    }
    CHECK(early == 0);
    CHECK(late == 0);
    CHECK(surprise == 0);
    fixture.advance(std::chrono::milliseconds(1U << 22));
    for (auto& [number, each] : entries) CHECK_FALSE(each.timer->running());
  }
}

TEST_CASE("the kernel's timer wakes the loop in time", "[net]") {
  LoopFixture fixture;
  bool fired = false;
  Timer timer(fixture.loop, [&] { fired = true; });
  const std::uint64_t start = fixture.loop.precise_now_us();
  timer.start(30ms);
  int wakes = 0;
  while (!fired && wakes < 100) {
    fixture.loop.run_once(true);
    ++wakes;
  }
  CHECK(fired);
  CHECK(fixture.loop.precise_now_us() - start >= 30'000);
  CHECK(wakes <= 4);
}

}  // namespace proxy::net
