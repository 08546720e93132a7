// Makes throw-away authorities and workload certificates (ECDSA P-256), in memory and as files.
// Not a production CA: no revocation, no serial bookkeeping.
#include "tls/issue.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>

#include "tls/identity.h"
#include "tls/verify.h"

namespace tls {
namespace {

constexpr std::chrono::hours kBackdate{1};  // for clocks that are a little slow

using Text = std::expected<std::string, std::string>;

std::unexpected<std::string> openssl_failure(std::string_view doing) {
  return std::unexpected(fmt::format("{}: {}", doing, take_error_text()));
}

std::string drain(const BioPtr& bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

X509Ptr parse_certificate(const std::string& pem) {
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return X509Ptr(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
}

KeyPtr parse_key(const std::string& pem) {
  const BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  return KeyPtr(PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, nullptr));
}

bool set_serial(X509* certificate) {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return false;
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);  // positive, never zero
  BIGNUM* number = BN_bin2bn(bytes.data(), static_cast<int>(bytes.size()), nullptr);
  const bool good = BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nullptr;
  BN_free(number);
  return good;
}

bool set_subject(X509* certificate, const CertificateSpec& spec) {
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto add = [name](const char* field, const std::string& value) {
    return value.empty() ||
           X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>(value.data()),
                                      static_cast<int>(value.size()), -1, 0) == 1;
  };
  return add("O", spec.organization) && add("CN", spec.common_name);
}

bool set_dates(X509* certificate, const CertificateSpec& spec) {
  return ASN1_TIME_set(X509_getm_notBefore(certificate),
                       spec.not_before.time_since_epoch().count()) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(certificate),
                       spec.not_after.time_since_epoch().count()) != nullptr;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const char* value) {
  X509V3_CTX ctx;
  X509V3_set_ctx_nodb(&ctx);
  X509V3_set_ctx(&ctx, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &ctx, nid, value);
  if (extension == nullptr) return false;
  const bool good = X509_add_ext(certificate, extension, -1) == 1;
  X509_EXTENSION_free(extension);
  return good;
}

// Built by hand: the textual form would give ',' and ':' in a name a meaning.
bool add_names(X509* certificate, const CertificateSpec& spec) {
  if (spec.uri_sans.empty() && spec.dns_sans.empty()) return true;
  GENERAL_NAMES* names = sk_GENERAL_NAME_new_null();
  const auto add = [names](int type, const std::string& value) {
    GENERAL_NAME* name = GENERAL_NAME_new();
    ASN1_IA5STRING* text = ASN1_IA5STRING_new();
    ASN1_STRING_set(text, value.data(), static_cast<int>(value.size()));
    GENERAL_NAME_set0_value(name, type, text);
    sk_GENERAL_NAME_push(names, name);
  };
  for (const std::string& uri : spec.uri_sans) add(GEN_URI, uri);
  for (const std::string& dns : spec.dns_sans) add(GEN_DNS, dns);
  const bool no_subject = spec.common_name.empty() && spec.organization.empty();
  const bool good =
      X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, no_subject ? 1 : 0, 0) == 1;
  GENERAL_NAMES_free(names);
  return good;
}

bool add_extensions(X509* certificate, X509* issuer, const CertificateSpec& spec) {
  const bool self = issuer == certificate;
  bool good = add_extension(certificate, issuer, NID_basic_constraints,
                            spec.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE") &&
              add_extension(certificate, issuer, NID_key_usage,
                            spec.is_authority ? "critical,keyCertSign,cRLSign"
                                              : "critical,digitalSignature") &&
              add_extension(certificate, issuer, NID_subject_key_identifier, "hash");
  if (!self)
    good = good && add_extension(certificate, issuer, NID_authority_key_identifier, "keyid");
  if (!spec.is_authority)
    good = good && add_extension(certificate, issuer, NID_ext_key_usage, "serverAuth,clientAuth");
  return good && add_names(certificate, spec);
}

Text key_to_pem(EVP_PKEY* key) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_PKCS8PrivateKey(out.get(), key, nullptr, nullptr, 0, nullptr, nullptr) != 1)
    return openssl_failure("cannot write the key");
  return drain(out);
}

Text certificate_to_pem(X509* certificate) {
  const BioPtr out(BIO_new(BIO_s_mem()));
  if (PEM_write_bio_X509(out.get(), certificate) != 1)
    return openssl_failure("cannot write the certificate");
  return drain(out);
}

