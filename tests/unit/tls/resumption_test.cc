// Resumption: it works, across reloads of the same files too, and never widens access.
// Not the client's store by itself (client_sessions_test.cc).
#include <array>

#include "tests/unit/tls/pair.h"

using std::chrono::hours;
using std::chrono::minutes;
using test::Authority;
using test::Link;
using test::Mesh;
using tls::Failure;

namespace {

using ContextPtr = std::shared_ptr<const tls::Context>;

tls::ClientTarget to_web(tls::ClientSessions& sessions) {
  tls::ClientTarget target;
  target.sni = "web";
  target.sessions = &sessions;
  target.session_key = "127.0.0.1:8443";
  return target;
}

// One connection; whether it was resumed, after checking that both sides agree.
bool resumed(const ContextPtr& client, const ContextPtr& server, tls::ClientSessions& sessions) {
  Link link(client, server, to_web(sessions));
  link.handshake();
  INFO(link.server.session.facts().detail);
  INFO(link.client.session.facts().detail);
  REQUIRE(link.both_done());
  REQUIRE(link.server.session.peer() != nullptr);
  REQUIRE(link.client.session.peer() != nullptr);
  CHECK(link.server.session.peer()->sa() == "shop");
  CHECK(link.client.session.peer()->sa() == "web");
  CHECK(link.client.session.facts().resumed == link.server.session.facts().resumed);
  CHECK(link.server.session.judge(*server).has_value());
  CHECK(link.client.session.judge(*client).has_value());
  REQUIRE(link.client.write("ping"));
  link.pump();
  CHECK(link.server.got == "ping");
  return link.server.session.facts().resumed;
}

// Gives `to` what lets it open the tickets of `from`, as if nothing that matters had changed: the
// checks behind the ticket keys have to hold alone.
void copy_ticket_keys(const ContextPtr& from, const ContextPtr& to) {
  std::array<unsigned char, 80> keys;
  REQUIRE(SSL_CTX_get_tlsext_ticket_keys(from->native(), keys.data(), keys.size()) == 1);
  REQUIRE(SSL_CTX_set_tlsext_ticket_keys(to->native(), keys.data(), keys.size()) == 1);
  const std::string& id = from->fingerprint();
  REQUIRE(SSL_CTX_set_session_id_context(to->native(),
                                         reinterpret_cast<const unsigned char*>(id.data()),
                                         static_cast<unsigned>(id.size())) == 1);
}

}  // namespace

TEST_CASE("the second connection is resumed, and so are later ones") {
  Mesh mesh;
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    const auto server = mesh.server_context();
    const auto client = mesh.client_context();
    SSL_CTX_set_max_proto_version(client->native(), version);
    tls::ClientSessions sessions;
    CHECK_FALSE(resumed(client, server, sessions));
    for (int i = 0; i < 5; ++i) CHECK(resumed(client, server, sessions));
    CHECK(sessions.size() == 1);
  }
}

TEST_CASE("without a store nothing is resumed") {
  Mesh mesh;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  for (int i = 0; i < 2; ++i) {
    Link link(client, server);
    REQUIRE(link.handshake().both_done());
    CHECK_FALSE(link.client.session.facts().resumed);
  }
}

TEST_CASE("a reload of the same files keeps sessions, another secret does not") {
  Mesh mesh;
  tls::ClientSessions sessions;
  CHECK_FALSE(resumed(mesh.client_context(), mesh.server_context(), sessions));
  CHECK(resumed(mesh.client_context(), mesh.server_context(), sessions));
  mesh.server.ticket_secret = tls::make_ticket_secret();
  CHECK_FALSE(resumed(mesh.client_context(), mesh.server_context(), sessions));
  mesh.server.ticket_secret.reset();
  CHECK_FALSE(resumed(mesh.client_context(), mesh.server_context(), sessions));
}

TEST_CASE("a client with intermediates is resumed, its whole chain judged") {
  Mesh mesh;
  const Authority middle("Test Intermediate", mesh.ca);
  mesh.client.files = store(mesh.folder, "via", middle.issue(test::kShop), mesh.ca.certificate());
  tls::ClientSessions sessions;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  CHECK_FALSE(resumed(client, server, sessions));
  CHECK(resumed(client, server, sessions));
}

