// What the kernel says of this process, for the process_* metrics.
#pragma once

#include <cstdint>
#include <optional>

namespace telemetry {

struct ProcessStats {
  double cpu_seconds = 0;
  double start_unix_seconds = 0;
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;
};

// Reads /proc and the limits; nothing where /proc is not mounted. Blocks for some microseconds, and
// for one more each few open descriptors.
std::optional<ProcessStats> read_process_stats();

}  // namespace telemetry
