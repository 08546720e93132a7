// Certificate, key and CA files: read, cross-checked, every problem named with the file at fault.
// Not a TLS context (context.cc) and not the making of certificates (issue.cc).
#include "tls/credentials.h"

#include <fmt/format.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "tls/identity.h"
#include "tls/verify.h"

namespace tls {
namespace {

constexpr std::size_t kMaxFile = 1024 * 1024;
constexpr int kMinSecurityBits = 112;  // what kSecurityLevel asks of a key

using Problems = std::vector<CredentialProblem>;

struct FileCloser {
  void operator()(std::FILE* file) const noexcept { std::fclose(file); }
};

// The whole text, or nothing and the reason.
bool read_file(const std::string& path, std::string& text, std::string& why) {
  if (path.empty()) {
    why = "no file is named";
    return false;
  }
  std::unique_ptr<std::FILE, FileCloser> file(std::fopen(path.c_str(), "re"));
  if (!file) {
    why = fmt::format("cannot be read: {}", std::strerror(errno));
    return false;
  }
  text.resize(kMaxFile + 1);
  const std::size_t size = std::fread(text.data(), 1, text.size(), file.get());
  if (std::ferror(file.get()) != 0) {
    why = fmt::format("cannot be read: {}", std::strerror(errno));
    return false;
  }
  if (size > kMaxFile) {
    why = "is larger than 1 MiB: is it the right file?";
    return false;
  }
  text.resize(size);
  return true;
}

// All certificates of a PEM text, in order; `why` says what is wrong with it.
X509Chain parse_certificates(const std::string& text, std::string& why) {
  X509Chain chain(sk_X509_new_null());
  BioPtr in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!chain || !in) {
    why = "no memory";
    return chain;
  }
  while (X509* certificate = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr))
    if (sk_X509_push(chain.get(), certificate) <= 0) X509_free(certificate);
  const unsigned long error = ERR_peek_last_error();
  const bool at_end =
      ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
  const std::string words = take_error_text();
  if (!at_end) {
    why = fmt::format("certificate {} of it is not readable: {}", sk_X509_num(chain.get()) + 1,
                      words);
  } else if (sk_X509_num(chain.get()) == 0) {
    why = text.find("PRIVATE KEY-----") != std::string::npos
              ? "holds a private key and no certificate: are the files swapped?"
              : "holds no PEM certificate (-----BEGIN CERTIFICATE-----)";
  }
  return chain;
}

int no_password(char*, int, int, void*) noexcept {
  return -1;
}

KeyPtr parse_key(const std::string& text, std::string& why) {
  BioPtr in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  KeyPtr key(in ? PEM_read_bio_PrivateKey(in.get(), nullptr, no_password, nullptr) : nullptr);
  const std::string words = take_error_text();
  if (key) return key;
  if (text.find("ENCRYPTED") != std::string::npos) {
    why = "is encrypted with a password: store it unencrypted and readable only by the proxy";
  } else if (text.find("PRIVATE KEY-----") == std::string::npos) {
    why = text.find("BEGIN CERTIFICATE-----") != std::string::npos
              ? "holds a certificate and no private key: are the files swapped?"
              : "holds no PEM private key (-----BEGIN PRIVATE KEY-----)";
  } else {
    why = fmt::format("is not readable as a private key: {}", words);
  }
  return key;
}

// Collects problems; one object per load.
class Check {
 public:
  Check(const CredentialFiles& files, std::string_view trust_domain, std::chrono::sys_seconds now)
      : files_(files), trust_domain_(trust_domain), now_(now) {}

  std::expected<Credentials, Problems> run() {
    read_certificate();
    read_key();
    read_anchors();
    if (found_.leaf) {
      check_identity();
      check_own_dates();
      check_uses();
    }
    if (found_.leaf && found_.key &&
        X509_check_private_key(found_.leaf.get(), found_.key.get()) != 1)
      add(CredentialFile::key,
          fmt::format("does not match the certificate in {}: take the pair from one issue",
                      files_.certificate));
    if (found_.leaf && found_.anchors) check_chain();
    ERR_clear_error();
    if (!problems_.empty()) return std::unexpected(std::move(problems_));
    take_digest();
    return std::move(found_);
  }

