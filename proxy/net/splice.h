// Splice: two connected sockets joined inside the kernel: bytes go through pipes and never enter
// user space (splice(2)). Not for TLS, and not for connections that are short: it costs four
// descriptors more.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "proxy/base/error.h"
#include "proxy/net/loop.h"

namespace proxy::net {

class TcpTransport;

class SpliceUser {
 public:
  virtual ~SpliceUser() = default;
  // Bytes were written to the second socket (`forth`), and to the first (`back`).
  virtual void on_spliced(std::size_t forth, std::size_t back) = 0;
  // Last: both ways have ended, each with a half-close, or a socket failed (`why` is not none).
  virtual void on_splice_ended(Error why) = 0;
};

class Splice final : public Reapable {
 public:
  // Takes over the connections of two transports which must be is_quiet() and be reaped by their
  // owner without another word. Null when descriptors are short: then nothing has changed.
  static std::unique_ptr<Splice> make(Loop& loop, const TcpTransport& first,
                                      const TcpTransport& second, SpliceUser& user);
  ~Splice() override;
  // What each holds beyond a descriptor for each of its sockets, and all of this thread's together.
  static constexpr std::size_t kPipeEnds = 4;
  static std::size_t open_pipe_ends() noexcept;
  void start();
  // Both peers are told by RST when this is destroyed.
  void abort_on_close() noexcept;

 private:
  struct Node;
  struct Way {
    Node* from = nullptr;
    Node* to = nullptr;
    std::array<int, 2> pipe{-1, -1};  // read end, write end
    std::size_t held = 0;             // bytes in the pipe
    bool eof = false;
    bool blocked = false;  // `to` takes no more for now
    bool ended = false;    // and `to` was told
  };

  explicit Splice(SpliceUser& user) : user_(user) {}
  void ready();
  bool move(Way& way, std::size_t& moved);
  void end_way(Way& way);
  void watch();
  void watch(Node& node, const Way& out, const Way& in);
  void end(Error why);

  SpliceUser& user_;
  std::array<Node*, 2> nodes_{};
  Way forth_;
  Way back_;
  bool finished_ = false;
};

}  // namespace proxy::net
