// One TLS connection without I/O: ciphertext in, plaintext out, and back.
// Not a socket and not a timer; the caller moves the bytes and keeps the handshake deadline.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tls/client_sessions.h"
#include "tls/context.h"
#include "tls/facts.h"
#include "tls/identity.h"
#include "tls/verify.h"

namespace tls {

/// Where a Session writes ciphertext: straight into the caller's outgoing chunk.
/// Called only inside a call of the Session that was given this sink; must not call back into it.
class CipherSink {
 public:
  virtual ~CipherSink() = default;
  /// Writable bytes; `wanted` is how many the Session has to write now. Fewer are fine: the
  /// Session fills what it gets, commits and asks again. Empty means no memory: the session fails.
  virtual std::span<std::byte> room(std::size_t wanted) = 0;
  /// The first `n` bytes of the last room() are filled.
  virtual void commit(std::size_t n) = 0;
};

/// Whom a client Session talks to.
struct ClientTarget {
  std::string sni;  // empty: no SNI extension; at most 255 bytes
  /// SPIFFE URIs, compared exactly; the server's must be one of them. Empty: any identity of the
  /// Context's trust domain.
  std::vector<std::string> expected_sans;
  std::vector<std::string> alpn;  // the offer, in order (alpn.h has Istio's); empty: none
  /// Resumption: null, or the worker's store, which must outlive the Session. `session_key` names
  /// the endpoint ("10.0.0.7:8443"); the Context's fingerprint is added to it.
  ClientSessions* sessions = nullptr;
  std::string session_key;
};

/// Single-threaded, neither copied nor moved (OpenSSL holds pointers to it). After `failed` or
/// a fatal write only facts(), peer() and destruction make sense. Functions never throw and may be
/// called in any order; a call that makes no sense fails the session. Nothing is allocated per
/// record once the handshake is done and release_idle_buffers() has not just been called.
class Session {
 public:
  explicit Session(std::shared_ptr<const Context> context);              // a server Context
  Session(std::shared_ptr<const Context> context, ClientTarget target);  // a client Context
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  enum class Status : std::uint8_t {
    more,        // `plain` is full and more may be waiting: call again (input may be left, too)
    want_input,  // everything given was taken; nothing is pending
    closed,      // the peer's close_notify was read; writing is still allowed
    failed,      // facts() say why; an alert for the peer may have been written to `out`: flush it
  };
  struct ReadResult {
    std::size_t plain;  // bytes written into `plain`; may be > 0 with every status
    Status status;
  };

  /// Client: writes the ClientHello. Server: nothing. Once, before read().
  void start(CipherSink& out);

  /// Takes ciphertext from the front of `cipher` (which is advanced past it), does the handshake
  /// first, then decrypts into `plain`. `plain` may be empty: with a done handshake the result
  /// is then `more` or `want_input`. Replies (handshake flights, tickets, key updates, alerts)
  /// go to `out`. Look at handshake_done() after each call until it is true: bytes of plain can
  /// come in the same call. A TLS 1.3 client is done before the server has judged its certificate,
  /// so a refusal arrives as `failed` from a later read() (facts().told_by_peer).
  ReadResult read(std::span<const std::byte>& cipher, std::span<std::byte> plain, CipherSink& out);

  /// Encrypts all of `plain`, after the handshake. Slices share records: up to 16 KiB of them make
  /// one. False: the session has failed.
  bool write(std::span<const std::span<const std::byte>> plain, CipherSink& out);

  /// Writes close_notify once, when the handshake is done; reading goes on until `closed`, and a
  /// write after it fails the session.
  void shutdown(CipherSink& out);

  bool handshake_done() const noexcept { return done_; }
  const HandshakeFacts& facts() const noexcept { return facts_; }
  /// The verified identity; null before the handshake is done, after a failed one, and when the
  /// peer sent no certificate (a server that does not require one).
  const PeerIdentity* peer() const noexcept { return done_ && peer_ ? &*peer_ : nullptr; }
  const Context& context() const noexcept { return *context_; }

  /// After a reload: would `present` still accept this session's peer now? Checks its trust
  /// anchors, trust domain and requirement of a certificate, the expected SANs of this session's
  /// target, and validity at present.now(). One signature check or more: for reloads, not requests.
  std::expected<void, Failure> judge(const Context& present) const;

  /// A failure that only the caller can see: `timeout`, or `closed` for an end of the transport.
  /// Sets facts() unless a cause is known already.
  void note_failure(Failure failure);

  /// Gives OpenSSL's record buffers (about 33 KiB) back when idle; they return with the next use.
  void release_idle_buffers();

 private:
  friend struct SessionCallbacks;

  void init(Role wanted);
  void offer_session();
  bool advance_handshake();  // true when it is done
  ReadResult read_fed(std::span<std::byte> plain);
  bool finish_handshake();
  bool confirm_peer();
  void learn_facts();
  PeerRules rules(const Context& by) const;
  Verdict adopt_peer(X509* leaf, STACK_OF(X509) * untrusted);
  void fail_from_queue();
  void learn_sni();
  void refuse(Failure failure, std::string detail, bool told_by_peer = false);
  bool write_record(std::span<const std::byte> bytes);
  bool write_slices(std::span<const std::span<const std::byte>> plain);
  void store_session(SSL_SESSION* session);

  std::shared_ptr<const Context> context_;
  ClientTarget target_;
  std::string store_key_;
  SslPtr ssl_;
  HandshakeFacts facts_;
  std::optional<PeerIdentity> peer_;
  X509Ptr leaf_;                      // verified in this handshake, or found in the resumed session
  X509Chain intermediates_;           // what came with it, for judge()
  std::span<const std::byte> input_;  // what the BIO reads, during a call
  CipherSink* out_ = nullptr;         // where the BIO writes, during a call
  bool started_ = false;
  bool fed_ = false;
  bool done_ = false;
  bool failed_ = false;
  bool closed_ = false;
  bool close_sent_ = false;
};

}  // namespace tls
