// Turns OpenSSL's error codes and alerts into a Failure and a sentence that says what to do.
// Not certificate verification (verify.cc), whose findings come with their own sentence.
#include "tls/explain.h"

#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

namespace tls {
namespace {

std::string_view other_side(Role own_role) {
  return own_role == Role::server ? "client" : "server";
}

// A fatal alert that was received has the reason SSL_AD_REASON_OFFSET + its number.
Explanation explain_alert(Role own_role, int alert, std::string_view own_identity) {
  const std::string_view peer = other_side(own_role);
  const std::string own = fmt::format("this side's certificate ({})", own_identity);
  switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED:
    case SSL_AD_NO_CERTIFICATE:
      return {Failure::no_certificate, true,
              fmt::format("the {} requires a certificate and got none: set mtls.cert and mtls.key",
                          peer)};
    case SSL_AD_UNKNOWN_CA:
      return {Failure::unknown_ca, true,
              fmt::format("the {} does not trust the CA that signed {}: use certificates of one CA "
                          "on both sides, or add this CA to its CA file",
                          peer, own)};
    case SSL_AD_CERTIFICATE_EXPIRED:
      return {
          Failure::expired, true,
          fmt::format("the {} says {} has expired: renew it, or compare both clocks", peer, own)};
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_ACCESS_DENIED:
      return {Failure::bad_certificate, true,
              fmt::format("the {} refused {}: its log says why (often another trust domain, an "
                          "unexpected name, or dates)",
                          peer, own)};
    case SSL_AD_PROTOCOL_VERSION:
      return {Failure::version, true,
              fmt::format("the {} accepts neither TLS 1.2 nor 1.3: allow one of them there", peer)};
    default:
      return {Failure::alert_from_peer, true,
              fmt::format("the {} ended the handshake with alert {} ({}): see its log", peer, alert,
                          SSL_alert_desc_string_long(alert))};
  }
}

}  // namespace

Explanation explain(Role own_role, unsigned long error, std::string_view own_identity) {
  const int reason = ERR_GET_REASON(error);
  const bool from_ssl = ERR_GET_LIB(error) == ERR_LIB_SSL;
  if (from_ssl && reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
    return explain_alert(own_role, reason - SSL_AD_REASON_OFFSET, own_identity);
  const std::string_view peer = other_side(own_role);
  if (from_ssl) {
    switch (reason) {
      case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
        return {Failure::no_certificate, false, explain_plain(own_role, Failure::no_certificate)};
      case SSL_R_HTTP_REQUEST:
      case SSL_R_HTTPS_PROXY_REQUEST:
      case SSL_R_WRONG_VERSION_NUMBER:
        return {Failure::not_tls, false, explain_plain(own_role, Failure::not_tls)};
      case SSL_R_UNSUPPORTED_PROTOCOL:
      case SSL_R_VERSION_TOO_LOW:
      case SSL_R_WRONG_SSL_VERSION:
      case SSL_R_NO_PROTOCOLS_AVAILABLE:
        return {Failure::version, false,
                fmt::format("the {} offers no TLS version from 1.2 on: update it", peer)};
      case SSL_R_NO_SHARED_CIPHER:
      case SSL_R_NO_SUITABLE_KEY_SHARE:
      case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
      case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
        return {Failure::other, false,
                fmt::format("no cipher, group or signature algorithm in common with the {}: allow "
                            "ECDHE with AES-GCM there",
                            peer)};
      default:
        break;
    }
  }
  const char* words = ERR_reason_error_string(error);
  return {Failure::other, false,
          fmt::format("TLS with the {} failed: {}", peer,
                      words != nullptr ? words : "no reason given by OpenSSL")};
}

std::string explain_plain(Role own_role, Failure failure) {
  const bool server = own_role == Role::server;
  switch (failure) {
    case Failure::no_certificate:
      return server ? "the client sent no certificate: put it behind a sidecar with mTLS "
                      "(mtls.mode permissive takes it without one, unless it offers Istio's ALPN)"
                    : "the server sent no certificate: check what listens at this address";
    case Failure::not_tls:
      return server ? "the client speaks no TLS (plaintext?): let it use mTLS, or set mtls.mode to "
                      "permissive"
                    : "the server answered with no TLS: it listens in plaintext, so set this "
                      "service's tls mode to off, or give the server a sidecar";
    case Failure::timeout:
      return server ? "the client did not finish the handshake in time (timeouts.tls)"
                    : "the server did not finish the handshake in time (timeouts.tls): is it "
                      "overloaded, or does something else listen there?";
    case Failure::closed:
      return server ? "the client closed the connection during the handshake: its log may say why"
                    : "the server closed the connection during the handshake: does it serve TLS on "
                      "this port?";
    default:
      return fmt::format("TLS with the {} failed", other_side(own_role));
  }
}

}  // namespace tls
