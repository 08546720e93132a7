// Makes throw-away authorities and workload certificates (ECDSA P-256), in memory and as files.
// Not a production CA: no revocation, no serial bookkeeping.
#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "tls/credentials.h"

namespace tls {

struct PemPair {
  std::string certificate;  // one PEM certificate, or the leaf followed by its intermediates
  std::string key;          // PKCS#8 PEM, unencrypted
};

struct CertificateSpec {
  std::string common_name;  // empty: no subject; the SAN extension is then critical (RFC 5280)
  std::string organization;
  std::vector<std::string> uri_sans;
  std::vector<std::string> dns_sans;
  bool is_authority = false;
  std::chrono::sys_seconds not_before{};
  std::chrono::sys_seconds not_after{};
};

/// A new P-256 key and a certificate for it, signed by `issuer`, or by itself when null. The
/// result's certificate is followed by issuer->certificate when the issuer is itself not
/// self-signed. Errors in words.
std::expected<PemPair, std::string> make_certificate(const CertificateSpec& spec,
                                                     const PemPair* issuer);

// Certificates are valid for 1 to so many days.
inline constexpr int kMaxDays = 36'500;

/// `hoplite certs init`: a self-signed authority, valid from an hour ago for `days` days (1 to
/// 36500).
std::expected<PemPair, std::string> make_authority(std::string_view trust_domain, int days,
                                                   std::chrono::sys_seconds now = system_now());

struct WorkloadSpec {
  std::string trust_domain = "cluster.local";
  std::string ns = "default";
  std::string sa = "default";
  std::vector<std::string> dns_sans;
  int days = 90;  // cut to the authority's own end
};

/// `hoplite certs issue`: the certificate of one workload, spiffe://TRUST_DOMAIN/ns/NS/sa/SA, for
/// both TLS roles. Names that make no valid SPIFFE ID or DNS name are errors.
std::expected<PemPair, std::string> issue_workload(const PemPair& authority,
                                                   const WorkloadSpec& spec,
                                                   std::chrono::sys_seconds now = system_now());

struct PairPaths {
  std::string certificate;  // written 0644
  std::string key;          // written 0600
};

/// Writes both files, each to a temporary name in its folder, synced and renamed, the key first.
/// Without `overwrite` an existing file of either name is an error and nothing is changed.
std::expected<void, std::string> write_pair(const PemPair& pair, const PairPaths& paths,
                                            bool overwrite);

/// The trust domain an authority of make_authority() is for; empty when it names none.
std::string trust_domain_of(const PemPair& authority);

/// Reads an authority's two files back; an error names the file and what is wrong with it.
std::expected<PemPair, std::string> read_pair(const PairPaths& paths);

}  // namespace tls
