// The loop's turn and its one wake-up handle.
// Not where sockets are: see tcp_transport.cc and listener.cc.
#include "proxy/net/loop.h"

#include <uv.h>

#include <ctime>
#include <exception>

namespace proxy::net {

void Loop::UvLoopDelete::operator()(uv_loop_s* loop) const noexcept {
  [[maybe_unused]] const int busy = uv_loop_close(loop);
  ASSERT(busy == 0);
  delete loop;
}

Loop::Loop()
    : uv_([] {
        auto loop = std::make_unique<uv_loop_t>();
        if (uv_loop_init(loop.get()) != 0) std::terminate();
        return loop.release();
      }()),
      timers_(*this) {
  wake_ = new uv_async_t;
  wake_->data = this;
  if (uv_async_init(uv_.get(), wake_, [](uv_async_t* wake) noexcept {
        auto& loop = *static_cast<Loop*>(wake->data);
        Turn turn(loop);
        loop.run_posted();
      }) != 0) {
    std::terminate();
  }
  uv_unref(reinterpret_cast<uv_handle_t*>(wake_));
  before_poll_ = new uv_prepare_t;
  before_poll_->data = this;
  uv_prepare_init(uv_.get(), before_poll_);
  uv_prepare_start(before_poll_, [](uv_prepare_t* before_poll) noexcept {
    static_cast<Loop*>(before_poll->data)->begin_batch();
  });
  uv_unref(reinterpret_cast<uv_handle_t*>(before_poll_));
}

Loop::~Loop() {
  {
    Turn turn(*this);  // the last reaping
    const std::scoped_lock lock(posted_mutex_);
    posted_.clear();
  }
  timers_.close();
  uv_close(reinterpret_cast<uv_handle_t*>(wake_),
           [](uv_handle_t* wake) noexcept { delete reinterpret_cast<uv_async_t*>(wake); });
  uv_close(reinterpret_cast<uv_handle_t*>(before_poll_), [](uv_handle_t* before_poll) noexcept {
    delete reinterpret_cast<uv_prepare_t*>(before_poll);
  });
  // One that is not closing would be waited for without end below.
  uv_walk(
      uv_.get(), [](uv_handle_t* handle, void*) noexcept { ASSERT(uv_is_closing(handle) != 0); },
      nullptr);
  // Again if it comes back early because of a stop() that no run() has seen.
  while (uv_run(uv_.get(), UV_RUN_DEFAULT) != 0) {
  }
  read_chunk_.reset();
  ASSERT(tasks_.empty() && dirty_.empty() && dead_.empty());
}

void Loop::run() {
  // The wake-up handle keeps a running loop alive: a worker waits for posts even when idle.
  uv_ref(reinterpret_cast<uv_handle_t*>(wake_));
  {
    Turn turn(*this);  // what was queued before the loop ran would wait for the first event
  }
  uv_run(uv_.get(), UV_RUN_DEFAULT);
  uv_unref(reinterpret_cast<uv_handle_t*>(wake_));
}

void Loop::stop() noexcept {
  uv_stop(uv_.get());
}

void Loop::run_once(bool wait) {
  {
    Turn turn(*this);
    timers_.advance(now_ms());
  }
  uv_run(uv_.get(), wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
}

void Loop::post(std::function<void()> task) {
  {
    const std::scoped_lock lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  uv_async_send(wake_);
}

void Loop::run_posted() {
  std::vector<std::function<void()>> tasks;
  {
    const std::scoped_lock lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (const auto& task : tasks) task();
}

ChunkRef& Loop::read_chunk(std::size_t room, std::size_t at_least) {
  if (read_chunk_ && read_chunk_->references() == 1 && read_chunk_->capacity() >= room) {
    read_chunk_->forget_used();
    return read_chunk_;
  }
  if (!read_chunk_ || read_chunk_->references() == 1 || read_chunk_->room().size() < at_least) {
    read_chunk_.reset();
    read_chunk_ = chunks_.get(room);
  }
  return read_chunk_;
}

std::uint64_t Loop::precise_now_us() const noexcept {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec) / 1'000 + clock_offset_us_;
}

std::uint64_t Loop::now_us() noexcept {
  if (depth_ == 0) return precise_now_us();
  if (turn_now_us_ == 0) turn_now_us_ = precise_now_us();
  return turn_now_us_;
}

void Loop::end_turn() {
  // Tasks run one by one from the list itself, so that one which is destroyed by another leaves
  // the queue in time.
  while (true) {
    if (Flushable* dirty = dirty_.pop_front()) {
      dirty->flush();
    } else if (TurnTask* task = tasks_.pop_front()) {
      task->run_at_turn_end();
    } else if (Reapable* dead = dead_.pop_front()) {
      dead->dispose();
    } else {
      return;
    }
  }
}

}  // namespace proxy::net
