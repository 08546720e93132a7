// One TLS configuration, built once from files and never changed: keys, trust anchors, rules.
// Not a connection (session.h). Reloading makes a new Context; live sessions keep theirs.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tls/credentials.h"
#include "tls/facts.h"

namespace tls {

/// What session-ticket keys are derived from, together with everything that decides access: the
/// CA, the certificate, the trust domain and whether client certificates are required. Make one
/// per process and give it to every server Context, then tickets outlive a reload of the same
/// files, are good on every worker, and die when any of those changes.
using TicketSecret = std::array<std::uint8_t, 32>;
TicketSecret make_ticket_secret();

struct ServerSpec {
  CredentialFiles files;
  std::string trust_domain = "cluster.local";
  /// True: a client without a certificate is refused (no_certificate). False: one is asked for,
  /// and verified as strictly when it comes, but the handshake goes on without.
  bool require_client_certificate = true;
  /// In order of preference; at most 255 bytes each, not empty. When the client offers none of
  /// them, or the list is empty, the handshake goes on without ALPN (the HTTP/1.0 offer of Istio
  /// shares no entry with "h2", "http/1.1").
  std::vector<std::string> alpn;
  std::optional<TicketSecret> ticket_secret;  // absent: a fresh one, tickets end with the Context
  Clock clock = &system_now;
};

struct ClientSpec {
  CredentialFiles files;
  std::string trust_domain = "cluster.local";
  Clock clock = &system_now;
};

/// Shared by all threads, immutable, safe to use from several at once. Sessions hold a reference.
class Context {
 public:
  using Made = std::expected<std::shared_ptr<const Context>, std::vector<CredentialProblem>>;

  /// Reads and checks the files; on failure every problem, see describe(). No throw.
  static Made make_server(const ServerSpec& spec);
  static Made make_client(const ClientSpec& spec);

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context();

  Role role() const noexcept { return role_; }
  const std::string& trust_domain() const noexcept { return trust_domain_; }
  bool requires_client_certificate() const noexcept { return require_peer_; }
  /// Own identity: the SPIFFE URI of the leaf.
  const std::string& spiffe_uri() const noexcept { return spiffe_uri_; }
  /// When the own leaf expires.
  std::chrono::sys_seconds not_after() const noexcept { return not_after_; }
  std::chrono::sys_seconds now() const { return clock_(); }

  // For tls/ itself.
  SSL_CTX* native() const noexcept { return ctx_.get(); }
  X509_STORE* anchors() const noexcept { return SSL_CTX_get_cert_store(ctx_.get()); }
  /// 32 raw bytes that change when CA, certificate, trust domain or requirement change.
  const std::string& fingerprint() const noexcept { return fingerprint_; }
  /// The server's list as RFC 7301 writes it; empty for a client.
  const std::string& alpn_wire() const noexcept { return alpn_wire_; }

 private:
  Context(Role role, std::string trust_domain, bool require_peer, Clock clock);
  bool set_up(Credentials credentials);
  bool set_up_server(const TicketSecret& secret);
  void set_up_client();

  Role role_;
  bool require_peer_;
  Clock clock_;
  std::string trust_domain_;
  std::string spiffe_uri_;
  std::string fingerprint_;
  std::chrono::sys_seconds not_after_{};
  std::string alpn_wire_;
  SslCtxPtr ctx_;
};

}  // namespace tls