 private:
  void add(CredentialFile file, std::string text) {
    const std::string& path = file == CredentialFile::certificate ? files_.certificate
                              : file == CredentialFile::key       ? files_.key
                                                                  : files_.ca;
    problems_.push_back({file, path, std::move(text)});
  }

  void read_certificate() {
    std::string text;
    std::string why;
    X509Chain chain;
    if (read_file(files_.certificate, text, why)) chain = parse_certificates(text, why);
    if (!why.empty()) return add(CredentialFile::certificate, std::move(why));
    found_.leaf.reset(sk_X509_shift(chain.get()));
    found_.intermediates = std::move(chain);
  }

  void read_key() {
    std::string text;
    std::string why;
    if (read_file(files_.key, text, why)) found_.key = parse_key(text, why);
    if (!text.empty()) OPENSSL_cleanse(text.data(), text.size());
    if (!why.empty()) add(CredentialFile::key, std::move(why));
  }

  void read_anchors() {
    std::string text;
    std::string why;
    X509Chain chain;
    if (read_file(files_.ca, text, why)) chain = parse_certificates(text, why);
    if (!why.empty()) return add(CredentialFile::ca, std::move(why));
    found_.anchors = std::move(chain);
    Failure last = Failure::none;
    for (int i = 0; i < sk_X509_num(found_.anchors.get()); ++i) {
      last = check_dates(sk_X509_value(found_.anchors.get(), i), now_);
      if (last == Failure::none) return;  // one usable anchor will do
    }
    add(CredentialFile::ca,
        fmt::format("{} at {}: no certificate of it is valid, renew the CA, or set the clock",
                    last == Failure::expired ? "has expired" : "is not valid yet",
                    time_text(now_)));
  }

  void check_identity() {
    int uri_sans = 0;
    const PeerIdentity identity = identity_of(found_.leaf.get(), uri_sans);
    found_.spiffe_uri = identity.spiffe_uri;
    found_.not_after = identity.not_after;
    if (uri_sans == 0) {
      add(CredentialFile::certificate,
          fmt::format("has no SPIFFE URI SAN; a workload has exactly one, such as "
                      "spiffe://{}/ns/default/sa/default",
                      trust_domain_));
    } else if (uri_sans > 1) {
      add(CredentialFile::certificate,
          fmt::format("has {} URI SANs; a workload has exactly one, its SPIFFE ID", uri_sans));
    } else if (identity.spiffe_uri.empty()) {
      add(CredentialFile::certificate, "its URI SAN is no SPIFFE ID (spiffe://TRUST_DOMAIN/...)");
    } else if (identity.trust_domain() != trust_domain_) {
      add(CredentialFile::certificate,
          fmt::format("is of trust domain '{}', configured is '{}' (mtls.trust_domain)",
                      identity.trust_domain(), trust_domain_));
    }
  }

  void check_own_dates() {
    const X509* leaf = found_.leaf.get();
    const Failure failure = check_dates(leaf, now_);
    if (failure == Failure::expired)
      add(CredentialFile::certificate, fmt::format("expired at {}, it is {}: renew it",
                                                   time_text(not_after(leaf)), time_text(now_)));
    if (failure == Failure::not_yet_valid)
      add(CredentialFile::certificate,
          fmt::format("is valid only from {}, it is {}: compare the clocks",
                      time_text(not_before(leaf)), time_text(now_)));
  }

  void check_uses() {
    X509* leaf = found_.leaf.get();
    const int bits = EVP_PKEY_get_security_bits(X509_get0_pubkey(leaf));
    if (bits < kMinSecurityBits)
      add(CredentialFile::certificate,
          "its key is too weak: use ECDSA P-256, or RSA with 2048 bits or more");
    if (X509_check_purpose(leaf, X509_PURPOSE_SSL_CLIENT, 0) != 1 ||
        X509_check_purpose(leaf, X509_PURPOSE_SSL_SERVER, 0) != 1)
      add(CredentialFile::certificate,
          "its key usage does not allow both TLS roles; a sidecar is server and client "
          "(extended key usage serverAuth and clientAuth)");
  }

