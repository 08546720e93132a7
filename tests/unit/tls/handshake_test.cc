// Handshakes between two sessions: who is accepted, who is refused, and with which cause.
// Not resumption (resumption_test.cc) and not the transfer of data (transfer_test.cc).
#include "tests/unit/tls/pair.h"

using test::Authority;
using test::Link;
using test::Mesh;
using tls::Failure;

namespace {

// The server's credentials of a mesh, replaced by `pair` judged by `ca`.
tls::CredentialFiles replace(Mesh& mesh, const char* name, const tls::PemPair& pair,
                             const Authority& ca) {
  return store(mesh.folder, name, pair, ca.certificate());
}

}  // namespace

TEST_CASE("both sides learn each other's identity and the same parameters") {
  Mesh mesh;
  tls::ClientTarget target;
  target.sni = "outbound_.8080_._.web.default.svc.cluster.local";
  target.expected_sans = {std::string(test::kWeb)};
  target.alpn = tls::alpn::list(tls::alpn::kClientHttp11);
  Link link(mesh.client_context(), mesh.server_context(), target);
  CHECK(link.client.session.peer() == nullptr);
  link.handshake();
  REQUIRE(link.both_done());
  for (const test::End* end : {&link.client, &link.server}) {
    const tls::HandshakeFacts& facts = end->session.facts();
    CHECK(facts.version == "TLSv1.3");
    CHECK(facts.cipher == "TLS_AES_128_GCM_SHA256");
    CHECK(facts.alpn == "http/1.1");
    CHECK(facts.sni == target.sni);
    CHECK(facts.failure == Failure::none);
    CHECK(facts.detail.empty());
    CHECK_FALSE(facts.resumed);
  }
  const tls::PeerIdentity* shop = link.server.session.peer();
  REQUIRE(shop != nullptr);
  CHECK(shop->spiffe_uri == test::kShop);
  CHECK(shop->trust_domain() == "cluster.local");
  CHECK(shop->ns() == "prod");
  CHECK(shop->sa() == "shop");
  CHECK(shop->sha256_hex.size() == 64);
  CHECK(shop->not_after > tls::system_now());
  REQUIRE(link.client.session.peer() != nullptr);
  CHECK(link.client.session.peer()->spiffe_uri == test::kWeb);
}

TEST_CASE("the server chooses ALPN from its own list") {
  struct Row {
    std::vector<std::string> offer;
    std::vector<std::string> serves;
    std::string chosen;
  };
  using tls::alpn::list;
  const Row rows[] = {
      {list(tls::alpn::kClientHttp10), list(tls::alpn::kServerHttp), ""},
      {list(tls::alpn::kClientHttp11), list(tls::alpn::kServerHttp), "http/1.1"},
      {list(tls::alpn::kClientHttp2), list(tls::alpn::kServerHttp), "h2"},
      {{"http/1.1", "h2"}, list(tls::alpn::kServerHttp), "h2"},
      {list(tls::alpn::kClientTcp), list(tls::alpn::kServerTcp), "istio-peer-exchange"},
      {list(tls::alpn::kClientTcp), list(tls::alpn::kServerHttp), ""},
      {{}, list(tls::alpn::kServerHttp), ""},
      {{"h2"}, {}, ""},
      {{std::string(255, 'x')}, {std::string(255, 'x')}, std::string(255, 'x')},
  };
  Mesh mesh;
  for (const Row& row : rows) {
    mesh.server.alpn = row.serves;
    tls::ClientTarget target;
    target.alpn = row.offer;
    Link link(mesh.client_context(), mesh.server_context(), target);
    link.handshake();
    REQUIRE(link.both_done());
    CHECK(link.server.session.facts().alpn == row.chosen);
    CHECK(link.client.session.facts().alpn == row.chosen);
  }
}

