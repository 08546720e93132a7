// Implementation of access_log.h: rings and the writer thread. The line is access_line.cc's.
#include "telemetry/access_log.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <type_traits>

namespace telemetry {
namespace {

using Views = std::array<std::string_view RequestFacts::*, 9>;
constexpr Views kViews{&RequestFacts::method,
                       &RequestFacts::authority,
                       &RequestFacts::path,
                       &RequestFacts::protocol_text,
                       &RequestFacts::upstream_address,
                       &RequestFacts::request_id,
                       &RequestFacts::trace_id,
                       &RequestFacts::peer_principal,
                       &RequestFacts::response_code_details};
static_assert(std::is_trivially_copyable_v<RequestFacts>);

constexpr auto kBusyWait = std::chrono::milliseconds(5);
constexpr auto kIdleWait = std::chrono::milliseconds(100);
constexpr auto kStuckAtExit = std::chrono::seconds(1);
constexpr std::size_t kTextBytes = 64 * 1024;

bool wanted(AccessMode mode, const RequestFacts& facts) noexcept {
  if (mode == AccessMode::all) return true;
  if (mode == AccessMode::off) return false;
  return facts.response_code == 0 || facts.response_code >= 400 || !facts.flags.empty() ||
         (facts.grpc_status != kNoGrpc && facts.grpc_status != 0);
}

}  // namespace

// --- AccessRing ---------------------------------------------------------------------------------

AccessRing::AccessRing(std::size_t capacity_bytes)
    : capacity_(capacity_bytes), bytes_(std::make_unique<char[]>(capacity_bytes)) {}

void AccessRing::copy_in(std::uint64_t at, const void* from, std::size_t size) noexcept {
  const std::size_t offset = at % capacity_;
  const std::size_t first = std::min(size, capacity_ - offset);
  std::memcpy(bytes_.get() + offset, from, first);
  std::memcpy(bytes_.get(), static_cast<const char*>(from) + first, size - first);
}

void AccessRing::copy_out(std::uint64_t at, void* to, std::size_t size) const noexcept {
  const std::size_t offset = at % capacity_;
  const std::size_t first = std::min(size, capacity_ - offset);
  std::memcpy(to, bytes_.get() + offset, first);
  std::memcpy(static_cast<char*>(to) + first, bytes_.get(), size - first);
}

bool AccessRing::push(const RequestFacts& facts) noexcept {
  RequestFacts record = facts;  // its views say how long the texts are that follow it
  std::size_t size = sizeof record;
  for (const auto view : kViews) {
    record.*view = (record.*view).substr(0, kMaxFieldBytes);
    size += (record.*view).size();
  }
  const std::uint64_t written = written_.load(std::memory_order_relaxed);
  if (size > capacity_ - (written - read_.load(std::memory_order_acquire))) return false;
  copy_in(written, &record, sizeof record);
  std::uint64_t at = written + sizeof record;
  for (const auto view : kViews) {
    const std::string_view text = record.*view;
    if (!text.empty()) copy_in(at, text.data(), text.size());
    at += text.size();
  }
  written_.store(at, std::memory_order_release);
  return true;
}

bool AccessRing::pop(std::uint64_t end, RequestFacts& facts, std::string& storage) {
  const std::uint64_t read = read_.load(std::memory_order_relaxed);
  if (read >= end) return false;
  copy_out(read, &facts, sizeof facts);
  std::size_t size = 0;
  for (const auto view : kViews) size += (facts.*view).size();
  storage.resize(size);
  copy_out(read + sizeof facts, storage.data(), size);
  const char* at = storage.data();
  for (const auto view : kViews) {
    facts.*view = {at, (facts.*view).size()};
    at += (facts.*view).size();
  }
  read_.store(read + sizeof facts + size, std::memory_order_release);
  return true;
}

bool AccessRing::half_full() const noexcept {
  return written_.load(std::memory_order_relaxed) - read_.load(std::memory_order_relaxed) >=
         capacity_ / 2;
}

// --- AccessLog ----------------------------------------------------------------------------------

AccessLog::Producer::Producer(AccessLog& log, Shard& shard)
    : log_(log), shard_(shard), ring_(log.ring_bytes_) {}

void AccessLog::Producer::push(const RequestFacts& facts) noexcept {
  if (!wanted(log_.mode_.load(std::memory_order_relaxed), facts)) return;
  if (ring_.push(facts)) {
    shard_.add(Counter::access_log_lines);
  } else {
    shard_.add(Counter::access_log_dropped);
  }
  if (ring_.half_full() && !log_.urgent_.exchange(true, std::memory_order_relaxed)) {
    log_.wake_.notify_one();  // a wake-up that comes too early is made good by the next timeout
  }
}

AccessLog::AccessLog(Options options)
    : mode_(options.mode),
      format_(options.format),
      fd_(options.fd),
      ring_bytes_(options.ring_bytes),
      thread_([this] { run(); }) {}

AccessLog::~AccessLog() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

AccessLog::Producer& AccessLog::add_producer(Shard& shard) {
  const std::scoped_lock lock(mutex_);
  producers_.push_back(std::unique_ptr<Producer>(new Producer(*this, shard)));
  return *producers_.back();
}

void AccessLog::flush() {
  std::unique_lock lock(mutex_);
  const std::uint64_t asked = ++flush_asked_;
  urgent_ = true;
  wake_.notify_one();
  flushed_.wait(lock, [&] { return flush_done_ >= asked; });
}

void AccessLog::run() {
  std::string text;
  std::string storage;
  bool busy = false;
  while (true) {
    std::uint64_t asked = 0;
    bool stop = false;
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, busy ? kBusyWait : kIdleWait, [this] { return stopping_ || urgent_; });
      urgent_ = false;
      stop = stopping_;
      asked = flush_asked_;
    }
    busy = drain(text, storage);
    {
      const std::scoped_lock lock(mutex_);
      flush_done_ = asked;
    }
    flushed_.notify_all();
    if (stop) return;
  }
}

