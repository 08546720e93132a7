// The identity a verified certificate gives: its SPIFFE URI, names and fingerprint.
// Not verification (verify.cc).
#include "tls/identity.h"

#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "tls/openssl_ptr.h"
#include "tls/verify.h"

namespace tls {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::size_t kMaxSpiffe = 2048;

bool is_word(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
         c == '-' || c == '_';
}

bool is_words(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_word);
}

bool is_path(std::string_view path) noexcept {
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    const std::string_view segment = path.substr(0, path.find('/'));
    if (!is_words(segment) || segment == "." || segment == "..") return false;
    path.remove_prefix(segment.size());
  }
  return true;
}

std::string_view text_of(const ASN1_STRING* string) noexcept {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

bool is_dns_name(std::string_view text) noexcept {
  return !text.empty() && text.size() <= 253 &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_word(c) || c == '*'; });
}

std::string subject_of(X509* certificate) {
  BioPtr out(BIO_new(BIO_s_mem()));
  if (!out ||
      X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) {
    ERR_clear_error();
    return {};
  }
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

std::string sha256_of(X509* certificate) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest.data(), &size) != 1) return {};
  static constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * size);
  for (unsigned i = 0; i < size; ++i) {
    text.push_back(kHex[digest[i] >> 4]);
    text.push_back(kHex[digest[i] & 15]);
  }
  return text;
}

}  // namespace

bool parse_spiffe(std::string_view uri, SpiffeId& id) noexcept {
  if (uri.size() > kMaxSpiffe || !uri.starts_with(kScheme)) return false;
  const std::string_view rest = uri.substr(kScheme.size());
  SpiffeId found;
  found.trust_domain = rest.substr(0, rest.find('/'));
  found.path = rest.substr(found.trust_domain.size());
  if (!is_words(found.trust_domain) || found.trust_domain.size() > 255) return false;
  if (!is_path(found.path)) return false;
  if (found.path.starts_with("/ns/")) {
    const std::string_view ns = found.path.substr(4, found.path.find('/', 4) - 4);
    const std::string_view tail = found.path.substr(4 + ns.size());
    if (tail.starts_with("/sa/") && tail.find('/', 4) == std::string_view::npos) {
      found.ns = ns;
      found.sa = tail.substr(4);
    }
  }
  id = found;
  return true;
}

std::string_view PeerIdentity::trust_domain() const noexcept {
  SpiffeId id;
  parse_spiffe(spiffe_uri, id);
  return id.trust_domain;
}

std::string_view PeerIdentity::ns() const noexcept {
  SpiffeId id;
  parse_spiffe(spiffe_uri, id);
  return id.ns;
}

std::string_view PeerIdentity::sa() const noexcept {
  SpiffeId id;
  parse_spiffe(spiffe_uri, id);
  return id.sa;
}

PeerIdentity identity_of(X509* certificate, int& uri_sans) {
  PeerIdentity identity;
  uri_sans = 0;
  auto* names = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  SpiffeId id;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type == GEN_URI) {
      ++uri_sans;
      const std::string_view uri = text_of(name->d.uniformResourceIdentifier);
      if (parse_spiffe(uri, id)) identity.spiffe_uri = uri;
    } else if (name->type == GEN_DNS && is_dns_name(text_of(name->d.dNSName))) {
      identity.dns_sans.emplace_back(text_of(name->d.dNSName));
    }
  }
  GENERAL_NAMES_free(names);
  ERR_clear_error();
  if (uri_sans != 1) identity.spiffe_uri.clear();
  identity.subject = subject_of(certificate);
  identity.sha256_hex = sha256_of(certificate);
  identity.not_after = not_after(certificate);
  return identity;
}

}  // namespace tls