TEST_CASE("any change of CA, certificate or trust domain means a full handshake") {
  Mesh mesh;
  tls::ClientSessions sessions;
  CHECK_FALSE(resumed(mesh.client_context(), mesh.server_context(), sessions));
  const Authority extra("Extra Root");
  SECTION("the server's certificate") {
    mesh.server.files =
        store(mesh.folder, "next", mesh.ca.issue(test::kWeb), mesh.ca.certificate());
  }
  SECTION("the server's CA file") {
    mesh.folder.write("server.ca", mesh.ca.certificate() + extra.certificate());
  }
  SECTION("the client's certificate") {
    mesh.client.files =
        store(mesh.folder, "next", mesh.ca.issue(test::kShop), mesh.ca.certificate());
  }
  SECTION("the client's CA file") {
    mesh.folder.write("client.ca", mesh.ca.certificate() + extra.certificate());
  }
  SECTION("whether certificates are required") {
    mesh.server.require_client_certificate = false;
  }
  CHECK_FALSE(resumed(mesh.client_context(), mesh.server_context(), sessions));
  CHECK(resumed(mesh.client_context(), mesh.server_context(), sessions));
}

TEST_CASE("a changed trust domain ends sessions") {
  Mesh mesh;
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  const auto before = mesh.server_context();
  CHECK_FALSE(resumed(client, before, sessions));
  mesh.server.files = store(mesh.folder, "moved", mesh.ca.issue("spiffe://new.domain/ns/a/sa/b"),
                            mesh.ca.certificate());
  mesh.server.trust_domain = "new.domain";
  const auto after = mesh.server_context();
  const bool same_keys = GENERATE(false, true);
  if (same_keys) copy_ticket_keys(before, after);
  Link link(client, after, to_web(sessions));
  link.handshake();
  // Each side refuses the other; the client judges first.
  CHECK(link.client.failure() == Failure::wrong_san);
  CHECK(link.server.failed());
  CHECK_FALSE(link.server.session.facts().resumed);
}

TEST_CASE("an expired client certificate is not resumed") {
  Mesh mesh;
  mesh.server.files =
      store(mesh.folder, "long", mesh.ca.issue({.until = hours(96)}), mesh.ca.certificate());
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  const auto server = mesh.server_context();
  SSL_CTX_set_max_proto_version(client->native(), GENERATE(TLS1_2_VERSION, TLS1_3_VERSION));
  CHECK_FALSE(resumed(client, server, sessions));
  CHECK(resumed(client, server, sessions));
  test::move_server_clock(hours(25));
  Link link(client, server, to_web(sessions));
  link.handshake();
  REQUIRE(link.server.failed());
  CHECK(link.server.failure() == Failure::expired);
  CHECK_FALSE(link.server.session.facts().resumed);
  CHECK(link.server.session.peer() == nullptr);
}

TEST_CASE("an expired server certificate is not resumed by the client") {
  Mesh mesh;
  mesh.client.files =
      store(mesh.folder, "long",
            mesh.ca.issue({.uri_sans = {std::string(test::kShop)}, .until = hours(96)}),
            mesh.ca.certificate());
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  const auto server = mesh.server_context();
  CHECK_FALSE(resumed(client, server, sessions));
  test::move_client_clock(hours(25));
  Link link(client, server, to_web(sessions));
  link.handshake();
  REQUIRE(link.client.failed());
  CHECK(link.client.failure() == Failure::expired);
  CHECK_FALSE(link.client.session.facts().resumed);
  CHECK(sessions.size() == 0);
}

TEST_CASE("a server whose own certificate has expired opens no ticket") {
  Mesh mesh;
  tls::ClientSessions sessions;
  mesh.client.files =
      store(mesh.folder, "long",
            mesh.ca.issue({.uri_sans = {std::string(test::kShop)}, .until = hours(96)}),
            mesh.ca.certificate());
  const auto client = mesh.client_context();
  const auto server = mesh.server_context();
  CHECK_FALSE(resumed(client, server, sessions));
  CHECK(resumed(client, server, sessions));
  test::move_server_clock(hours(25));
  CHECK_FALSE(resumed(client, server, sessions));
}

