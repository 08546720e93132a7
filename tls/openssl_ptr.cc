// The text of OpenSSL's error queue.
// Not its classification (explain.cc).
#include "tls/openssl_ptr.h"

namespace tls {

std::string take_error_text() {
  const unsigned long error = ERR_get_error();
  ERR_clear_error();
  if (error == 0) return {};
  const char* reason = ERR_reason_error_string(error);
  if (reason != nullptr) return reason;
  char text[160];
  ERR_error_string_n(error, text, sizeof text);
  return text;
}

}  // namespace tls
