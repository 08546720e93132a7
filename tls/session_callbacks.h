// The functions OpenSSL calls back, for all Sessions: BIO, verification, tickets, ALPN.
// Private to tls/: context.cc registers them, session_callbacks.cc has them.
#pragma once

#include <cstddef>

#include "tls/openssl_ptr.h"

namespace tls {

class Session;

struct SessionCallbacks {
  /// The BIO that reads from the bytes being fed and writes into the caller's room. Its data
  /// pointer is the Session. Made once per process, never freed.
  static const BIO_METHOD* bio_method();

  static int verify(X509_STORE_CTX* ctx, void* unused) noexcept;
  static int new_session(SSL* ssl, SSL_SESSION* session) noexcept;
  static int make_ticket(SSL* ssl, void* unused) noexcept;
  static SSL_TICKET_RETURN open_ticket(SSL* ssl, SSL_SESSION* session,
                                       const unsigned char* key_name, std::size_t key_name_size,
                                       SSL_TICKET_STATUS status, void* unused) noexcept;
  static int choose_alpn(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                         const unsigned char* offer, unsigned offer_size, void* unused) noexcept;

 private:
  static int bio_read(BIO* bio, char* into, int size) noexcept;
  static int bio_write(BIO* bio, const char* from, int size) noexcept;
  static long bio_ctrl(BIO* bio, int command, long number, void* pointer) noexcept;
};

}  // namespace tls
