// One TLS connection without I/O: ciphertext in, plaintext out, and back.
// Not a socket and not a timer.
#include "tls/session.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "tls/alpn.h"
#include "tls/explain.h"
#include "tls/session_callbacks.h"

namespace tls {
namespace {

constexpr std::size_t kRecord = 16 * 1024;  // RFC 8446 5.1
constexpr std::byte kAlert{0x15};
constexpr std::byte kHandshake{0x16};
// When a TLS 1.2 server gives no lifetime hint.
constexpr std::chrono::seconds kDefaultLifetime{2 * 60 * 60};

bool is_printable(std::string_view text) noexcept {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

Session::Session(std::shared_ptr<const Context> context) : context_(std::move(context)) {
  init(Role::server);
}

Session::Session(std::shared_ptr<const Context> context, ClientTarget target)
    : context_(std::move(context)), target_(std::move(target)) {
  init(Role::client);
}

// Without a close_notify SSL_free would mark the session as not resumable; connections that just
// end are normal, and truncation is HTTP's to notice.
Session::~Session() {
  if (ssl_ && done_ && !failed_) SSL_set_shutdown(ssl_.get(), SSL_SENT_SHUTDOWN);
}

void Session::init(Role wanted) {
  if (context_->role() != wanted)
    return refuse(Failure::other, "a server session needs a server context, a client a client's");
  ERR_clear_error();
  ssl_.reset(SSL_new(context_->native()));
  BIO* bio = ssl_ ? BIO_new(SessionCallbacks::bio_method()) : nullptr;
  if (bio == nullptr) return refuse(Failure::other, "no memory for a TLS session");
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (wanted == Role::server) return SSL_set_accept_state(ssl_.get());
  SSL_set_connect_state(ssl_.get());
  facts_.sni = target_.sni;
  if (!target_.sni.empty() && SSL_set_tlsext_host_name(ssl_.get(), target_.sni.c_str()) != 1)
    return refuse(Failure::other, "the server name is longer than 255 bytes");
  const std::string offer = alpn::encode(target_.alpn);
  // This one function returns 0 for success.
  if (!offer.empty() &&
      SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(offer.data()),
                          static_cast<unsigned>(offer.size())) != 0)
    return refuse(Failure::other, "the ALPN offer cannot be encoded");
  if (target_.sessions != nullptr)
    store_key_ = context_->fingerprint() + target_.sni + '\n' + target_.session_key;
}

PeerRules Session::rules(const Context& by) const {
  return {by.anchors(), context_->role(), by.trust_domain(), target_.expected_sans, by.now()};
}

// No verify callback comes on resumption, so the stored chain is judged before it is offered. One
// that is no longer acceptable means a full handshake.
void Session::offer_session() {
  if (target_.sessions == nullptr) return;
  const ClientSessions::Entry* entry = target_.sessions->find(store_key_, context_->now());
  if (entry == nullptr) return;
  if (adopt_peer(entry->leaf.get(), entry->intermediates.get()).failure != Failure::none ||
      SSL_set_session(ssl_.get(), entry->session.get()) != 1) {
    target_.sessions->erase(store_key_);
    ERR_clear_error();
  }
}

Verdict Session::adopt_peer(X509* leaf, STACK_OF(X509) * untrusted) {
  Verdict verdict = verify_peer(rules(*context_), leaf, untrusted);
  if (verdict.failure != Failure::none) return verdict;
  leaf_ = share(leaf);
  intermediates_.reset(untrusted != nullptr ? X509_chain_up_ref(untrusted) : sk_X509_new_null());
  peer_ = std::move(verdict.identity);
  return verdict;
}

void Session::start(CipherSink& out) {
  if (started_ || failed_ || context_->role() == Role::server) return;
  out_ = &out;
  advance_handshake();
  out_ = nullptr;
}

bool Session::advance_handshake() {
  ERR_clear_error();
  if (!started_) {
    started_ = true;
    if (context_->role() == Role::client) offer_session();
  }
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) return finish_handshake();
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      ERR_clear_error();
      return false;
    case SSL_ERROR_ZERO_RETURN:
      refuse(Failure::closed, explain_plain(context_->role(), Failure::closed));
      return false;
    default:
      fail_from_queue();
      return false;
  }
}

bool Session::finish_handshake() {
  learn_sni();
  facts_.version = SSL_get_version(ssl_.get());
  facts_.cipher = SSL_get_cipher_name(ssl_.get());
  facts_.resumed = SSL_session_reused(ssl_.get()) == 1;
  const unsigned char* alpn = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &alpn, &size);
  if (size != 0) facts_.alpn.assign(reinterpret_cast<const char*>(alpn), size);
  done_ = confirm_peer();
  ERR_clear_error();
  if (!done_ && target_.sessions != nullptr) target_.sessions->erase(store_key_);
  return done_;
}

// After every handshake, resumed or not: what was judged in this handshake is what OpenSSL now says
// the peer is (a ticket may have been judged and then not been used), and its dates hold now.
bool Session::confirm_peer() {
  const X509Ptr actual(SSL_get1_peer_certificate(ssl_.get()));
  if (!actual) {
    leaf_.reset();
    intermediates_.reset();
    peer_.reset();
    if (!context_->requires_client_certificate()) return true;
    refuse(Failure::no_certificate, explain_plain(context_->role(), Failure::no_certificate));
    return false;
  }
  const bool judged = leaf_ && X509_cmp(actual.get(), leaf_.get()) == 0 &&
                      check_dates(leaf_.get(), context_->now()) == Failure::none;
  if (judged) return true;
  Verdict verdict = adopt_peer(actual.get(), SSL_get_peer_cert_chain(ssl_.get()));
  if (verdict.failure == Failure::none) return true;
  refuse(verdict.failure, std::move(verdict.detail));
  return false;
}

