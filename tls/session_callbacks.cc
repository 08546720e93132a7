// The functions OpenSSL calls back, for all Sessions: BIO, verification, tickets, ALPN.
// Not the session's own steps (session.cc).
#include "tls/session_callbacks.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "tls/session.h"
#include "tls/verify.h"

namespace tls {
namespace {

// More intermediates than this do not go into a ticket: it has to fit into a ClientHello.
constexpr std::size_t kMaxTicketChain = 4096;

Session& session_of(const SSL* ssl) noexcept {
  return *static_cast<Session*>(SSL_get_app_data(ssl));
}

std::string chain_to_der(const STACK_OF(X509) * chain, X509* leaf) {
  std::string der;
  for (int i = 0; i < sk_X509_num(chain); ++i) {
    X509* certificate = sk_X509_value(chain, i);
    if (X509_cmp(certificate, leaf) == 0) continue;
    unsigned char* bytes = nullptr;
    const int size = i2d_X509(certificate, &bytes);
    if (size > 0) der.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
    OPENSSL_free(bytes);
  }
  return der;
}

X509Chain chain_from_der(const void* der, std::size_t size) {
  X509Chain chain(sk_X509_new_null());
  auto at = static_cast<const unsigned char*>(der);
  const unsigned char* const end = at + size;
  while (at != end) {
    X509* certificate = d2i_X509(nullptr, &at, end - at);
    if (certificate == nullptr) break;
    if (sk_X509_push(chain.get(), certificate) <= 0) X509_free(certificate);
  }
  ERR_clear_error();
  return chain;
}

}  // namespace

const BIO_METHOD* SessionCallbacks::bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "hoplite");
    BIO_meth_set_read(made, &SessionCallbacks::bio_read);
    BIO_meth_set_write(made, &SessionCallbacks::bio_write);
    BIO_meth_set_ctrl(made, &SessionCallbacks::bio_ctrl);
    return made;
  }();
  return method;
}

int SessionCallbacks::bio_read(BIO* bio, char* into, int size) noexcept {
  std::span<const std::byte>& input = static_cast<Session*>(BIO_get_data(bio))->input_;
  BIO_clear_retry_flags(bio);
  if (input.empty() || size <= 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t n = std::min(input.size(), static_cast<std::size_t>(size));
  std::memcpy(into, input.data(), n);
  input = input.subspan(n);
  return static_cast<int>(n);
}

int SessionCallbacks::bio_write(BIO* bio, const char* from, int size) noexcept {
  CipherSink* out = static_cast<Session*>(BIO_get_data(bio))->out_;
  BIO_clear_retry_flags(bio);
  if (out == nullptr || size <= 0) return -1;
  std::size_t left = static_cast<std::size_t>(size);
  while (left != 0) {
    const std::span<std::byte> room = out->room(left);
    if (room.empty()) return -1;
    const std::size_t n = std::min(room.size(), left);
    std::memcpy(room.data(), from, n);
    out->commit(n);
    from += n;
    left -= n;
  }
  return size;
}

long SessionCallbacks::bio_ctrl(BIO*, int command, long, void*) noexcept {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

int SessionCallbacks::verify(X509_STORE_CTX* ctx, void*) noexcept {
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx()));
  Session& session = session_of(ssl);
  Verdict verdict =
      session.adopt_peer(X509_STORE_CTX_get0_cert(ctx), X509_STORE_CTX_get0_untrusted(ctx));
  X509_STORE_CTX_set_error(ctx, verdict.x509_error);
  if (verdict.failure == Failure::none) return 1;
  session.refuse(verdict.failure, std::move(verdict.detail));
  return 0;
}

int SessionCallbacks::new_session(SSL* ssl, SSL_SESSION* made) noexcept {
  Session& session = session_of(ssl);
  if (session.target_.sessions == nullptr || !session.leaf_ || session.failed_ ||
      SSL_SESSION_is_resumable(made) != 1)
    return 0;
  session.store_session(made);
  return 1;  // the reference is ours now
}

// A ticket ends with the first of the two certificates, and carries the client's intermediates,
// which OpenSSL leaves out and without which its chain could not be verified again.
int SessionCallbacks::make_ticket(SSL* ssl, void*) noexcept {
  const Session& session = session_of(ssl);
  const std::chrono::sys_seconds now = session.context_->now();
  SSL_SESSION* ticket = SSL_get_session(ssl);
  X509* leaf = SSL_SESSION_get0_peer(ticket);
  std::chrono::sys_seconds end = session.context_->not_after();
  if (leaf != nullptr) end = std::min(end, not_after(leaf));
  const long most = SSL_CTX_get_timeout(SSL_get_SSL_CTX(ssl));
  const long left = static_cast<long>((end - now).count());
  // OpenSSL cannot encode 0; a ticket of a certificate that has ended is not opened anyway.
  SSL_SESSION_set_timeout(ticket, std::clamp(left, 1L, most));
  if (leaf != nullptr && session.intermediates_) {
    const std::string der = chain_to_der(session.intermediates_.get(), leaf);
    if (der.size() <= kMaxTicketChain)
      return SSL_SESSION_set1_ticket_appdata(ticket, der.data(), der.size());
  }
  return 1;
}

// Resumption never widens access: what a full handshake would refuse now is not resumed, but gets
// the full handshake, which says why.
SSL_TICKET_RETURN SessionCallbacks::open_ticket(SSL* ssl, SSL_SESSION* ticket, const unsigned char*,
                                                std::size_t, SSL_TICKET_STATUS status,
                                                void*) noexcept {
  if (status == SSL_TICKET_FATAL_ERR_MALLOC || status == SSL_TICKET_FATAL_ERR_OTHER)
    return SSL_TICKET_RETURN_ABORT;
  if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  Session& session = session_of(ssl);
  if (session.context_->now() > session.context_->not_after())
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  // TLS 1.3 clients use a ticket only once, so they get a new one each time. OpenSSL's TLS 1.2
  // client drops the old session for a renewed one that it then gives to nobody.
  const SSL_TICKET_RETURN use =
      SSL_version(ssl) == TLS1_3_VERSION ? SSL_TICKET_RETURN_USE_RENEW : SSL_TICKET_RETURN_USE;
  X509* leaf = SSL_SESSION_get0_peer(ticket);
  if (leaf == nullptr)
    return session.context_->requires_client_certificate() ? SSL_TICKET_RETURN_IGNORE_RENEW : use;
  void* der = nullptr;
  std::size_t size = 0;
  SSL_SESSION_get0_ticket_appdata(ticket, &der, &size);
  const X509Chain intermediates = chain_from_der(der, size);
  if (session.adopt_peer(leaf, intermediates.get()).failure != Failure::none)
    return SSL_TICKET_RETURN_IGNORE_RENEW;
  return use;
}

int SessionCallbacks::choose_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                                  const unsigned char* offer, unsigned offer_size, void*) noexcept {
  const std::string& ours = session_of(ssl).context_->alpn_wire();
  if (ours.empty()) return SSL_TLSEXT_ERR_NOACK;
  unsigned char* chosen = nullptr;
  const int result =
      SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
                            static_cast<unsigned>(ours.size()), offer, offer_size);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

}  // namespace tls