bool is_name(std::string_view text) {
  SpiffeId id;
  return text.find('/') == std::string_view::npos &&
         parse_spiffe(fmt::format("spiffe://x/{}", text), id);
}

bool is_dns_name(std::string_view text) {
  return !text.empty() && text.size() <= 253 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == '*';
  });
}

std::string words(int error) {
  return std::strerror(error);
}

// One file: written under a temporary name in its folder, not yet in its place.
class Pending {
 public:
  ~Pending() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  std::expected<void, std::string> write(const std::string& path, const std::string& text,
                                         mode_t mode) {
    path_ = path;
    std::string name = path + ".XXXXXX";
    const int file = ::mkostemp(name.data(), O_CLOEXEC);  // 0600 from the start
    if (file < 0) return std::unexpected(fmt::format("cannot write {}: {}", path, words(errno)));
    temporary_ = name;
    std::size_t done = 0;
    bool good = true;
    while (good && done < text.size()) {
      const ssize_t n = ::write(file, text.data() + done, text.size() - done);
      if (n < 0 && errno == EINTR) continue;
      good = n > 0;
      if (good) done += static_cast<std::size_t>(n);
    }
    good = good && ::fchmod(file, mode) == 0 && ::fsync(file) == 0;
    const int error = errno;
    ::close(file);
    if (good) return {};
    return std::unexpected(fmt::format("cannot write {}: {}", path, words(error)));
  }

  // A link refuses an existing name, which a rename would replace.
  std::expected<void, std::string> place(bool overwrite) {
    const int result = overwrite ? ::rename(temporary_.c_str(), path_.c_str())
                                 : ::link(temporary_.c_str(), path_.c_str());
    if (result != 0) {
      if (errno == EEXIST)
        return std::unexpected(fmt::format("{} exists already: remove it, or overwrite", path_));
      return std::unexpected(fmt::format("cannot write {}: {}", path_, words(errno)));
    }
    if (overwrite) temporary_.clear();
    return {};
  }

 private:
  std::string path_;
  std::string temporary_;
};

}  // namespace

std::expected<PemPair, std::string> make_certificate(const CertificateSpec& spec,
                                                     const PemPair* issuer) {
  ERR_clear_error();
  const KeyPtr key(EVP_EC_gen("P-256"));
  const X509Ptr certificate(X509_new());
  if (!key || !certificate) return openssl_failure("cannot make a key");
  X509Ptr signer =
      issuer != nullptr ? parse_certificate(issuer->certificate) : share(certificate.get());
  const KeyPtr signer_key = issuer != nullptr ? parse_key(issuer->key) : nullptr;
  if (!signer) return openssl_failure("the authority's certificate is not readable");
  if (issuer != nullptr && !signer_key)
    return openssl_failure("the authority's key is not readable");
  if (signer_key && X509_check_private_key(signer.get(), signer_key.get()) != 1) {
    ERR_clear_error();
    return std::unexpected(std::string("the authority's key does not match its certificate"));
  }
  if (issuer != nullptr && X509_check_ca(signer.get()) != 1)
    return std::unexpected(std::string("the authority's certificate is not one of a CA"));
  X509* made = certificate.get();
  const bool good = X509_set_version(made, X509_VERSION_3) == 1 && set_serial(made) &&
                    set_subject(made, spec) && set_dates(made, spec) &&
                    X509_set_issuer_name(made, X509_get_subject_name(signer.get())) == 1 &&
                    X509_set_pubkey(made, key.get()) == 1 &&
                    add_extensions(made, signer.get(), spec) &&
                    X509_sign(made, signer_key ? signer_key.get() : key.get(), EVP_sha256()) > 0;
  if (!good) return openssl_failure("cannot make the certificate");
  Text certificate_pem = certificate_to_pem(made);
  if (!certificate_pem) return std::unexpected(std::move(certificate_pem.error()));
  Text key_pem = key_to_pem(key.get());
  if (!key_pem) return std::unexpected(std::move(key_pem.error()));
  PemPair pair{std::move(*certificate_pem), std::move(*key_pem)};
  const bool via_intermediate = issuer != nullptr && X509_self_signed(signer.get(), 0) != 1;
  if (via_intermediate) pair.certificate += issuer->certificate;
  ERR_clear_error();
  return pair;
}

