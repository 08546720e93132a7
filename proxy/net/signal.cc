// Signals through libuv's self-pipe.
// Not what a signal means: that is the server's business.
#include "proxy/net/signal.h"

#include <uv.h>

#include <exception>
#include <utility>

#include "proxy/net/handle.h"

namespace proxy::net {

struct Signal::Node {
  uv_signal_t handle{};
  Signal* owner = nullptr;
  Loop* loop = nullptr;
};

Signal::Signal(Loop& loop, int number, std::function<void()> arrived)
    : arrived_(std::move(arrived)), node_(new Node) {
  if (uv_signal_init(loop.uv(), &node_->handle) != 0) std::terminate();
  node_->owner = this;
  node_->loop = &loop;
  node_->handle.data = node_;
  const int error = uv_signal_start(
      &node_->handle,
      [](uv_signal_t* handle, int) noexcept {
        auto& node = *static_cast<Node*>(handle->data);
        if (node.owner == nullptr) return;
        Loop::Turn turn(*node.loop);
        node.owner->arrived_();
      },
      number);
  if (error != 0) std::terminate();  // no such signal: a mistake in our code
}

Signal::~Signal() {
  UvHandle<Node> closing(node_);
}

}  // namespace proxy::net
