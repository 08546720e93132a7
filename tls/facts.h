// What a TLS handshake came to, in plain values: role, failure cause, negotiated parameters.
// Not how it is counted or logged; callers translate these into their own metrics and lines.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tls {

enum class Role : std::uint8_t { server, client };

/// Why a handshake (or, later, judge()) refused the other side. `timeout` and a transport's own
/// end (`closed`, when the peer goes away in the middle) are set by callers through
/// Session::note_failure(); everything else is found by tls/.
enum class Failure : std::uint8_t {
  none,
  no_certificate,   // one was required and none came
  unknown_ca,       // the chain does not lead to a certificate of the CA file
  expired,          // a certificate of the chain is past its notAfter
  not_yet_valid,    // a certificate of the chain is before its notBefore
  wrong_san,        // not exactly one SPIFFE URI SAN, other trust domain, or not an expected name
  bad_certificate,  // unreadable, wrong purpose, too weak
  version,          // no common TLS version (1.2 is the minimum)
  not_tls,          // the first bytes are no TLS, such as a plaintext HTTP request
  alert_from_peer,  // the peer sent a fatal alert that names none of the causes above
  timeout,          // set by callers
  closed,           // the peer ended the connection before the handshake was done
  other,            // anything else; detail has OpenSSL's words
};

/// The enumerator's name, for a metric label or a log field. Static storage.
std::string_view name(Failure failure) noexcept;

struct HandshakeFacts {
  std::string_view version;  // "TLSv1.3", "TLSv1.2"; empty before the handshake is done; static
  std::string_view cipher;   // OpenSSL's name, "TLS_AES_128_GCM_SHA256"; static
  std::string alpn;          // negotiated protocol; empty when none
  std::string sni;           // sent (client) or received (server); empty when none
  std::string detail;        // for one log line: what went wrong and what to do; empty when none
  Failure failure = Failure::none;
  bool told_by_peer = false;  // failure was learnt from the peer's alert: it refused us
  bool resumed = false;
};

}  // namespace tls