std::expected<PemPair, std::string> make_authority(std::string_view trust_domain, int days,
                                                   std::chrono::sys_seconds now) {
  SpiffeId id;
  const std::string uri = fmt::format("spiffe://{}", trust_domain);
  if (!parse_spiffe(uri, id) || !id.path.empty())
    return std::unexpected(
        fmt::format("'{}' is no trust domain: letters, digits, '.', '-' and '_'", trust_domain));
  if (days < 1 || days > kMaxDays)
    return std::unexpected(fmt::format("{} days: allowed are 1 to {}", days, kMaxDays));
  CertificateSpec spec;
  spec.common_name = fmt::format("Root CA of {}", trust_domain.substr(0, 50));
  spec.organization = "Hoplite";
  spec.uri_sans = {uri};
  spec.is_authority = true;
  spec.not_before = now - kBackdate;
  spec.not_after = now + std::chrono::days(days);
  return make_certificate(spec, nullptr);
}

std::expected<PemPair, std::string> issue_workload(const PemPair& authority,
                                                   const WorkloadSpec& spec,
                                                   std::chrono::sys_seconds now) {
  if (!is_name(spec.trust_domain) || !is_name(spec.ns) || !is_name(spec.sa))
    return std::unexpected(
        fmt::format("spiffe://{}/ns/{}/sa/{} is no SPIFFE ID: each name has letters, digits, '.', "
                    "'-' and '_'",
                    spec.trust_domain, spec.ns, spec.sa));
  for (const std::string& dns : spec.dns_sans)
    if (!is_dns_name(dns)) return std::unexpected(fmt::format("'{}' is no DNS name", dns));
  if (spec.days < 1 || spec.days > kMaxDays)
    return std::unexpected(fmt::format("{} days: allowed are 1 to {}", spec.days, kMaxDays));
  const X509Ptr signer = parse_certificate(authority.certificate);
  if (!signer) return openssl_failure("the authority's certificate is not readable");
  if (now > not_after(signer.get()))
    return std::unexpected(
        fmt::format("the authority expired at {}", time_text(not_after(signer.get()))));
  CertificateSpec certificate;
  certificate.organization = "Hoplite";
  certificate.uri_sans = {
      fmt::format("spiffe://{}/ns/{}/sa/{}", spec.trust_domain, spec.ns, spec.sa)};
  certificate.dns_sans = spec.dns_sans;
  certificate.not_before = std::max(now - kBackdate, not_before(signer.get()));
  certificate.not_after = std::min<std::chrono::sys_seconds>(now + std::chrono::days(spec.days),
                                                             not_after(signer.get()));
  return make_certificate(certificate, &authority);
}

std::expected<void, std::string> write_pair(const PemPair& pair, const PairPaths& paths,
                                            bool overwrite) {
  if (!overwrite)
    for (const std::string* path : {&paths.key, &paths.certificate})
      if (::access(path->c_str(), F_OK) == 0)
        return std::unexpected(fmt::format("{} exists already: remove it, or overwrite", *path));
  Pending key;
  Pending certificate;
  if (auto done = key.write(paths.key, pair.key, 0600); !done) return done;
  if (auto done = certificate.write(paths.certificate, pair.certificate, 0644); !done) return done;
  if (auto done = key.place(overwrite); !done) return done;
  if (auto done = certificate.place(overwrite); !done) {
    if (!overwrite) ::unlink(paths.key.c_str());  // it was not there before
    return done;
  }
  return {};
}

std::string trust_domain_of(const PemPair& authority) {
  const X509Ptr certificate = parse_certificate(authority.certificate);
  ERR_clear_error();
  if (!certificate) return {};
  int uri_sans = 0;
  return std::string(identity_of(certificate.get(), uri_sans).trust_domain());
}

std::expected<PemPair, std::string> read_pair(const PairPaths& paths) {
  PemPair pair;
  for (const auto& [path, text] :
       {std::pair(&paths.certificate, &pair.certificate), std::pair(&paths.key, &pair.key)}) {
    std::ifstream in(*path, std::ios::binary);
    text->assign(std::istreambuf_iterator<char>(in), {});
    if (!in.is_open() || in.bad())
      return std::unexpected(fmt::format("{} cannot be read: {}", *path, words(errno)));
  }
  ERR_clear_error();
  if (!parse_certificate(pair.certificate)) {
    ERR_clear_error();
    return std::unexpected(fmt::format("{} holds no PEM certificate", paths.certificate));
  }
  if (!parse_key(pair.key)) {
    ERR_clear_error();
    return std::unexpected(fmt::format("{} holds no PEM private key", paths.key));
  }
  return pair;
}

}  // namespace tls
