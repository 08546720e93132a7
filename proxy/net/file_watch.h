// FileWatch: tells when any of some files has changed, however it was changed.
// Not inotify, which says nothing on some network and overlay file systems and must be set up anew
// for each directory of a chain of symlinks; it asks the file system once a second instead.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "proxy/net/loop.h"
#include "proxy/net/timer.h"

namespace proxy::net {

// For a handful of files on the main thread's loop: stat() is called there. Symlinks are followed,
// so a swap anywhere on the way (Kubernetes turns ..data to a new directory) is a change.
class FileWatch {
 public:
  // `changed` runs in a turn of the loop once the files differ from what was last reported (at
  // first: what they were at construction) and have kept still for one interval, so that files
  // written one after the other give one call. A file that disappears or appears has changed.
  // It may not destroy this watch, only reap its owner.
  FileWatch(Loop& loop, std::vector<std::string> paths, std::function<void()> changed);
  FileWatch(const FileWatch&) = delete;
  FileWatch& operator=(const FileWatch&) = delete;

  // Watches these instead, from how they are now.
  void watch(std::vector<std::string> paths);

  static constexpr std::chrono::milliseconds kInterval{1000};

 private:
  // What stat() says of the file a path leads to; all 0 when there is none.
  struct Stamp {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::int64_t size = 0;
    std::int64_t modified_ns = 0;
    std::int64_t changed_ns = 0;
    bool operator==(const Stamp&) const = default;
  };
  static Stamp stamp_of(const std::string& path);
  std::vector<Stamp> look() const;
  void compare();

  std::vector<std::string> paths_;
  std::function<void()> changed_;
  std::vector<Stamp> reported_;
  std::vector<Stamp> seen_;  // at the last look
  Timer timer_;
};

}  // namespace proxy::net