void Session::learn_sni() {
  if (context_->role() == Role::client) return;
  const char* name = SSL_get_servername(ssl_.get(), TLSEXT_NAMETYPE_host_name);
  if (name != nullptr && is_printable(name)) facts_.sni = name;
}

void Session::fail_from_queue() {
  const unsigned long error = ERR_peek_error();
  Explanation why = explain(context_->role(), error, context_->spiffe_uri());
  ERR_clear_error();
  if (!done_) learn_sni();
  refuse(why.failure, std::move(why.detail), why.told_by_peer);
}

// The first cause stays: OpenSSL's "certificate verify failed" comes after our own finding.
void Session::refuse(Failure failure, std::string detail, bool told_by_peer) {
  failed_ = true;
  if (facts_.failure != Failure::none) return;
  facts_.failure = failure;
  facts_.detail = std::move(detail);
  facts_.told_by_peer = told_by_peer;
}

void Session::note_failure(Failure failure) {
  refuse(failure, explain_plain(context_->role(), failure));
}

Session::ReadResult Session::read(std::span<const std::byte>& cipher, std::span<std::byte> plain,
                                  CipherSink& out) {
  if (failed_) return {0, Status::failed};
  if (closed_) return {0, Status::closed};
  if (!fed_ && !cipher.empty()) {
    fed_ = true;
    const bool server = context_->role() == Role::server;
    if (cipher[0] != kHandshake && (server || cipher[0] != kAlert)) {
      refuse(Failure::not_tls, explain_plain(context_->role(), Failure::not_tls));
      return {0, Status::failed};
    }
  }
  input_ = cipher;
  out_ = &out;
  const ReadResult result = read_fed(plain);
  cipher = input_;
  input_ = {};
  out_ = nullptr;
  return result;
}

Session::ReadResult Session::read_fed(std::span<std::byte> plain) {
  if (!done_ && !advance_handshake()) return {0, failed_ ? Status::failed : Status::want_input};
  // A stray entry would make SSL_get_error see a failure.
  if (ERR_peek_error() != 0) ERR_clear_error();
  std::size_t filled = 0;
  while (!input_.empty() || SSL_has_pending(ssl_.get()) == 1) {
    if (filled == plain.size()) return {filled, Status::more};
    std::size_t got = 0;
    const int result = SSL_read_ex(ssl_.get(), plain.data() + filled, plain.size() - filled, &got);
    if (result == 1) {
      filled += got;
      continue;
    }
    switch (SSL_get_error(ssl_.get(), result)) {
      case SSL_ERROR_WANT_READ:
        return {filled, Status::want_input};
      case SSL_ERROR_ZERO_RETURN:
        closed_ = true;
        return {filled, Status::closed};
      default:
        fail_from_queue();
        return {filled, Status::failed};
    }
  }
  return {filled, Status::want_input};
}

bool Session::write(std::span<const std::span<const std::byte>> plain, CipherSink& out) {
  if (failed_) return false;
  if (!done_) {
    refuse(Failure::other, "written to before the handshake was done");
    return false;
  }
  out_ = &out;
  const bool good = write_slices(plain);
  out_ = nullptr;
  return good;
}

// Slices that fill a record, and the last one when nothing is held, are encrypted where they are.
bool Session::write_slices(std::span<const std::span<const std::byte>> plain) {
  std::array<std::byte, kRecord> gathered;
  std::size_t held = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    std::span<const std::byte> slice = plain[i];
    while (!slice.empty()) {
      const std::size_t n = std::min(kRecord - held, slice.size());
      if (held == 0 && (n == kRecord || i + 1 == plain.size())) {
        if (!write_record(slice.first(n))) return false;
      } else {
        std::memcpy(gathered.data() + held, slice.data(), n);
        held += n;
        if (held == kRecord) {
          if (!write_record(gathered)) return false;
          held = 0;
        }
      }
      slice = slice.subspan(n);
    }
  }
  return held == 0 || write_record(std::span(gathered).first(held));
}

bool Session::write_record(std::span<const std::byte> bytes) {
  std::size_t written = 0;
  if (SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &written) == 1) return true;
  fail_from_queue();
  return false;
}

void Session::shutdown(CipherSink& out) {
  if (!done_ || failed_ || close_sent_) return;
  close_sent_ = true;
  out_ = &out;
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
  out_ = nullptr;
}

std::expected<void, Failure> Session::judge(const Context& present) const {
  if (!done_) return std::unexpected(Failure::other);
  if (!leaf_) {
    if (present.requires_client_certificate()) return std::unexpected(Failure::no_certificate);
    return {};
  }
  const Verdict verdict = verify_peer(rules(present), leaf_.get(), intermediates_.get());
  if (verdict.failure != Failure::none) return std::unexpected(verdict.failure);
  return {};
}

void Session::release_idle_buffers() {
  if (ssl_ && done_ && !failed_) SSL_free_buffers(ssl_.get());
}

void Session::store_session(SSL_SESSION* session) {
  const std::chrono::sys_seconds now = context_->now();
  const unsigned long hint = SSL_SESSION_get_ticket_lifetime_hint(session);
  const std::chrono::seconds lifetime =
      hint == 0 ? kDefaultLifetime : std::chrono::seconds(static_cast<std::int64_t>(hint));
  ClientSessions::Entry entry;
  entry.session.reset(session);
  entry.expires = std::min({now + lifetime, not_after(leaf_.get()), context_->not_after()});
  entry.leaf = share(leaf_.get());
  entry.intermediates.reset(X509_chain_up_ref(intermediates_.get()));
  target_.sessions->put(store_key_, std::move(entry));
}

}  // namespace tls
