// Names of the failure causes.
// Not their sentences, which explain.cc and verify.cc write.
#include "tls/facts.h"

namespace tls {

std::string_view name(Failure failure) noexcept {
  switch (failure) {
    case Failure::none:
      return "none";
    case Failure::no_certificate:
      return "no_certificate";
    case Failure::unknown_ca:
      return "unknown_ca";
    case Failure::expired:
      return "expired";
    case Failure::not_yet_valid:
      return "not_yet_valid";
    case Failure::wrong_san:
      return "wrong_san";
    case Failure::bad_certificate:
      return "bad_certificate";
    case Failure::version:
      return "version";
    case Failure::not_tls:
      return "not_tls";
    case Failure::alert_from_peer:
      return "alert_from_peer";
    case Failure::timeout:
      return "timeout";
    case Failure::closed:
      return "closed";
    case Failure::other:
      return "other";
  }
  return "other";
}

}  // namespace tls
