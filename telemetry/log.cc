// Implementation of log.h on spdlog: levels and the lock are spdlog's, the line is ours.
#include "telemetry/log.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <ctime>
#include <iterator>
#include <mutex>

#include <spdlog/logger.h>
#include <spdlog/sinks/base_sink.h>

#include "telemetry/utf8.h"

namespace telemetry {
namespace {

spdlog::level::level_enum to_spdlog(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  FdSink(int fd, LogFormat format) : fd_(fd), format_(format) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const auto since =
        std::chrono::duration_cast<std::chrono::milliseconds>(message.time.time_since_epoch());
    const std::time_t seconds = since.count() / 1000;
    std::tm utc{};
    gmtime_r(&seconds, &utc);
    const std::string time = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
                                         utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                                         utc.tm_hour, utc.tm_min, utc.tm_sec, since.count() % 1000);
    const std::string_view level = level_text(message.level);
    const std::string_view payload(message.payload.data(), message.payload.size());
    line_.clear();
    if (format_ == LogFormat::json) {
      fmt::format_to(std::back_inserter(line_),
                     "{{\"time\":\"{}\",\"level\":\"{}\",\"message\":", time, level);
      append_json(line_, payload);
      line_ += "}\n";
    } else {
      fmt::format_to(std::back_inserter(line_), "{} {:<7} ", time, level);
      append_printable(line_, payload);
      line_ += '\n';
    }
    write_line();
  }
  void flush_() override {}

 private:
  static std::string_view level_text(spdlog::level::level_enum level) noexcept {
    switch (level) {
      case spdlog::level::debug:
        return "debug";
      case spdlog::level::info:
        return "info";
      case spdlog::level::warn:
        return "warning";
      default:
        return "error";
    }
  }

  void write_line() {
    std::string_view rest = line_;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return;  // nobody can be told: this is where we would say it
      rest.remove_prefix(static_cast<std::size_t>(written));
    }
  }

  const int fd_;
  const LogFormat format_;
  std::string line_;
};

}  // namespace

Log::Log(Options options)
    : logger_(std::make_shared<spdlog::logger>(
          "hoplite", std::make_shared<FdSink>(options.fd, options.format))) {
  set_level(options.level);
}
Log::~Log() = default;

void Log::set_level(LogLevel level) noexcept {
  logger_->set_level(to_spdlog(level));
}

bool Log::wants(LogLevel level) const noexcept {
  return logger_->should_log(to_spdlog(level));
}

void Log::write(LogLevel level, std::string_view message) {
  logger_->log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
}

void Log::say(LogLevel level, fmt::string_view format, fmt::format_args args) {
  write(level, fmt::vformat(format, args));
}

std::optional<std::uint64_t> RateLimitedLog::allow(std::size_t kind,
                                                   std::uint64_t now_us) noexcept {
  Kind& state = kinds_[kind];
  if (state.written == 0 || now_us - state.since_us >= interval_us_) {
    state.since_us = now_us;
    state.written = 0;
  }
  if (state.written == burst_) {
    ++state.suppressed;
    return std::nullopt;
  }
  ++state.written;
  return std::exchange(state.suppressed, 0);
}

}  // namespace telemetry
