// Signal: a Unix signal as an event of a loop.
// Not for SIGPIPE, which main ignores before anything else; nor for faults (SIGSEGV and the like).
#pragma once

#include <functional>

#include "proxy/net/loop.h"

namespace proxy::net {

// Takes one signal for the process while it lives; several for the same signal are all called.
// Afterwards the signal has its default effect again.
class Signal {
 public:
  // `arrived` runs in a turn of the loop, on its thread; several deliveries may come as one call.
  Signal(Loop& loop, int number, std::function<void()> arrived);
  ~Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

 private:
  struct Node;

  std::function<void()> arrived_;
  Node* node_;
};

}  // namespace proxy::net
