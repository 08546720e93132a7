// Two Sessions joined in memory, with every byte in the test's hands.
// Not a transport: pump() moves what is there and returns when nothing moves any more.
#pragma once

#include <openssl/ssl.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/catch.h"
#include "tests/support/certs.h"
#include "tls/alpn.h"
#include "tls/session.h"

namespace test {

/// Collects ciphertext; hands out room in pieces of `piece` bytes at most.
class Wire final : public tls::CipherSink {
 public:
  std::span<std::byte> room(std::size_t wanted) override {
    room_.resize(std::min(wanted, piece));
    return room_;
  }
  void commit(std::size_t n) override {
    bytes.insert(bytes.end(), room_.begin(), room_.begin() + static_cast<std::ptrdiff_t>(n));
  }

  std::size_t piece = 1 << 20;
  std::vector<std::byte> bytes;

 private:
  std::vector<std::byte> room_;
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// One end: a Session, what it wrote and what it read.
struct End {
  template <class... Args>
  explicit End(Args&&... args) : session(std::forward<Args>(args)...) {}

  tls::Session session;
  Wire out;
  std::string got;
  tls::Session::Status status = tls::Session::Status::want_input;

  bool failed() const { return status == tls::Session::Status::failed; }
  tls::Failure failure() const { return session.facts().failure; }

  /// Feeds `cipher` in pieces of `chop` bytes, reading through a buffer of `buffer` bytes.
  void feed(std::span<const std::byte> cipher, std::size_t chop, std::size_t buffer) {
    std::vector<std::byte> plain(buffer);
    while (!cipher.empty() && !failed()) {
      std::span<const std::byte> piece = cipher.first(std::min(chop, cipher.size()));
      cipher = cipher.subspan(piece.size());
      do {
        const auto result = session.read(piece, plain, out);
        got.append(reinterpret_cast<const char*>(plain.data()), result.plain);
        status = result.status;
      } while (status == tls::Session::Status::more);
      // Thrown, not required: Catch2's assertions are for one thread only.
      if (status == tls::Session::Status::want_input && !piece.empty())
        throw std::logic_error("want_input, but input was left");
      if (status == tls::Session::Status::closed) return;
    }
  }

  bool write(std::string_view text) {
    const std::span<const std::byte> slices[] = {as_bytes(text)};
    return session.write(slices, out);
  }
};

struct Link {
  Link(std::shared_ptr<const tls::Context> client_context,
       std::shared_ptr<const tls::Context> server_context, tls::ClientTarget target = {})
      : client(std::move(client_context), std::move(target)), server(std::move(server_context)) {}

  End client;
  End server;
  std::size_t chop = 1 << 20;
  std::size_t buffer = 4096;
  std::size_t client_to_server = 0;  // bytes that have gone over
  std::size_t server_to_client = 0;

  Link& handshake() {
    client.session.start(client.out);
    pump();
    return *this;
  }

  void pump() {
    while (!client.out.bytes.empty() || !server.out.bytes.empty()) {
      const auto to_server = std::exchange(client.out.bytes, {});
      client_to_server += to_server.size();
      server.feed(to_server, chop, buffer);
      const auto to_client = std::exchange(server.out.bytes, {});
      server_to_client += to_client.size();
      client.feed(to_client, chop, buffer);
    }
  }

  bool both_done() const {
    return client.session.handshake_done() && server.session.handshake_done() && !client.failed() &&
           !server.failed();
  }
};

/// A plain OpenSSL client without any of our rules, over memory BIOs. Without `files` it has no
/// certificate.
class RawClient {
 public:
  explicit RawClient(int version, const tls::CredentialFiles* files = nullptr)
      : ctx_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(ctx_.get(), 0);
    SSL_CTX_set_min_proto_version(ctx_.get(), version);
    SSL_CTX_set_max_proto_version(ctx_.get(), version);
    SSL_CTX_set_session_cache_mode(ctx_.get(), SSL_SESS_CACHE_CLIENT);
    if (files != nullptr) {
      SSL_CTX_use_certificate_chain_file(ctx_.get(), files->certificate.c_str());
      SSL_CTX_use_PrivateKey_file(ctx_.get(), files->key.c_str(), SSL_FILETYPE_PEM);
    }
    ssl_.reset(SSL_new(ctx_.get()));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(ssl_.get());
  }

  void offer(SSL_SESSION* session) { SSL_set_session(ssl_.get(), session); }

  /// The handshake, and what comes right after it (tickets).
  void run(End& server) {
    for (int round = 0; round < 10; ++round) {
      if (SSL_do_handshake(ssl_.get()) == 1) {
        char byte = 0;
        SSL_read(ssl_.get(), &byte, 1);
      }
      std::vector<std::byte> sent(65536);
      const int n = BIO_read(SSL_get_wbio(ssl_.get()), sent.data(), static_cast<int>(sent.size()));
      if (n <= 0) break;
      server.feed(std::span(sent).first(static_cast<std::size_t>(n)), 65536, 4096);
      const auto back = std::exchange(server.out.bytes, {});
      BIO_write(SSL_get_rbio(ssl_.get()), back.data(), static_cast<int>(back.size()));
      if (server.failed()) break;
    }
    char byte = 0;
    SSL_read(ssl_.get(), &byte, 1);
    ERR_clear_error();
  }

  tls::SslSessionPtr session() { return tls::SslSessionPtr(SSL_get1_session(ssl_.get())); }
  bool resumed() const { return SSL_session_reused(ssl_.get()) == 1; }

 private:
  tls::SslCtxPtr ctx_;
  tls::SslPtr ssl_;
};

inline constexpr std::string_view kWeb = "spiffe://cluster.local/ns/default/sa/web";
inline constexpr std::string_view kShop = "spiffe://cluster.local/ns/prod/sa/shop";

/// A mesh of one CA with a client (shop) and a server (web), and the specs to vary.
struct Mesh {
  Mesh() {
    server.files = store(folder, "server", ca.issue(kWeb), ca.certificate());
    server.alpn = tls::alpn::list(tls::alpn::kServerHttp);
    server.ticket_secret = tls::make_ticket_secret();
    server.clock = &server_clock;
    client.files = store(folder, "client", ca.issue(kShop), ca.certificate());
    client.clock = &client_clock;
  }

  static std::shared_ptr<const tls::Context> good(tls::Context::Made made) {
    if (!made) FAIL(tls::describe(made.error()));
    return std::move(*made);
  }
  std::shared_ptr<const tls::Context> server_context() const {
    return good(tls::Context::make_server(server));
  }
  std::shared_ptr<const tls::Context> client_context() const {
    return good(tls::Context::make_client(client));
  }

  ClockReset clocks;
  Folder folder;
  Authority ca;
  tls::ServerSpec server;
  tls::ClientSpec client;
};

}  // namespace test
