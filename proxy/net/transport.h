// Transport: an ordered stream of bytes both ways (plain TCP, or TLS over another transport).
// Not a protocol: what the bytes mean is the user's business.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "tls/session.h"

namespace proxy::net {

class Loop;
class TcpTransport;

// Events; each comes in a turn of the loop and never from inside a call on the transport.
class TransportUser {
 public:
  virtual ~TransportUser() = default;
  // Bytes can flow. `facts` is null on plain transports; valid as long as the transport.
  virtual void on_open(const tls::HandshakeFacts* facts) = 0;
  virtual void on_bytes(Chain bytes) = 0;
  // The peer has ended its half; it may go on reading. No on_bytes follows.
  virtual void on_eof() = 0;
  // This many bytes given to write() have left for the kernel. None follows on_closed.
  virtual void on_sent(std::size_t bytes) = 0;
  // Last, and once. The transport is dead; its owner reaps it. When writing fails, what the peer
  // had sent before is delivered first, as long as reading stays on (an early response, say).
  virtual void on_closed(Error why) = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;  // closing = destroying; what is unsent is lost

  // Begins, or hands over to another user in mid-stream: in both cases `user` is told on_open
  // first, in this turn or a later one, then on_bytes with what was put back. Reading is as it was;
  // on at first.
  virtual void start(TransportUser& user) = 0;
  // Bytes the present user took and does not want: they are delivered again, before all others,
  // to the user that start() names next. For detection.
  virtual void put_back(Chain bytes) = 0;
  // Queues bytes; one gathered write goes out at the turn's end.
  virtual void write(Chain bytes) = 0;
  // Half-close once all that is queued has been sent.
  virtual void shutdown_write() = 0;
  // While off, the kernel (and so the peer) is made to wait. On by default.
  virtual void set_reading(bool on) = 0;
  // Makes the close that follows a reset (RST) where the wire can do that, so that the peer cannot
  // take a cut stream for a complete one.
  virtual void abort_on_close() noexcept = 0;
  // Bytes given to write() that have not left yet.
  virtual std::size_t unsent() const noexcept = 0;
  // The verified peer; null when plain.
  virtual const tls::PeerIdentity* peer() const noexcept = 0;
  virtual const tls::HandshakeFacts* handshake() const noexcept = 0;
  // The session itself, for judging it anew after a reload; null when plain.
  virtual tls::Session* session() noexcept = 0;
  // "127.0.0.1:8080" / "[::1]:8080"; empty when unknown. Makes a text: not for every request. The
  // remote one is known to the end of the transport's life.
  virtual std::string local_address() const = 0;
  virtual std::string remote_address() const = 0;
  virtual Loop& loop() noexcept = 0;
  // Itself when it is a bare socket, whose bytes the kernel may move by itself; else null.
  virtual TcpTransport* plain() noexcept { return nullptr; }
};

}  // namespace proxy::net
