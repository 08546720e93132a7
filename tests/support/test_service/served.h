// Served: one client of the test service, as its event loop sees it.
// Not a protocol: Connection speaks HTTP/1, GrpcConnection HTTP/2 and gRPC.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/test_service/recorder.h"

namespace test_service {

struct Settings {
  std::string name;  // shown by /version and /headers, to tell services apart
  Recorder* recorder = nullptr;
};

class Served {
 public:
  // Owns `fd`.
  explicit Served(int fd);
  virtual ~Served();
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;

  // False: the connection is over and to be deleted. `now_ms` is the monotonic clock.
  virtual bool on_events(std::uint32_t events, std::uint64_t now_ms) = 0;
  virtual bool on_timer(std::uint64_t now_ms) = 0;
  virtual std::uint32_t wanted_events() const = 0;

  int fd() const { return fd_; }
  std::uint64_t deadline_ms() const { return deadline_ms_; }  // 0: none

  // EventLoop's notes: what the kernel and the timers know of this connection.
  std::uint32_t armed_events = 0;
  std::uint64_t armed_deadline_ms = 0;

 protected:
  const int fd_;
  std::uint64_t deadline_ms_ = 0;
};

}  // namespace test_service