  // Signatures only: dates and key strength of the leaf have their own messages.
  void check_chain() {
    X509StorePtr store(X509_STORE_new());
    X509StoreCtxPtr ctx(X509_STORE_CTX_new());
    for (int i = 0; i < sk_X509_num(found_.anchors.get()); ++i)
      X509_STORE_add_cert(store.get(), sk_X509_value(found_.anchors.get(), i));
    X509_STORE_set_flags(store.get(), X509_V_FLAG_PARTIAL_CHAIN);
    X509_STORE_CTX_init(ctx.get(), store.get(), found_.leaf.get(), found_.intermediates.get());
    X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(ctx.get());
    X509_VERIFY_PARAM_set_auth_level(param, kSecurityLevel);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_NO_CHECK_TIME);
    if (X509_verify_cert(ctx.get()) == 1) return check_intermediate_dates();
    const int error = X509_STORE_CTX_get_error(ctx.get());
    switch (error) {
      case X509_V_ERR_EE_KEY_TOO_SMALL:
        return;
      case X509_V_ERR_CA_KEY_TOO_SMALL:
      case X509_V_ERR_CA_MD_TOO_WEAK:
      case X509_V_ERR_INVALID_CA:
        return add(CredentialFile::ca, X509_verify_cert_error_string(error));
      default:
        return add(CredentialFile::certificate,
                   fmt::format("is not signed by a CA of {} ({}): use the CA it was issued by, and "
                               "put intermediates behind the certificate",
                               files_.ca, X509_verify_cert_error_string(error)));
    }
  }

  void check_intermediate_dates() {
    for (int i = 0; i < sk_X509_num(found_.intermediates.get()); ++i)
      if (check_dates(sk_X509_value(found_.intermediates.get(), i), now_) != Failure::none)
        add(CredentialFile::certificate,
            fmt::format("its certificate {} (an intermediate) is not valid at {}: renew it", i + 2,
                        time_text(now_)));
  }

  void take_digest() {
    std::string der;
    append_der(found_.leaf.get(), der);
    for (const auto* chain : {found_.intermediates.get(), found_.anchors.get()}) {
      der.push_back('|');
      for (int i = 0; i < sk_X509_num(chain); ++i) append_der(sk_X509_value(chain, i), der);
    }
    found_.digest.resize(32);
    EVP_Digest(der.data(), der.size(), reinterpret_cast<unsigned char*>(found_.digest.data()),
               nullptr, EVP_sha256(), nullptr);
  }

  static void append_der(X509* certificate, std::string& der) {
    unsigned char* bytes = nullptr;
    const int size = i2d_X509(certificate, &bytes);
    if (size <= 0) return;
    der.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
    OPENSSL_free(bytes);
  }

  const CredentialFiles& files_;
  std::string_view trust_domain_;
  std::chrono::sys_seconds now_;
  Credentials found_;
  Problems problems_;
};

}  // namespace

std::chrono::sys_seconds system_now() {
  return std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now());
}

std::string_view name(CredentialFile file) noexcept {
  switch (file) {
    case CredentialFile::certificate:
      return "cert";
    case CredentialFile::key:
      return "key";
    case CredentialFile::ca:
      break;
  }
  return "ca";
}

std::string describe(const std::vector<CredentialProblem>& problems) {
  std::string line;
  for (const CredentialProblem& problem : problems)
    line += fmt::format("{}{} {}: {}", line.empty() ? "" : "; ", name(problem.file), problem.path,
                        problem.text);
  return line;
}

std::vector<CredentialProblem> check_files(const CredentialFiles& files,
                                           std::string_view trust_domain,
                                           std::chrono::sys_seconds now) {
  auto loaded = load(files, trust_domain, now);
  return loaded ? Problems() : std::move(loaded.error());
}

std::expected<Credentials, std::vector<CredentialProblem>> load(const CredentialFiles& files,
                                                                std::string_view trust_domain,
                                                                std::chrono::sys_seconds now) {
  return Check(files, trust_domain, now).run();
}

}  // namespace tls
