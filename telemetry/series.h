// One worker's cells of one label set, and the cells of its request ledger.
// Not the key table (shard.h) nor the sums over workers (collector.h).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "telemetry/registry.h"

namespace telemetry {

// Written by one thread, read by any.
class Cell {
 public:
  void add(std::uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(std::uint64_t value) noexcept { value_.store(value, std::memory_order_relaxed); }
  std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

// Cells of one label set, by index: the count, then three times 20 buckets (not cumulative), then
// three sums (microseconds, bytes, bytes).
inline constexpr std::size_t kBuckets = 20;
inline constexpr std::size_t kRequestsCell = 0;
inline constexpr std::size_t kDurationCell = 1;
inline constexpr std::size_t kRequestBytesCell = kDurationCell + kBuckets;
inline constexpr std::size_t kResponseBytesCell = kRequestBytesCell + kBuckets;
inline constexpr std::size_t kSumCell = kResponseBytesCell + kBuckets;
inline constexpr std::size_t kSeriesCells = kSumCell + 3;
// A label set of gRPC messages has three: reports, request messages, response messages.
inline constexpr std::size_t kReportsCell = kRequestsCell;
inline constexpr std::size_t kRequestMessagesCell = 1;
inline constexpr std::size_t kResponseMessagesCell = 2;
// A label set of TCP connections has five: reports, then its four counters.
inline constexpr std::size_t kTcpCell = 1;  // opened, closed, sent, received

// What one side of the two banks holds; see shard.h for the two banks.
struct alignas(64) SeriesBank {
  std::array<Cell, kSeriesCells> cells;
};
struct alignas(64) LedgerBank {
  Cell started;
  Cell completed;
  Cell in_flight;  // a level, meaningful when `touched`
  Cell touched;
};

class Series {
 public:
  enum class State : std::uint8_t { live, retiring, unused };

  SeriesKey key;                             // worker's; stable while not unused
  std::atomic<std::uint32_t> slot = 0;       // written by the worker while unused
  std::atomic<State> state = State::unused;  // retiring, unused: by the collector; live: by both
  std::array<SeriesBank, 2> banks;
};

// Index of the bucket that takes `value`: the first whose bound is not below it (`le`).
std::size_t duration_bucket(std::uint64_t microseconds) noexcept;
std::size_t size_bucket(std::uint64_t bytes) noexcept;

}  // namespace telemetry
