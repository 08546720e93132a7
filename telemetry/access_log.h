// One line a request: workers put raw fields into rings, one thread formats and writes them.
// Not the program's log (log.h).
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "telemetry/facts.h"
#include "telemetry/shard.h"

namespace telemetry {

enum class AccessMode : std::uint8_t { off, errors, all };
enum class LineFormat : std::uint8_t { json, text };

// Bounded single-producer single-consumer ring of records; no allocation after construction.
class AccessRing {
 public:
  static constexpr std::size_t kDefaultBytes = 1024 * 1024;  // about 3,000 usual lines
  static constexpr std::size_t kMaxFieldBytes = 4096;        // of one text field; the rest is cut

  explicit AccessRing(std::size_t capacity_bytes);

  // Producer. False: no room, nothing was stored.
  bool push(const RequestFacts& facts) noexcept;
  // Consumer. Takes the next record before position `end`, which pushed() gave; false: there is
  // none. Views in `facts` point into `storage`, valid until its next use.
  bool pop(std::uint64_t end, RequestFacts& facts, std::string& storage);
  std::uint64_t pushed() const noexcept { return written_.load(std::memory_order_acquire); }
  // Either: whether at least half of the bytes are in use.
  bool half_full() const noexcept;

 private:
  void copy_in(std::uint64_t at, const void* from, std::size_t size) noexcept;
  void copy_out(std::uint64_t at, void* to, std::size_t size) const noexcept;

  const std::size_t capacity_;
  std::unique_ptr<char[]> bytes_;
  alignas(64) std::atomic<std::uint64_t> written_ = 0;
  alignas(64) std::atomic<std::uint64_t> read_ = 0;
};

// Appends one line with its newline.
void format_line(const RequestFacts& facts, LineFormat format, std::string& out);

// Owns the rings and the writer thread.
class AccessLog {
 public:
  struct Options {
    AccessMode mode = AccessMode::off;
    LineFormat format = LineFormat::json;
    int fd = 1;  // borrowed
    std::size_t ring_bytes = AccessRing::kDefaultBytes;
  };

  // What a worker holds: its thread alone calls push().
  class Producer {
   public:
    // Stores the line if the mode wants it; counts it, or counts it as dropped, in the shard.
    void push(const RequestFacts& facts) noexcept;

   private:
    friend class AccessLog;
    Producer(AccessLog& log, Shard& shard);
    AccessLog& log_;
    Shard& shard_;
    AccessRing ring_;
  };

  explicit AccessLog(Options options);
  // Writes what is left, for at most a second if the reader of the descriptor is stuck.
  ~AccessLog();

  // Before the worker starts. The producer lives as long as the log; its shard must live as long
  // as push() is called.
  Producer& add_producer(Shard& shard);
  // May be called at any time, from any thread (a reload).
  void set_mode(AccessMode mode) noexcept { mode_.store(mode, std::memory_order_relaxed); }
  void set_format(LineFormat format) noexcept { format_.store(format, std::memory_order_relaxed); }
  // Waits until everything that was pushed before the call has been handed to the descriptor.
  void flush();

 private:
  void run();
  bool drain(std::string& text, std::string& storage);
  void write_out(std::string& lines);

  std::atomic<AccessMode> mode_;
  std::atomic<LineFormat> format_;
  const int fd_;
  const std::size_t ring_bytes_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable flushed_;
  std::vector<std::unique_ptr<Producer>> producers_;
  std::atomic<bool> urgent_ = false;  // a ring is half full
  std::atomic<bool> stopping_ = false;
  bool given_up_ = false;  // the writer's: the reader was stuck when we wanted to end
  std::uint64_t flush_asked_ = 0;
  std::uint64_t flush_done_ = 0;
  std::thread thread_;
};

}  // namespace telemetry