TEST_CASE("a client without a certificate is refused when one is required, let in when not") {
  Mesh mesh;
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    mesh.server.require_client_certificate = true;
    test::End strict(mesh.server_context());
    test::RawClient(version).run(strict);
    REQUIRE(strict.failed());
    CHECK(strict.failure() == Failure::no_certificate);
    CHECK_FALSE(strict.session.facts().told_by_peer);
    CHECK(strict.session.facts().detail.find("mtls.mode") != std::string::npos);
    CHECK(strict.session.peer() == nullptr);

    mesh.server.require_client_certificate = false;
    test::End lenient(mesh.server_context());
    test::RawClient(version).run(lenient);
    CHECK(lenient.session.handshake_done());
    CHECK(lenient.session.peer() == nullptr);
    CHECK(lenient.session.judge(*mesh.server_context()).has_value());
    mesh.server.require_client_certificate = true;
    const auto judged = lenient.session.judge(*mesh.server_context());
    REQUIRE_FALSE(judged.has_value());
    CHECK(judged.error() == Failure::no_certificate);
  }
}

TEST_CASE("a client certificate of another CA is refused and the client is told") {
  Mesh mesh;
  const Authority other("Test Root");  // even of the same name
  // The client trusts both, so only the server has something to refuse.
  mesh.client.files = store(mesh.folder, "stranger", other.issue(test::kShop),
                            other.certificate() + mesh.ca.certificate());
  Link link(mesh.client_context(), mesh.server_context());
  link.handshake();
  REQUIRE(link.server.failed());
  CHECK(link.server.failure() == Failure::unknown_ca);
  CHECK(link.server.session.facts().detail.find("mtls.ca") != std::string::npos);
  REQUIRE(link.client.failed());
  CHECK(link.client.failure() == Failure::unknown_ca);
  CHECK(link.client.session.facts().told_by_peer);
}

TEST_CASE("a server certificate of another CA is refused and the server is told") {
  Mesh mesh;
  const Authority other("Other Root");
  mesh.server.files = store(mesh.folder, "stranger", other.issue(test::kWeb),
                            other.certificate() + mesh.ca.certificate());
  Link link(mesh.client_context(), mesh.server_context());
  link.handshake();
  REQUIRE(link.client.failed());
  CHECK(link.client.failure() == Failure::unknown_ca);
  CHECK_FALSE(link.client.session.facts().told_by_peer);
  REQUIRE(link.server.failed());
  CHECK(link.server.failure() == Failure::unknown_ca);
  CHECK(link.server.session.facts().told_by_peer);
}

TEST_CASE("expired and not yet valid certificates are refused on both sides") {
  using std::chrono::hours;
  Mesh mesh;
  SECTION("the client's has expired") {
    test::move_server_clock(hours(48));
    mesh.server.files = replace(mesh, "long", mesh.ca.issue({.until = hours(96)}), mesh.ca);
    Link link(mesh.client_context(), mesh.server_context());
    link.handshake();
    CHECK(link.server.failure() == Failure::expired);
    CHECK(link.server.session.facts().detail.find("clocks") != std::string::npos);
    CHECK(link.client.failure() == Failure::expired);
    CHECK(link.client.session.facts().told_by_peer);
  }
  SECTION("the server's has expired") {
    test::move_client_clock(hours(48));
    mesh.client.files = replace(mesh, "long", mesh.ca.issue({.until = hours(96)}), mesh.ca);
    Link link(mesh.client_context(), mesh.server_context());
    link.handshake();
    CHECK(link.client.failure() == Failure::expired);
    CHECK(link.server.failure() == Failure::expired);
    CHECK(link.server.session.facts().told_by_peer);
  }
  SECTION("the client's is not yet valid") {
    mesh.server.files = replace(mesh, "long", mesh.ca.issue({.from = -hours(96)}), mesh.ca);
    test::move_server_clock(-hours(48));
    Link link(mesh.client_context(), mesh.server_context());
    link.handshake();
    CHECK(link.server.failure() == Failure::not_yet_valid);
  }
}

