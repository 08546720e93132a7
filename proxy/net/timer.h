// Timer and TimerQueue: many timers over one kernel timer, by a hierarchical wheel of milliseconds.
// Not for sub-millisecond needs: a timer fires in the first millisecond tick at or after its time.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>

#include "proxy/base/ilist.h"

struct uv_timer_s;

namespace proxy::net {

class Loop;
class TimerQueue;

// A plain member of its owner: its destructor stops it at once, so it can call no dead object.
class Timer : public ListHook<Timer> {
 public:
  // `fire` runs in a turn of the loop. It may start this timer again, start, stop and destroy any
  // other, and reap (not destroy) its own owner.
  Timer(Loop& loop, std::function<void()> fire);

  // (Re)starts: fires once, `after` from the turn's now. Starting later than before costs next to
  // nothing. Negative is 0, and 0 fires in the next millisecond, never in this call.
  void start(std::chrono::milliseconds after);
  // It stays filed until its slot comes up, so that starting it again is a mere store, too.
  void stop() noexcept { running_ = false; }
  bool running() const noexcept { return running_; }

 private:
  friend class TimerQueue;
  TimerQueue& queue_;
  std::function<void()> fire_;
  std::uint64_t due_ms_ = 0;   // when it should fire
  std::uint64_t slot_ms_ = 0;  // where in the wheel it is filed: at or before due_ms_
  bool running_ = false;
};

class TimerQueue {
 public:
  explicit TimerQueue(Loop& loop);
  ~TimerQueue();
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // Fires everything due by `now_ms`; called in a turn.
  void advance(std::uint64_t now_ms);
  // Files `timer` at its due time.
  void insert(Timer& timer);
  Loop& loop() noexcept { return loop_; }
  // Gives the kernel timer up; the loop is closing.
  void close();

 private:
  static constexpr unsigned kBits = 6;
  static constexpr unsigned kSlots = 1U << kBits;
  static constexpr unsigned kLevels = 6;  // 64^6 ms: two years

  void file(Timer& timer);
  void arm();
  std::uint64_t next_event_ms() const noexcept;  // ~0 when empty

  Loop& loop_;
  std::uint64_t done_ms_ = 0;  // all ticks up to here have been handled
  std::uint64_t armed_ms_ = ~std::uint64_t{0};
  uv_timer_s* uv_ = nullptr;  // frees itself in its close callback
  std::array<std::array<IntrusiveList<Timer>, kSlots>, kLevels> wheel_;
};

}  // namespace proxy::net
