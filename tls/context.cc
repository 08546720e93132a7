// One TLS configuration, built once from files and never changed: keys, trust anchors, rules.
// Not a connection (session.cc).
#include "tls/context.h"

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <array>
#include <cstdlib>
#include <utility>

#include "tls/alpn.h"
#include "tls/session_callbacks.h"
#include "tls/verify.h"

namespace tls {
namespace {

constexpr long kTicketSeconds = 2 * 60 * 60;  // at most; certificates cut it further
constexpr int kMaxChainDepth = 8;
constexpr long kMaxChainBytes = 64 * 1024;
constexpr int kMaxAdvertisedAuthorities = 32;
constexpr std::size_t kTicketKeyBytes = 80;  // name 16, HMAC key 32, AES key 32

constexpr char kCiphers12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305";
constexpr char kCiphers13[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr char kGroups[] = "X25519:P-256:P-384";

struct KdfDeleter {
  void operator()(EVP_KDF_CTX* ctx) const noexcept { EVP_KDF_CTX_free(ctx); }
};

// HKDF-SHA256 (RFC 5869).
bool derive(const TicketSecret& secret, const std::string& salt, unsigned char* out,
            std::size_t size) {
  EVP_KDF* kdf = EVP_KDF_fetch(nullptr, "HKDF", nullptr);
  const std::unique_ptr<EVP_KDF_CTX, KdfDeleter> ctx(EVP_KDF_CTX_new(kdf));
  EVP_KDF_free(kdf);
  if (!ctx) return false;
  char digest[] = "SHA256";
  char info[] = "hoplite session tickets";
  const OSSL_PARAM params[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
                                        const_cast<std::uint8_t*>(secret.data()), secret.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, const_cast<char*>(salt.data()),
                                        salt.size()),
      OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info - 1),
      OSSL_PARAM_construct_end()};
  return EVP_KDF_derive(ctx.get(), out, size, params) == 1;
}

std::string fingerprint_of(Role role, bool require_peer, const std::string& trust_domain,
                           const std::string& digest) {
  std::string text = digest;
  text.push_back(role == Role::server ? 's' : 'c');
  text.push_back(require_peer ? 'r' : 'o');
  text += trust_domain;
  std::string fingerprint(32, '\0');
  EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(fingerprint.data()),
             nullptr, EVP_sha256(), nullptr);
  return fingerprint;
}

// The files were fine, so this is OpenSSL refusing what our own checks let pass.
std::vector<CredentialProblem> openssl_problem(const CredentialFiles& files) {
  std::string words = take_error_text();
  return {{CredentialFile::certificate, files.certificate,
           "cannot be used: " + (words.empty() ? std::string("no memory") : std::move(words))}};
}

}  // namespace

TicketSecret make_ticket_secret() {
  TicketSecret secret;
  // Without randomness no TLS is possible at all.
  if (RAND_priv_bytes(secret.data(), static_cast<int>(secret.size())) != 1) std::abort();
  return secret;
}

Context::Context(Role role, std::string trust_domain, bool require_peer, Clock clock)
    : role_(role),
      require_peer_(require_peer),
      clock_(clock),
      trust_domain_(std::move(trust_domain)) {}

Context::~Context() = default;

Context::Made Context::make_server(const ServerSpec& spec) {
  auto loaded = load(spec.files, spec.trust_domain, spec.clock());
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  std::shared_ptr<Context> context(
      new Context(Role::server, spec.trust_domain, spec.require_client_certificate, spec.clock));
  context->alpn_wire_ = alpn::encode(spec.alpn);
  if (!context->set_up(std::move(*loaded)) ||
      !context->set_up_server(spec.ticket_secret ? *spec.ticket_secret : make_ticket_secret()))
    return std::unexpected(openssl_problem(spec.files));
  return context;
}

