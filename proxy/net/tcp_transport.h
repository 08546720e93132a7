// TcpTransport: a Transport over one TCP socket, accepted or connected.
// Not a policy: timeouts and reuse are its users' business.
#pragma once

#include <memory>

#include "proxy/net/address.h"
#include "proxy/net/loop.h"
#include "proxy/net/transport.h"

namespace proxy::net {

// From where a connection is made.
struct ConnectOptions {
  SocketAddress source{};    // bound to it, the port being the kernel's choice; not set: any
  bool transparent = false;  // the source may be somebody else's address (IP_TRANSPARENT)
  std::uint32_t mark = 0;    // SO_MARK; 0: none
};

class TcpTransport final : public Transport, public Reapable, private TurnTask, private Flushable {
 public:
  // Over a connected, non-blocking descriptor, which it owns from now on. Never null. `peer`: who
  // is at the other end, as the kernel does not tell any more once the connection was reset.
  static std::unique_ptr<TcpTransport> adopt(Loop& loop, int fd, const SocketAddress& peer);
  // Begins to connect; on_open or on_closed(connect_failed) follows. Never null.
  static std::unique_ptr<TcpTransport> connect(Loop& loop, const SocketAddress& to,
                                               const ConnectOptions& options = {});
  ~TcpTransport() override;

  void start(TransportUser& user) override;
  void put_back(Chain bytes) override;
  void write(Chain bytes) override;
  void shutdown_write() override;
  void set_reading(bool on) override;
  void abort_on_close() noexcept override { reset_on_close_ = true; }
  std::size_t unsent() const noexcept override;
  const tls::PeerIdentity* peer() const noexcept override { return nullptr; }
  const tls::HandshakeFacts* handshake() const noexcept override { return nullptr; }
  tls::Session* session() noexcept override { return nullptr; }
  std::string local_address() const override;
  std::string remote_address() const override;
  Loop& loop() noexcept override { return loop_; }
  TcpTransport* plain() noexcept override { return this; }
  // -1 when there is none (any more).
  int descriptor() const noexcept;
  const SocketAddress& peer_address() const noexcept { return peer_; }
  // True when nothing waits in user space on either way, so that somebody else may go on with a
  // duplicate of the descriptor.
  bool is_quiet() const noexcept;

 private:
  struct Node;
  enum class State : std::uint8_t { connecting, open, closed };

  TcpTransport(Loop& loop, Node* node, State state, const SocketAddress& peer);
  void run_at_turn_end() override;
  void flush() override;
  void write_rest();
  void update_reading();
  void fail(Code code, int uv_error);
  void write_failed(int uv_error);
  void on_read(std::ptrdiff_t n);
  void on_written(int status);

  Loop& loop_;
  Node* node_;  // closed and given up by the destructor, see handle.h
  const SocketAddress peer_;
  TransportUser* user_ = nullptr;
  Chain out_;
  Chain unread_;     // put back, for the next user
  Error failure_{};  // told at the turn's end
  State state_;
  int write_error_ = 0;
  bool announced_ = false;  // on_open was told to the present user
  bool want_reading_ = true;
  bool reading_ = false;
  bool eof_ = false;
  bool write_broken_ = false;  // the peer takes no more, but what it had sent can still be read
  bool eof_told_ = false;      // to the present user
  bool shutdown_wanted_ = false;
  bool shutdown_sent_ = false;
  bool reset_on_close_ = false;
};

}  // namespace proxy::net
