// The timer wheel: six levels of 64 slots, each level 64 times coarser than the one before.
// Not exact on its upper levels: timers there are filed down as their time comes nearer.
#include "proxy/net/timer.h"

#include <uv.h>

#include <algorithm>
#include <exception>
#include <limits>

#include "proxy/net/loop.h"

namespace proxy::net {

Timer::Timer(Loop& loop, std::function<void()> fire)
    : queue_(loop.timers()), fire_(std::move(fire)) {}

void Timer::start(std::chrono::milliseconds after) {
  // The clock's present millisecond has partly passed: one more, or the timer would fire early.
  due_ms_ = queue_.loop().now_ms() +
            static_cast<std::uint64_t>(std::max<std::int64_t>(after.count(), 0)) + 1;
  running_ = true;
  // Filed earlier than due: it is filed again when that slot comes up. This makes the common case,
  // a deadline pushed back by every request, a mere store.
  if (linked() && slot_ms_ <= due_ms_) return;
  queue_.insert(*this);
}

TimerQueue::TimerQueue(Loop& loop) : loop_(loop) {
  uv_ = new uv_timer_t;
  uv_->data = this;
  if (uv_timer_init(loop.uv(), uv_) != 0) std::terminate();
  done_ms_ = loop.now_ms();
}

TimerQueue::~TimerQueue() {
  ASSERT(uv_ == nullptr);
}

void TimerQueue::close() {
  if (uv_ == nullptr) return;
  uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(uv_, nullptr)),
           [](uv_handle_t* timer) noexcept { delete reinterpret_cast<uv_timer_t*>(timer); });
}

void TimerQueue::insert(Timer& timer) {
  file(timer);
  if (timer.slot_ms_ < armed_ms_) arm();
}

// Level L holds timers less than 64^(L+1) ms away, in the slot of their L-th group of six bits.
void TimerQueue::file(Timer& timer) {
  const std::uint64_t due = std::max(timer.due_ms_, done_ms_ + 1);
  const std::uint64_t away = due - done_ms_;
  unsigned level = 0;
  while (level + 1 < kLevels && away >= (std::uint64_t{1} << (kBits * (level + 1)))) ++level;
  const unsigned shift = kBits * level;
  const std::uint64_t tick = due >> shift;
  timer.slot_ms_ = std::max(tick << shift, done_ms_ + 1);
  wheel_[level][tick % kSlots].push_back(timer);
}

std::uint64_t TimerQueue::next_event_ms() const noexcept {
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();
  for (unsigned level = 0; level < kLevels; ++level) {
    const unsigned shift = kBits * level;
    const std::uint64_t tick = done_ms_ >> shift;
    for (unsigned ahead = level == 0 ? 1 : 0; ahead <= kSlots; ++ahead) {
      if (wheel_[level][(tick + ahead) % kSlots].empty()) continue;
      // In an upper level the present slot can only hold what is a whole round away.
      const std::uint64_t at = (tick + (ahead == 0 ? kSlots : ahead)) << shift;
      next = std::min(next, std::max(at, done_ms_ + 1));
      if (ahead != 0) break;
    }
  }
  return next;
}

void TimerQueue::arm() {
  const std::uint64_t next = next_event_ms();
  armed_ms_ = next;
  if (next == std::numeric_limits<std::uint64_t>::max()) {
    uv_timer_stop(uv_);
    return;
  }
  const std::uint64_t now = loop_.precise_now_us() / 1000;
  // libuv counts from its own cached clock, which may lag behind ours.
  uv_update_time(loop_.uv());
  uv_timer_start(
      uv_,
      [](uv_timer_t* timer) noexcept {
        auto& queue = *static_cast<TimerQueue*>(timer->data);
        Loop::Turn turn(queue.loop_);
        queue.advance(queue.loop_.now_ms());
      },
      next > now ? next - now : 0, 0);
}

void TimerQueue::advance(std::uint64_t now_ms) {
  armed_ms_ = 0;  // timers started by those that fire below need no arming of their own
  while (done_ms_ < now_ms) {
    // Jump over ticks in which nothing is filed.
    const std::uint64_t next = next_event_ms();
    if (next > now_ms) {
      done_ms_ = now_ms;
      break;
    }
    done_ms_ = next - 1;
    const std::uint64_t tick = next;
    IntrusiveList<Timer> due;
    due.take_all(wheel_[0][tick % kSlots]);
    for (unsigned level = 1; level < kLevels; ++level) {
      if (tick % (std::uint64_t{1} << (kBits * level)) != 0) break;
      due.take_all(wheel_[level][(tick >> (kBits * level)) % kSlots]);
    }
    done_ms_ = tick;
    while (Timer* timer = due.pop_front()) {
      if (!timer->running_) continue;
      if (timer->due_ms_ > tick) {
        file(*timer);
        continue;
      }
      timer->running_ = false;
      timer->fire_();
    }
  }
  arm();
}

}  // namespace proxy::net
