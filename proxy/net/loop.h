// Loop: one thread's event loop, its clock, its timers, its chunk pool and the order of a turn.
// Not a thread: whoever calls run() is. Nothing here but post() may be called from another thread.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "proxy/base/chunk.h"
#include "proxy/base/ilist.h"
#include "proxy/net/timer.h"

struct uv_loop_s;
struct uv_async_s;
struct uv_prepare_s;

namespace proxy::net {

class Loop;

// Something that wants to be called at the end of the turn, at most once a turn for each time it
// is queued. Leaves its queue when destroyed.
class TurnTask : public ListHook<TurnTask> {
 public:
  virtual ~TurnTask() = default;
  virtual void run_at_turn_end() = 0;
};

// Something with bytes to hand down: connections frame into their transport, TLS into the socket.
class Flushable : public ListHook<Flushable> {
 public:
  virtual ~Flushable() = default;
  virtual void flush() = 0;
};

// An object that may be on the stack when its life ends.
class Reapable : public ListHook<Reapable> {
 public:
  virtual ~Reapable() = default;

 private:
  friend class Loop;
  // What reaping does; pooled objects go back to their pool instead.
  virtual void dispose() noexcept { delete this; }
};

// Lets the reaper take what is not Reapable itself (interfaces of lower modules).
template <class T>
class Coffin final : public Reapable {
 public:
  explicit Coffin(std::unique_ptr<T> dead) noexcept : dead_(std::move(dead)) {}

 private:
  std::unique_ptr<T> dead_;
};

class Loop {
 public:
  Loop();
  ~Loop();  // every handle must have been closed by its owner before; asserts uv_loop_close() == 0
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Runs until stop(): waits for posts even when nothing else is there to wait for.
  void run();
  // Makes run() return after the present turn. From this thread; others post() it.
  void stop() noexcept;
  // One pass over what is ready now (or, with `wait`, after waiting for the first event): tests.
  void run_once(bool wait);

  // From any thread: `task` runs in a turn of this loop. Tasks never run after ~Loop began; those
  // left over are destroyed by it.
  void post(std::function<void()> task);

  void at_turn_end(TurnTask& task) noexcept {
    if (!task.linked()) tasks_.push_back(task);
  }
  void mark_dirty(Flushable& dirty) noexcept {
    if (!dirty.linked()) dirty_.push_back(dirty);
  }
  // Disposes of `dead` when the turn ends and nothing of ours is on the stack any more.
  template <class T>
  void reap(std::unique_ptr<T> dead) {
    if (dead == nullptr) return;
    if constexpr (std::derived_from<T, Reapable>) {
      reap_pooled(*dead.release());
    } else {
      reap_pooled(*new Coffin<T>(std::move(dead)));
    }
  }
  // For objects whose dispose() gives them back to a pool.
  void reap_pooled(Reapable& dead) noexcept { dead_.push_back(dead); }

  ChunkPool& chunks() noexcept { return chunks_; }
  TimerQueue& timers() noexcept { return timers_; }
  // Where socket reads go: one chunk used again and again while nobody keeps slices of it; then
  // what is left of it while that is `at_least` bytes; then a new one with `room` bytes.
  ChunkRef& read_chunk(std::size_t room, std::size_t at_least);
  // The chunk that the last read_chunk() gave.
  ChunkRef& read_chunk_in_use() noexcept { return read_chunk_; }

  // Monotonic time. Read from the system at most once a turn, so cheap to ask.
  std::uint64_t now_us() noexcept;
  std::uint64_t now_ms() noexcept { return now_us() / 1000; }
  // Monotonic time as of this very moment.
  std::uint64_t precise_now_us() const noexcept;
  // Number of the present batch: the events that one poll found. What two events of a batch tell
  // was so before either of them was handled. A batch of 1,024 events or more counts as several.
  std::uint64_t batch() const noexcept { return batch_; }
  // Transports that are not the kernel's begin a batch with each of their events.
  void begin_batch_for_test() noexcept { begin_batch(); }
  // Tests move the clock forward; timers due by then fire in the next run_once.
  void advance_clock_for_test(std::uint64_t us) noexcept { clock_offset_us_ += us; }

  uv_loop_s* uv() noexcept { return uv_.get(); }

  // Opened by every callback that enters our code; the outermost one's end is the turn's end:
  // flush the dirty, run the tasks, destroy the dead, until nothing is pending.
  class Turn {
   public:
    explicit Turn(Loop& loop) noexcept : loop_(loop) {
      if (loop_.depth_++ == 0) loop_.begin_turn();
    }
    ~Turn() {
      if (loop_.depth_ == 1) loop_.end_turn();
      --loop_.depth_;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    Loop& loop_;
  };

 private:
  struct UvLoopDelete {
    void operator()(uv_loop_s* loop) const noexcept;
  };
  void begin_turn() noexcept {
    turn_now_us_ = 0;
    // libuv polls again, with no word of it, when a poll filled its table of 1,024 events.
    if (++turns_in_batch_ == 1024) begin_batch();
  }
  void begin_batch() noexcept {
    ++batch_;
    turns_in_batch_ = 0;
  }
  void end_turn();
  void run_posted();

  // Before timers_, whose constructor asks for the time.
  unsigned depth_ = 0;
  std::uint64_t turn_now_us_ = 0;
  std::uint64_t clock_offset_us_ = 0;
  std::uint64_t batch_ = 0;
  unsigned turns_in_batch_ = 0;
  ChunkPool chunks_;  // outlives all that holds chunks
  std::unique_ptr<uv_loop_s, UvLoopDelete> uv_;
  TimerQueue timers_;
  uv_async_s* wake_ = nullptr;           // frees itself in its close callback
  uv_prepare_s* before_poll_ = nullptr;  // likewise
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
  ChunkRef read_chunk_;
  IntrusiveList<TurnTask> tasks_;
  IntrusiveList<Flushable> dirty_;
  IntrusiveList<Reapable> dead_;
};

}  // namespace proxy::net
