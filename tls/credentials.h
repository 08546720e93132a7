// Certificate, key and CA files: read, cross-checked, every problem named with the file at fault.
// Not a TLS context (context.h) and not the making of certificates (issue.h).
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls/openssl_ptr.h"

namespace tls {

/// What tells the time in this module: called in handshakes, from any thread.
using Clock = std::chrono::sys_seconds (*)();
std::chrono::sys_seconds system_now();

struct CredentialFiles {
  std::string certificate;  // PEM: the leaf first, then intermediates
  std::string key;          // PEM: the leaf's private key, unencrypted
  std::string ca;           // PEM: one or several certificates; each of them is a trust anchor
};

enum class CredentialFile : std::uint8_t { certificate, key, ca };
std::string_view name(CredentialFile file) noexcept;  // "cert", "key", "ca": the keys of mtls:

struct CredentialProblem {
  CredentialFile file;  // which of the three is at fault
  std::string path;     // its path
  std::string text;     // what is wrong and what to do; no trailing full stop, no path
};

/// One line for a log: "cert /etc/x.pem: ...; key /etc/y.pem: ...".
std::string describe(const std::vector<CredentialProblem>& problems);

/// All that is wrong with the three files for a workload of `trust_domain` at `now`: unreadable,
/// not PEM, key does not match its certificate, expired, not yet valid, no or several SPIFFE URI
/// SANs, other trust domain, not signed by the CA, too weak. Empty = Context::make_* will succeed.
std::vector<CredentialProblem> check_files(const CredentialFiles& files,
                                           std::string_view trust_domain,
                                           std::chrono::sys_seconds now = system_now());

/// The three files in memory, consistent with each other. Made only by load().
struct Credentials {
  X509Ptr leaf;
  X509Chain intermediates;  // never null, may be empty
  KeyPtr key;
  X509Chain anchors;                     // at least one
  std::string spiffe_uri;                // own identity
  std::chrono::sys_seconds not_after{};  // of the leaf
  std::string digest;  // SHA-256 over leaf, intermediates and anchors as DER; 32 raw bytes
};

/// Reads the files once and checks what was read, so nothing changes between check and use.
std::expected<Credentials, std::vector<CredentialProblem>> load(const CredentialFiles& files,
                                                                std::string_view trust_domain,
                                                                std::chrono::sys_seconds now);

}  // namespace tls