Context::Made Context::make_client(const ClientSpec& spec) {
  auto loaded = load(spec.files, spec.trust_domain, spec.clock());
  if (!loaded) return std::unexpected(std::move(loaded.error()));
  std::shared_ptr<Context> context(new Context(Role::client, spec.trust_domain, true, spec.clock));
  if (!context->set_up(std::move(*loaded))) return std::unexpected(openssl_problem(spec.files));
  context->set_up_client();
  return context;
}

bool Context::set_up(Credentials credentials) {
  spiffe_uri_ = std::move(credentials.spiffe_uri);
  not_after_ = credentials.not_after;
  fingerprint_ = fingerprint_of(role_, require_peer_, trust_domain_, credentials.digest);
  ctx_.reset(SSL_CTX_new(role_ == Role::server ? TLS_server_method() : TLS_client_method()));
  if (!ctx_) return false;
  SSL_CTX* ctx = ctx_.get();
  SSL_CTX_set_security_level(ctx, kSecurityLevel);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // No automatic chain: it would append the root from the store.
  SSL_CTX_set_mode(ctx, SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_verify_depth(ctx, kMaxChainDepth);
  SSL_CTX_set_max_cert_list(ctx, kMaxChainBytes);
  X509_STORE* store = SSL_CTX_get_cert_store(ctx);
  // Each certificate of the CA file is an anchor, a root or not.
  X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
  X509_STORE_set_depth(store, kMaxChainDepth);
  for (int i = 0; i < sk_X509_num(credentials.anchors.get()); ++i)
    if (X509_STORE_add_cert(store, sk_X509_value(credentials.anchors.get(), i)) != 1) return false;
  if (role_ == Role::server)
    for (int i = 0; i < sk_X509_num(credentials.anchors.get()) && i < kMaxAdvertisedAuthorities;
         ++i)
      SSL_CTX_add_client_CA(ctx, sk_X509_value(credentials.anchors.get(), i));
  const int verify = SSL_VERIFY_PEER | (require_peer_ ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
  SSL_CTX_set_verify(ctx, verify, nullptr);
  SSL_CTX_set_cert_verify_callback(ctx, &SessionCallbacks::verify, nullptr);
  return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_cipher_list(ctx, kCiphers12) == 1 &&
         SSL_CTX_set_ciphersuites(ctx, kCiphers13) == 1 &&
         SSL_CTX_set1_groups_list(ctx, kGroups) == 1 &&
         SSL_CTX_use_certificate(ctx, credentials.leaf.get()) == 1 &&
         SSL_CTX_set1_chain(ctx, credentials.intermediates.get()) == 1 &&
         SSL_CTX_use_PrivateKey(ctx, credentials.key.get()) == 1;
}

bool Context::set_up_server(const TicketSecret& secret) {
  SSL_CTX* ctx = ctx_.get();
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_alpn_select_cb(ctx, &SessionCallbacks::choose_alpn, nullptr);
  // Tickets only: no cache to lock, and any worker can open them.
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(ctx, 1);
  SSL_CTX_set_timeout(ctx, kTicketSeconds);
  SSL_CTX_set_session_ticket_cb(ctx, &SessionCallbacks::make_ticket, &SessionCallbacks::open_ticket,
                                nullptr);
  std::array<unsigned char, kTicketKeyBytes> keys;
  const bool good = derive(secret, fingerprint_, keys.data(), keys.size()) &&
                    SSL_CTX_set_tlsext_ticket_keys(ctx, keys.data(), keys.size()) == 1 &&
                    SSL_CTX_set_session_id_context(
                        ctx, reinterpret_cast<const unsigned char*>(fingerprint_.data()),
                        static_cast<unsigned>(fingerprint_.size())) == 1;
  OPENSSL_cleanse(keys.data(), keys.size());
  return good;
}

void Context::set_up_client() {
  SSL_CTX* ctx = ctx_.get();
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(ctx, &SessionCallbacks::new_session);
}

}  // namespace tls
