// The identity a verified certificate gives: its SPIFFE URI, names and fingerprint.
// Not verification (verify.h) and not authorization, which a filter does per request.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

typedef struct x509_st X509;

namespace tls {

/// A SPIFFE URI cut into its parts; views into the text that was parsed.
struct SpiffeId {
  std::string_view trust_domain;  // "cluster.local"
  std::string_view path;          // "/ns/default/sa/web"; may be empty
  std::string_view ns;            // "default"; empty unless the path is /ns/NS/sa/SA
  std::string_view sa;            // "web"; empty likewise
};

/// Cuts `uri` as the SPIFFE-ID standard (sections 2.1 to 2.3) writes it: scheme spiffe, a trust
/// domain of letters, digits, '.', '-', '_', a path of the same without empty, "." or ".."
/// segments, at most 2048 bytes. False when it is something else; `id` is then untouched.
bool parse_spiffe(std::string_view uri, SpiffeId& id) noexcept;

/// Who the other side is. Immutable once made; every field is bounded by the certificate's size.
struct PeerIdentity {
  std::string spiffe_uri;             // the single URI SAN; empty when there is none or several
  std::vector<std::string> dns_sans;  // printable ASCII names only
  std::string subject;                // RFC 2253 text, escaped; may be empty
  std::string sha256_hex;             // of the DER certificate, lower case, 64 characters
  std::chrono::sys_seconds not_after{};

  // Parts of spiffe_uri, views into it; empty when it has no such part.
  std::string_view trust_domain() const noexcept;
  std::string_view ns() const noexcept;
  std::string_view sa() const noexcept;
};

/// Reads the identity of `certificate`, verified or not: the caller must have verified it.
/// `uri_sans` receives how many URI SANs it has, well-formed or not.
PeerIdentity identity_of(X509* certificate, int& uri_sans);

}  // namespace tls