TEST_CASE("the server must be one of the expected names") {
  Mesh mesh;
  tls::ClientTarget target;
  const std::string other = "spiffe://cluster.local/ns/default/sa/other";
  SECTION("one of several") {
    target.expected_sans = {other, std::string(test::kWeb)};
    CHECK(Link(mesh.client_context(), mesh.server_context(), target).handshake().both_done());
  }
  SECTION("another") {
    target.expected_sans = {other};
    Link link(mesh.client_context(), mesh.server_context(), target);
    link.handshake();
    REQUIRE(link.client.failed());
    CHECK(link.client.failure() == Failure::wrong_san);
    CHECK(link.client.session.facts().detail.find(test::kWeb) != std::string::npos);
    CHECK(link.client.session.facts().detail.find(other) != std::string::npos);
    REQUIRE(link.server.failed());
    CHECK(link.server.failure() == Failure::bad_certificate);
    CHECK(link.server.session.facts().told_by_peer);
  }
  SECTION("a prefix is another") {
    target.expected_sans = {std::string(test::kWeb) + "x", "spiffe://cluster.local/ns/default"};
    Link link(mesh.client_context(), mesh.server_context(), target);
    link.handshake();
    CHECK(link.client.failure() == Failure::wrong_san);
  }
}

TEST_CASE("identities that are not exactly one SPIFFE ID of the trust domain are refused") {
  Mesh mesh;
  std::vector<std::string> sans;
  std::string word;
  SECTION("another trust domain") {
    sans = {"spiffe://evil.example/ns/prod/sa/shop"};
    word = "evil.example";
  }
  SECTION("a trust domain that only begins alike") {
    sans = {"spiffe://cluster.local.evil.example/ns/prod/sa/shop"};
    word = "trust domain";
  }
  SECTION("two") {
    sans = {std::string(test::kShop), std::string(test::kWeb)};
    word = "2 URI SANs";
  }
  SECTION("none") {
    sans = {};
    word = "0 URI SANs";
  }
  SECTION("one that is no SPIFFE ID") {
    sans = {"https://cluster.local/ns/prod/sa/shop"};
    word = "no SPIFFE ID";
  }
  SECTION("one with a NUL in it") {
    sans = {std::string(test::kShop) + std::string(1, '\0') + ".evil"};
    word = "no SPIFFE ID";
  }
  // Our own Context would not load such a certificate, so the client is OpenSSL itself.
  const auto files =
      store(mesh.folder, "odd", mesh.ca.issue({.uri_sans = sans}), mesh.ca.certificate());
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    test::End server(mesh.server_context());
    test::RawClient(version, &files).run(server);
    REQUIRE(server.failed());
    CHECK(server.failure() == Failure::wrong_san);
    INFO(server.session.facts().detail);
    CHECK(server.session.facts().detail.find(word) != std::string::npos);
    CHECK(server.session.peer() == nullptr);
  }
}

TEST_CASE("intermediates that come with the leaf complete the chain") {
  Mesh mesh;
  const Authority middle("Test Intermediate", mesh.ca);
  mesh.client.files = store(mesh.folder, "via", middle.issue(test::kShop), mesh.ca.certificate());
  Link link(mesh.client_context(), mesh.server_context());
  link.handshake();
  REQUIRE(link.both_done());
  CHECK(link.server.session.peer()->spiffe_uri == test::kShop);
  CHECK(link.server.session.judge(*mesh.server_context()).has_value());
}

TEST_CASE("TLS 1.1 is refused as a version") {
  Mesh mesh;
  test::End server(mesh.server_context());
  test::RawClient(TLS1_1_VERSION, &mesh.client.files).run(server);
  REQUIRE(server.failed());
  CHECK(server.failure() == Failure::version);
}

TEST_CASE("TLS 1.2 is accepted") {
  Mesh mesh;
  test::End server(mesh.server_context());
  test::RawClient(TLS1_2_VERSION, &mesh.client.files).run(server);
  CHECK(server.session.handshake_done());
  CHECK(server.session.facts().version == "TLSv1.2");
  REQUIRE(server.session.peer() != nullptr);
  CHECK(server.session.peer()->spiffe_uri == test::kShop);
}

