// TlsTransport: a Transport that speaks TLS over another Transport.
// Not where trust is decided (tls/) nor where a handshake's time is limited (its owner).
#pragma once

#include <memory>
#include <vector>

#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"
#include "tls/session.h"

namespace proxy::net {

class TlsTransport final : public Transport,
                           public Reapable,
                           private TransportUser,
                           private TurnTask,
                           private Flushable {
 public:
  // `lower` may have been open before, with bytes put back to it.
  TlsTransport(std::unique_ptr<Transport> lower, std::unique_ptr<tls::Session> session);
  ~TlsTransport() override;

  void start(TransportUser& user) override;
  void put_back(Chain bytes) override;
  void write(Chain bytes) override;
  void shutdown_write() override;
  void set_reading(bool on) override;
  void abort_on_close() noexcept override { lower_->abort_on_close(); }
  std::size_t unsent() const noexcept override;
  const tls::PeerIdentity* peer() const noexcept override { return session_->peer(); }
  const tls::HandshakeFacts* handshake() const noexcept override { return &session_->facts(); }
  tls::Session* session() noexcept override { return session_.get(); }
  std::string local_address() const override { return lower_->local_address(); }
  std::string remote_address() const override { return lower_->remote_address(); }
  Loop& loop() noexcept override { return loop_; }

 private:
  class Sink;
  struct Batch {
    std::uint64_t cipher_end;  // total of ciphertext bytes when this batch is sent
    std::size_t plain;
  };

  void on_open(const tls::HandshakeFacts* facts) override;
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void run_at_turn_end() override;
  void flush() override;

  bool may_pump() const noexcept;
  void pump();
  bool refused() const noexcept;
  tls::Session::Status decrypt(Chain& plain);
  void announce();
  void fail(Error why);
  void end_linger();
  void after_session_call();
  void update_lower_reading();

  Loop& loop_;
  std::unique_ptr<Transport> lower_;
  std::unique_ptr<tls::Session> session_;
  TransportUser* user_ = nullptr;
  Chain cipher_in_;   // read, not yet taken by the session
  Chain unread_;      // plaintext put back, for the next user
  Chain plain_out_;   // given to write(), not yet encrypted
  Chain cipher_out_;  // encrypted, on its way to lower_ in this turn
  std::vector<Batch> batches_;
  std::uint64_t cipher_written_ = 0;
  std::uint64_t cipher_sent_ = 0;
  std::size_t plain_unsent_ = 0;
  std::size_t reply_bytes_ = 0;  // that the session wrote by itself since all had been sent
  Error failure_{};
  Timer quiet_;  // gives OpenSSL's buffers back; lingers after a failed handshake
  bool announced_ = false;
  bool data_came_ = false;  // the peer has sent data, so it accepted us
  bool want_reading_ = true;
  bool more_pending_ = false;  // the session holds decrypted bytes
  bool eof_ = false;           // close_notify came
  bool eof_told_ = false;
  bool shutdown_wanted_ = false;
  bool failed_ = false;
  bool lingering_ = false;  // until a refused peer has had time to read why
  bool closed_told_ = false;
};

}  // namespace proxy::net
