// Decides whether a certificate chain is an acceptable peer: chain, dates, SPIFFE URI, trust
// domain. Not authorization: which accepted identity may do what is a filter's question.
#include "tls/verify.h"

#include <fmt/format.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>

namespace tls {
namespace {

std::chrono::sys_seconds to_time(const ASN1_TIME* when) noexcept {
  std::tm parts{};
  if (when == nullptr || ASN1_TIME_to_tm(when, &parts) != 1) return {};
  return std::chrono::sys_seconds(std::chrono::seconds(::timegm(&parts)));
}

std::string who(const PeerRules& rules, const PeerIdentity& identity) {
  const std::string_view side = rules.own_role == Role::server ? "client" : "server";
  const std::string_view name = !identity.spiffe_uri.empty() ? identity.spiffe_uri
                                : !identity.subject.empty()  ? std::string_view(identity.subject)
                                                             : "without a subject";
  return fmt::format("the {}'s certificate ({})", side, name);
}

Failure cause_of(int error) {
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return Failure::expired;
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return Failure::not_yet_valid;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_UNTRUSTED:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:  // another CA of the same name
      return Failure::unknown_ca;
    default:
      return Failure::bad_certificate;
  }
}

std::string chain_detail(const PeerRules& rules, const PeerIdentity& identity, Failure failure,
                         int error, const X509* at) {
  const std::string subject = who(rules, identity);
  switch (failure) {
    case Failure::expired:
      return fmt::format(
          "{} or its issuer expired at {}, it is {} here: renew it, or compare both "
          "clocks",
          subject, time_text(not_after(at)), time_text(rules.now));
    case Failure::not_yet_valid:
      return fmt::format("{} is valid only from {}, it is {} here: compare both clocks", subject,
                         time_text(not_before(at)), time_text(rules.now));
    case Failure::unknown_ca:
      return fmt::format(
          "{} is signed by no CA of this side's CA file: use certificates of one "
          "CA on both sides, or add its CA to mtls.ca",
          subject);
    default:
      return fmt::format("{} is not usable: {}", subject, X509_verify_cert_error_string(error));
  }
}

// After the chain: exactly one URI SAN, a SPIFFE ID of our trust domain, and an expected one.
void judge_identity(const PeerRules& rules, int uri_sans, Verdict& verdict) {
  const PeerIdentity& identity = verdict.identity;
  const std::string subject = who(rules, identity);
  if (uri_sans != 1) {
    verdict.detail = fmt::format("{} has {} URI SANs, a workload has exactly one, its SPIFFE ID",
                                 subject, uri_sans);
  } else if (identity.spiffe_uri.empty()) {
    verdict.detail =
        fmt::format("the URI SAN of {} is no SPIFFE ID (spiffe://TRUST_DOMAIN/...)", subject);
  } else if (identity.trust_domain() != rules.trust_domain) {
    verdict.detail = fmt::format(
        "{} is of trust domain '{}', this side is in '{}': give both the same "
        "mtls.trust_domain and certificates of it",
        subject, identity.trust_domain(), rules.trust_domain);
  } else if (!rules.expected_sans.empty() &&
             std::find(rules.expected_sans.begin(), rules.expected_sans.end(),
                       identity.spiffe_uri) == rules.expected_sans.end()) {
    verdict.detail = fmt::format(
        "{} is not among the expected names ({}): correct the service's "
        "expected SANs, or its endpoints",
        subject, fmt::join(rules.expected_sans, ", "));
  } else {
    return;
  }
  verdict.failure = Failure::wrong_san;
  verdict.x509_error = X509_V_ERR_HOSTNAME_MISMATCH;  // alert bad_certificate
}

}  // namespace

std::chrono::sys_seconds not_after(const X509* certificate) noexcept {
  return to_time(certificate != nullptr ? X509_get0_notAfter(certificate) : nullptr);
}

std::chrono::sys_seconds not_before(const X509* certificate) noexcept {
  return to_time(certificate != nullptr ? X509_get0_notBefore(certificate) : nullptr);
}

std::string time_text(std::chrono::sys_seconds when) {
  const std::time_t seconds = when.time_since_epoch().count();
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

Failure check_dates(const X509* leaf, std::chrono::sys_seconds now) noexcept {
  if (now > not_after(leaf)) return Failure::expired;
  if (now < not_before(leaf)) return Failure::not_yet_valid;
  return Failure::none;
}

Verdict verify_peer(const PeerRules& rules, X509* leaf, STACK_OF(X509) * untrusted) {
  Verdict verdict;
  int uri_sans = 0;
  verdict.identity = identity_of(leaf, uri_sans);
  X509StoreCtxPtr ctx(X509_STORE_CTX_new());
  if (!ctx || X509_STORE_CTX_init(ctx.get(), rules.anchors, leaf, untrusted) != 1) {
    verdict.failure = Failure::other;
    verdict.x509_error = X509_V_ERR_OUT_OF_MEM;
    verdict.detail = take_error_text();
    return verdict;
  }
  X509_STORE_CTX_set_default(ctx.get(),
                             rules.own_role == Role::server ? "ssl_client" : "ssl_server");
  X509_VERIFY_PARAM* param = X509_STORE_CTX_get0_param(ctx.get());
  X509_VERIFY_PARAM_set_time(param, rules.now.time_since_epoch().count());
  X509_VERIFY_PARAM_set_auth_level(param, kSecurityLevel);
  if (X509_verify_cert(ctx.get()) != 1) {
    verdict.x509_error = X509_STORE_CTX_get_error(ctx.get());
    if (verdict.x509_error == X509_V_OK) verdict.x509_error = X509_V_ERR_UNSPECIFIED;
    verdict.failure = cause_of(verdict.x509_error);
    verdict.detail = chain_detail(rules, verdict.identity, verdict.failure, verdict.x509_error,
                                  X509_STORE_CTX_get_current_cert(ctx.get()));
  } else {
    judge_identity(rules, uri_sans, verdict);
  }
  ERR_clear_error();
  if (verdict.failure != Failure::none) verdict.identity = {};
  return verdict;
}

}  // namespace tls