TEST_CASE("plaintext on either side is no TLS") {
  Mesh mesh;
  for (const std::string_view text :
       {std::string_view("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), std::string_view("\0\1\2", 3),
        std::string_view("SSH-2.0-x\r\n"), std::string_view("\x80\x2e\x01\x03\x01", 5)}) {
    test::End server(mesh.server_context());
    server.feed(test::as_bytes(text), 1, 100);
    REQUIRE(server.failed());
    CHECK(server.failure() == Failure::not_tls);
    CHECK(server.session.facts().detail.find("plaintext") != std::string::npos);
    // It stays failed and gives nothing more.
    server.feed(test::as_bytes(text), 1000, 100);
    CHECK(server.failed());
  }
  test::End client(mesh.client_context(), tls::ClientTarget{});
  client.session.start(client.out);
  client.feed(test::as_bytes("HTTP/1.1 400 Bad Request\r\n\r\n"), 5, 100);
  REQUIRE(client.failed());
  CHECK(client.failure() == Failure::not_tls);
}

TEST_CASE("garbage behind a TLS record header fails without a crash") {
  Mesh mesh;
  for (unsigned seed = 1; seed < 200; ++seed) {
    std::string text("\x16\x03\x01", 3);
    unsigned state = seed;
    for (int i = 0; i < 600; ++i) {
      state = state * 1103515245 + 12345;
      text.push_back(static_cast<char>(state >> 16));
    }
    text[3] = 0;  // a record that is all there
    test::End server(mesh.server_context());
    server.feed(test::as_bytes(text), 100, 100);
    CHECK(server.failed());
    CHECK(server.failure() != Failure::none);
  }
}

TEST_CASE("close_notify in the middle of a handshake is a close") {
  Mesh mesh;
  test::End client(mesh.client_context(), tls::ClientTarget{});
  client.session.start(client.out);
  client.feed(test::as_bytes(std::string_view("\x15\x03\x03\x00\x02\x01\x00", 7)), 100, 100);
  REQUIRE(client.failed());
  CHECK(client.failure() == Failure::closed);
}

TEST_CASE("fatal alerts become causes") {
  Mesh mesh;
  const std::pair<char, Failure> rows[] = {
      {116, Failure::no_certificate}, {48, Failure::unknown_ca}, {45, Failure::expired},
      {42, Failure::bad_certificate}, {70, Failure::version},    {40, Failure::alert_from_peer},
      {120, Failure::alert_from_peer}};
  for (const auto& [alert, failure] : rows) {
    test::End client(mesh.client_context(), tls::ClientTarget{});
    client.session.start(client.out);
    const char text[] = {0x15, 3, 3, 0, 2, 2, alert};
    client.feed(test::as_bytes(std::string_view(text, sizeof text)), 100, 100);
    REQUIRE(client.failed());
    CHECK(client.failure() == failure);
    CHECK(client.session.facts().told_by_peer);
    CHECK_FALSE(client.session.facts().detail.empty());
  }
}

TEST_CASE("a caller's timeout is kept as the cause, but not over one that is known") {
  Mesh mesh;
  test::End client(mesh.client_context(), tls::ClientTarget{});
  client.session.start(client.out);
  client.session.note_failure(Failure::timeout);
  CHECK(client.failure() == Failure::timeout);
  CHECK(client.session.facts().detail.find("timeouts.tls") != std::string::npos);
  client.session.note_failure(Failure::closed);
  CHECK(client.failure() == Failure::timeout);
}

TEST_CASE("judge asks whether a live session's peer would still be accepted") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  const tls::Session& session = link.server.session;
  CHECK(session.judge(*mesh.server_context()).has_value());
  const auto refused = [&](const tls::Context& present) {
    const auto judged = session.judge(present);
    return judged ? Failure::none : judged.error();
  };

  const Authority other("Other Root");
  const auto old_files = mesh.server.files;
  mesh.server.files = store(mesh.folder, "new", other.issue(test::kWeb), other.certificate());
  CHECK(refused(*mesh.server_context()) == Failure::unknown_ca);
  // Both CAs, as in a rotation.
  mesh.server.files = store(mesh.folder, "both", other.issue(test::kWeb),
                            other.certificate() + mesh.ca.certificate());
  CHECK(refused(*mesh.server_context()) == Failure::none);
  mesh.server.files = store(mesh.folder, "moved", mesh.ca.issue("spiffe://new.domain/ns/a/sa/b"),
                            mesh.ca.certificate());
  mesh.server.trust_domain = "new.domain";
  CHECK(refused(*mesh.server_context()) == Failure::wrong_san);
  mesh.server.trust_domain = "cluster.local";
  mesh.server.files = old_files;
  const auto same = mesh.server_context();
  test::move_server_clock(std::chrono::hours(25));
  CHECK(refused(*same) == Failure::expired);
}