TEST_CASE("a removed CA is not resumed") {
  Mesh mesh;
  const Authority next("Next Root");
  // The client trusts both, so that only the server's side decides.
  mesh.folder.write("client.ca", mesh.ca.certificate() + next.certificate());
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  SSL_CTX_set_max_proto_version(client->native(), GENERATE(TLS1_2_VERSION, TLS1_3_VERSION));
  const auto before = mesh.server_context();
  CHECK_FALSE(resumed(client, before, sessions));
  mesh.server.files = store(mesh.folder, "next", next.issue(test::kWeb), next.certificate());
  const auto after = mesh.server_context();
  const bool same_keys = GENERATE(false, true);
  if (same_keys) copy_ticket_keys(before, after);
  Link link(client, after, to_web(sessions));
  link.handshake();
  REQUIRE(link.server.failed());
  CHECK(link.server.failure() == Failure::unknown_ca);
  CHECK_FALSE(link.server.session.facts().resumed);
}

TEST_CASE("a session without a client certificate does not pass where one is required") {
  Mesh mesh;
  mesh.server.require_client_certificate = false;
  const auto lenient = mesh.server_context();
  mesh.server.require_client_certificate = true;
  const auto strict = mesh.server_context();
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  test::RawClient first(version);
  test::End open(lenient);
  first.run(open);
  REQUIRE(open.session.handshake_done());
  const auto session = first.session();

  test::End again(lenient);
  test::RawClient second(version);
  second.offer(session.get());
  second.run(again);
  CHECK(again.session.facts().resumed);
  CHECK(again.session.peer() == nullptr);

  copy_ticket_keys(lenient, strict);
  test::End refused(strict);
  test::RawClient third(version);
  third.offer(session.get());
  third.run(refused);
  REQUIRE(refused.failed());
  CHECK(refused.failure() == Failure::no_certificate);
  CHECK_FALSE(refused.session.facts().resumed);
}

TEST_CASE("a session is not offered when its server is no longer an expected name") {
  Mesh mesh;
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  const auto server = mesh.server_context();
  CHECK_FALSE(resumed(client, server, sessions));
  tls::ClientTarget target = to_web(sessions);
  target.expected_sans = {"spiffe://cluster.local/ns/default/sa/other"};
  Link link(client, server, target);
  link.handshake();
  CHECK(link.client.failure() == Failure::wrong_san);
  CHECK_FALSE(link.client.session.facts().resumed);
}

TEST_CASE("a ticket's lifetime ends with the first of the two certificates") {
  Mesh mesh;
  const int version = GENERATE(TLS1_2_VERSION, TLS1_3_VERSION);
  const auto lifetime = [&] {
    test::End server(mesh.server_context());
    test::RawClient client(version, &mesh.client.files);
    client.run(server);
    REQUIRE(server.session.handshake_done());
    const auto session = client.session();
    REQUIRE(SSL_SESSION_has_ticket(session.get()) == 1);
    return minutes(SSL_SESSION_get_ticket_lifetime_hint(session.get()) / 60);
  };
  CHECK(lifetime() == hours(2));
  mesh.client.files =
      store(mesh.folder, "short",
            mesh.ca.issue({.uri_sans = {std::string(test::kShop)}, .until = minutes(40)}),
            mesh.ca.certificate());
  CHECK(lifetime() <= minutes(40));
  CHECK(lifetime() >= minutes(38));
  mesh.server.files =
      store(mesh.folder, "shorter", mesh.ca.issue({.until = minutes(20)}), mesh.ca.certificate());
  CHECK(lifetime() <= minutes(20));
  CHECK(lifetime() >= minutes(18));
}

TEST_CASE("a client forgets a session when its lifetime is over") {
  Mesh mesh;
  tls::ClientSessions sessions;
  const auto client = mesh.client_context();
  const auto server = mesh.server_context();
  CHECK_FALSE(resumed(client, server, sessions));
  test::move_client_clock(minutes(119));
  CHECK(resumed(client, server, sessions));
  test::move_client_clock(minutes(119 + 121));
  CHECK_FALSE(resumed(client, server, sessions));
}
