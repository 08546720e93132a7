// UvHandle: RAII over libuv's asynchronous close.
// Not for timers of the data path (timer.h); only what the kernel knows is a uv handle here.
#pragma once

#include <uv.h>

#include <utility>

namespace proxy::net {

// A heap node around a uv handle that outlives its owner until libuv lets go of it.
// `Node` has a member `Uv handle` first and may carry more (a write request and its bytes): all of
// it is freed in the close callback, after libuv has cancelled what was in flight.
template <class Node>
class UvHandle {
 public:
  UvHandle() = default;
  explicit UvHandle(Node* node) noexcept : node_(node) {}
  UvHandle(UvHandle&& other) noexcept : node_(std::exchange(other.node_, nullptr)) {}
  UvHandle& operator=(UvHandle&& other) noexcept {
    std::swap(node_, other.node_);
    return *this;
  }
  ~UvHandle() { close(); }

  Node* get() const noexcept { return node_; }
  Node* operator->() const noexcept { return node_; }
  explicit operator bool() const noexcept { return node_ != nullptr; }

  // Cuts the owner off and closes; no callback reaches the owner any more.
  void close() noexcept {
    Node* node = std::exchange(node_, nullptr);
    if (node == nullptr) return;
    node->owner = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&node->handle), &UvHandle::on_closed);
  }
  // The same, telling the peer by RST instead of FIN. For TCP nodes.
  void close_reset() noexcept {
    Node* node = std::exchange(node_, nullptr);
    if (node == nullptr) return;
    node->owner = nullptr;
    if (uv_tcp_close_reset(&node->handle, &UvHandle::on_closed) != 0) {
      // Refused while a shutdown is under way; an ordinary close ends it too.
      uv_close(reinterpret_cast<uv_handle_t*>(&node->handle), &UvHandle::on_closed);
    }
  }

 private:
  static void on_closed(uv_handle_t* handle) noexcept { delete static_cast<Node*>(handle->data); }

  Node* node_ = nullptr;
};

}  // namespace proxy::net
