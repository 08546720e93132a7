// The program's own log on stderr: what an operator reads. Not the access log.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace spdlog {
class logger;
}

namespace telemetry {

enum class LogLevel : std::uint8_t { debug, info, warning, error, off };
enum class LogFormat : std::uint8_t { text, json };

// Thread-safe; lines are never mixed. A line has a UTC time with milliseconds, a level, a message;
// control characters and bytes that are not UTF-8 are escaped in both formats.
class Log {
 public:
  struct Options {
    LogLevel level = LogLevel::info;
    LogFormat format = LogFormat::text;
    int fd = 2;  // borrowed
  };
  explicit Log(Options options);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void set_level(LogLevel level) noexcept;
  bool wants(LogLevel level) const noexcept;
  void write(LogLevel level, std::string_view message);

  template <class... Args>
  void debug(fmt::format_string<Args...> format, Args&&... args) {
    if (wants(LogLevel::debug)) say(LogLevel::debug, format, fmt::make_format_args(args...));
  }
  template <class... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    if (wants(LogLevel::info)) say(LogLevel::info, format, fmt::make_format_args(args...));
  }
  template <class... Args>
  void warning(fmt::format_string<Args...> format, Args&&... args) {
    if (wants(LogLevel::warning)) say(LogLevel::warning, format, fmt::make_format_args(args...));
  }
  template <class... Args>
  void error(fmt::format_string<Args...> format, Args&&... args) {
    if (wants(LogLevel::error)) say(LogLevel::error, format, fmt::make_format_args(args...));
  }

 private:
  void say(LogLevel level, fmt::string_view format, fmt::format_args args);

  std::shared_ptr<spdlog::logger> logger_;
};

// At most `burst` lines of each kind in an interval; the first line after a silence says how many
// were suppressed. One thread; `kind` is a small enumeration of the caller's.
class RateLimitedLog {
 public:
  static constexpr std::size_t kMaxKinds = 40;

  RateLimitedLog(Log& log, std::uint32_t burst, std::uint64_t interval_us)
      : log_(log), burst_(burst), interval_us_(interval_us) {}

  // Whether a line of this kind may be written now; the number of those suppressed before it.
  // `kind` < kMaxKinds; `now_us` never goes back.
  std::optional<std::uint64_t> allow(std::size_t kind, std::uint64_t now_us) noexcept;

  template <class Kind, class... Args>
  void warning(Kind kind, std::uint64_t now_us, fmt::format_string<Args...> format,
               Args&&... args) {
    const auto suppressed = allow(static_cast<std::size_t>(kind), now_us);
    if (!suppressed) return;
    std::string message = fmt::vformat(format, fmt::make_format_args(args...));
    if (*suppressed > 0) message += fmt::format(" ({} like this not shown)", *suppressed);
    log_.write(LogLevel::warning, message);
  }

 private:
  struct Kind {
    std::uint64_t since_us = 0;
    std::uint32_t written = 0;
    std::uint64_t suppressed = 0;
  };
  Log& log_;
  const std::uint32_t burst_;
  const std::uint64_t interval_us_;
  std::array<Kind, kMaxKinds> kinds_{};
};

}  // namespace telemetry