// Writes everything that is in the rings now. False: there was nothing.
bool AccessLog::drain(std::string& text, std::string& storage) {
  std::vector<Producer*> producers;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& producer : producers_) producers.push_back(producer.get());
  }
  bool any = false;
  const LineFormat format = format_.load(std::memory_order_relaxed);
  for (Producer* producer : producers) {
    RequestFacts facts;
    const std::uint64_t end = producer->ring_.pushed();
    while (producer->ring_.pop(end, facts, storage)) {
      any = true;
      format_line(facts, format, text);
      if (text.size() >= kTextBytes) write_out(text);
    }
  }
  write_out(text);
  return any;
}

// Writes all of `lines` and clears it, in pieces that a pipe takes whole, so that a reader that
// stopped reading cannot hold this thread when the process wants to end.
void AccessLog::write_out(std::string& lines) {
  constexpr std::size_t kPipePiece = 4096;  // PIPE_BUF
  std::string_view text = lines;
  struct stat about{};
  const bool regular = fstat(fd_, &about) == 0 && S_ISREG(about.st_mode);
  std::chrono::milliseconds stuck{0};
  while (!text.empty() && !given_up_) {
    if (!regular) {
      constexpr int kPollMs = 50;
      pollfd ready{.fd = fd_, .events = POLLOUT, .revents = 0};
      if (poll(&ready, 1, kPollMs) == 0) {
        stuck += std::chrono::milliseconds(kPollMs);
        given_up_ = stopping_ && stuck >= kStuckAtExit;
        continue;
      }
    }
    const std::size_t piece = regular ? text.size() : std::min(text.size(), kPipePiece);
    const ssize_t written = ::write(fd_, text.data(), piece);
    if (written < 0) {
      if (errno == EINTR || errno == EAGAIN) continue;
      break;  // nobody can be told: the descriptor is where we would say it
    }
    stuck = {};
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  lines.clear();
}

}  // namespace telemetry
