// Decides whether a certificate chain is an acceptable peer: chain, dates, SPIFFE URI, trust
// domain. Not authorization: which accepted identity may do what is a filter's question.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "tls/facts.h"
#include "tls/identity.h"
#include "tls/openssl_ptr.h"

namespace tls {

/// OpenSSL's security level 2 (112 bits): RSA from 2048, no SHA-1.
inline constexpr int kSecurityLevel = 2;

struct PeerRules {
  X509_STORE* anchors = nullptr;  // every certificate in it is an anchor
  Role own_role = Role::server;   // a server judges client certificates and the other way round
  std::string_view trust_domain;
  std::span<const std::string> expected_sans;  // any of them; empty: all of the trust domain
  std::chrono::sys_seconds now{};
};

struct Verdict {
  Failure failure = Failure::none;
  int x509_error = X509_V_OK;  // picks the alert
  std::string detail;
  PeerIdentity identity;  // filled when failure is none
};

/// Full verification, one signature check per certificate. `untrusted` may be null and may hold
/// the leaf itself.
Verdict verify_peer(const PeerRules& rules, X509* leaf, STACK_OF(X509) * untrusted);

/// Only the leaf's dates; no signature.
Failure check_dates(const X509* leaf, std::chrono::sys_seconds now) noexcept;

/// "2026-11-22T16:00:00Z".
std::string time_text(std::chrono::sys_seconds when);

/// notAfter and notBefore of a certificate.
std::chrono::sys_seconds not_after(const X509* certificate) noexcept;
std::chrono::sys_seconds not_before(const X509* certificate) noexcept;

}  // namespace tls
