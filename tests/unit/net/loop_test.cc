// Loop: the order of a turn, reaping, posting from threads.
// Not sockets.
#include "proxy/net/loop.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/loop_fixture.h"

namespace proxy::net {
namespace {
using test::LoopFixture;

struct Step final : TurnTask {
  Step(std::string& log, char name) : log_(log), name_(name) {}
  void run_at_turn_end() override {
    log_ += name_;
    if (then) then();
  }
  std::string& log_;
  char name_;
  std::function<void()> then;
};

struct Dirty final : Flushable {
  explicit Dirty(std::string& log) : log_(log) {}
  void flush() override { log_ += 'f'; }
  std::string& log_;
};

struct Mortal final : Reapable {
  explicit Mortal(std::string& log) : log_(log) {}
  ~Mortal() override { log_ += 'd'; }
  std::string& log_;
};

struct Plain {
  explicit Plain(std::string& log) : log_(log) {}
  ~Plain() { log_ += 'p'; }
  std::string& log_;
};

}  // namespace

TEST_CASE("a turn ends with flushes, then tasks, then deaths, until nothing is left", "[net]") {
  LoopFixture fixture;
  Loop& loop = fixture.loop;
  std::string log;
  Step first(log, '1'), second(log, '2');
  Dirty dirty(log);
  first.then = [&] { loop.mark_dirty(dirty); };
  {
    const Loop::Turn outer(loop);
    loop.reap(std::make_unique<Mortal>(log));
    loop.reap(std::make_unique<Plain>(log));
    loop.at_turn_end(first);
    loop.at_turn_end(first);  // once is enough
    loop.at_turn_end(second);
    loop.mark_dirty(dirty);
    {
      const Loop::Turn inner(loop);  // not the end of the turn
    }
    CHECK(log.empty());
  }
  CHECK(log == "f1f2dp");
}

TEST_CASE("a task that is destroyed by another one leaves the queue", "[net]") {
  LoopFixture fixture;
  std::string log;
  auto doomed = std::make_unique<Step>(log, 'x');
  Step killer(log, 'k');
  killer.then = [&] { doomed.reset(); };
  {
    const Loop::Turn turn(fixture.loop);
    fixture.loop.at_turn_end(killer);
    fixture.loop.at_turn_end(*doomed);
  }
  CHECK(log == "k");
}

TEST_CASE("what is queued before run() is done at once", "[net]") {
  LoopFixture fixture;
  std::string log;
  Step stop(log, 's');
  stop.then = [&] { fixture.loop.stop(); };
  fixture.loop.at_turn_end(stop);
  fixture.loop.run();
  CHECK(log == "s");
}

TEST_CASE("a stop before the end does not keep the loop from closing", "[net]") {
  LoopFixture fixture;
  fixture.loop.stop();
}

TEST_CASE("tasks posted from threads all run, each thread's in order", "[net]") {
  LoopFixture fixture;
  Loop& loop = fixture.loop;
  constexpr int kThreads = 4;
  constexpr int kTasks = 500;
  std::vector<int> next(kThreads, 0);
  int wrong = 0;
  int done = 0;
  std::vector<std::jthread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kTasks; ++i) {
        loop.post([&, t, i] {
          if (next[static_cast<std::size_t>(t)]++ != i) ++wrong;
          if (++done == kThreads * kTasks) loop.stop();
        });
      }
    });
  }
  loop.run();
  CHECK(done == kThreads * kTasks);
  CHECK(wrong == 0);
}

TEST_CASE("tasks nobody ran are destroyed with the loop", "[net]") {
  auto token = std::make_shared<int>(0);
  {
    Loop loop;
    loop.post([token] { ++*token; });
  }
  CHECK(token.use_count() == 1);
  CHECK(*token == 0);
}

TEST_CASE("the clock stands still in a turn and never goes back", "[net]") {
  LoopFixture fixture;
  Loop& loop = fixture.loop;
  std::uint64_t before = 0;
  {
    const Loop::Turn turn(loop);
    before = loop.now_us();
    while (loop.precise_now_us() < before + 100) {
    }
    CHECK(loop.now_us() == before);
  }
  CHECK(loop.now_us() > before);
}

TEST_CASE("the read chunk is used again unless somebody keeps it", "[net]") {
  LoopFixture fixture;
  Loop& loop = fixture.loop;
  Chunk* const first = loop.read_chunk(16000, 4000).get();
  loop.read_chunk_in_use()->grow_used(1000);
  CHECK(loop.read_chunk(16000, 4000).get() == first);
  CHECK(loop.read_chunk_in_use()->used() == 0);

  loop.read_chunk_in_use()->grow_used(1000);
  const ChunkRef kept = loop.read_chunk_in_use().share();
  CHECK(loop.read_chunk(16000, 4000).get() == first);  // what is left of it
  CHECK(loop.read_chunk_in_use()->used() == 1000);
  loop.read_chunk_in_use()->grow_used(12000);
  CHECK(loop.read_chunk(16000, 4000).get() != first);
  CHECK(loop.read_chunk(64000, 16000)->room().size() >= 64000);
}

}  // namespace proxy::net
