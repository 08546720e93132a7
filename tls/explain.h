// Turns OpenSSL's error codes and alerts into a Failure and a sentence that says what to do.
// Not certificate verification (verify.h), whose findings come with their own sentence.
#pragma once

#include <string>
#include <string_view>

#include "tls/facts.h"

namespace tls {

struct Explanation {
  Failure failure = Failure::other;
  bool told_by_peer = false;
  std::string detail;
};

/// `error` is an entry of OpenSSL's queue (ERR_get_error). `own_identity` is this side's SPIFFE
/// URI.
Explanation explain(Role own_role, unsigned long error, std::string_view own_identity);

/// The sentence for a failure that needs no OpenSSL error: no_certificate, not_tls, timeout,
/// closed.
std::string explain_plain(Role own_role, Failure failure);

}  // namespace tls
