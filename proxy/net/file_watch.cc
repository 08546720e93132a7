// Compares what stat() says, once an interval.
// Not a reader of the files.
#include "proxy/net/file_watch.h"

#include <sys/stat.h>

#include <utility>

namespace proxy::net {
namespace {
std::int64_t nanoseconds(const timespec& time) noexcept {
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}
}  // namespace

FileWatch::FileWatch(Loop& loop, std::vector<std::string> paths, std::function<void()> changed)
    : changed_(std::move(changed)), timer_(loop, [this] { compare(); }) {
  watch(std::move(paths));
}

void FileWatch::watch(std::vector<std::string> paths) {
  paths_ = std::move(paths);
  reported_ = look();
  seen_ = reported_;
  timer_.start(kInterval);
}

FileWatch::Stamp FileWatch::stamp_of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, status.st_size, nanoseconds(status.st_mtim),
          nanoseconds(status.st_ctim)};
}

std::vector<FileWatch::Stamp> FileWatch::look() const {
  std::vector<Stamp> stamps;
  stamps.reserve(paths_.size());
  for (const std::string& path : paths_) stamps.push_back(stamp_of(path));
  return stamps;
}

void FileWatch::compare() {
  timer_.start(kInterval);
  std::vector<Stamp> now = look();
  const bool still = now == seen_;
  seen_ = std::move(now);
  if (!still || seen_ == reported_) return;
  reported_ = seen_;
  changed_();
}

}  // namespace proxy::net
