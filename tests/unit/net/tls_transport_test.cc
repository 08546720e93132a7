// TlsTransport over loopback: handshake, data under backpressure, every kind of end.
// Not which certificates are good: tls/ tests that.
#include "proxy/net/tls_transport.h"

#include "tests/support/certs.h"
#include "tests/support/loop_fixture.h"
#include "tests/unit/net/peers.h"
#include "tls/context.h"

namespace proxy::net {
namespace {
using namespace std::chrono_literals;
using test::Acceptor;
using test::chain_of;
using test::LoopFixture;
using test::RawSocket;
using test::Recorder;
using Events = std::vector<std::string>;

struct Keys {
  Keys() {
    const ::test::Authority stranger("Other Root");
    tls::ServerSpec server_spec;
    server_spec.files = store(folder, "server", authority.issue(), authority.certificate());
    server = tls::Context::make_server(server_spec).value();
    tls::ClientSpec client_spec;
    client_spec.files = store(folder, "client", authority.issue(), authority.certificate());
    client = tls::Context::make_client(client_spec).value();
    // Trusts the server, but the server does not trust it.
    auto files = store(folder, "bad", stranger.issue(), stranger.certificate());
    client_spec.files = files;
    unknown = tls::Context::make_client(client_spec).value();
  }
  ::test::Folder folder;
  ::test::Authority authority;
  std::shared_ptr<const tls::Context> server;
  std::shared_ptr<const tls::Context> client;
  std::shared_ptr<const tls::Context> unknown;
};

Keys& keys() {
  static Keys made;
  return made;
}

std::unique_ptr<TlsTransport> server_over(std::unique_ptr<Transport> lower) {
  return std::make_unique<TlsTransport>(std::move(lower),
                                        std::make_unique<tls::Session>(keys().server));
}
std::unique_ptr<TlsTransport> client_over(std::unique_ptr<Transport> lower,
                                          const std::shared_ptr<const tls::Context>& context) {
  return std::make_unique<TlsTransport>(
      std::move(lower), std::make_unique<tls::Session>(context, tls::ClientTarget{}));
}

// A client and a server transport of ours, connected by a real socket.
struct Pair {
  explicit Pair(std::shared_ptr<const tls::Context> context = keys().client)
      : acceptor(fixture.loop),
        client(client_over(TcpTransport::connect(fixture.loop, acceptor.address), context)) {
    client->start(client_user);
    fixture.run_until([&] { return !acceptor.accepted.empty(); });
    server = server_over(std::move(acceptor.accepted.front()));
    acceptor.accepted.clear();
    server->start(server_user);
  }
  bool open() {
    return fixture.run_until([&] { return client_user.saw("open") && server_user.saw("open"); });
  }
  LoopFixture fixture;
  Acceptor acceptor;
  Recorder client_user;
  Recorder server_user;
  std::unique_ptr<TlsTransport> client;
  std::unique_ptr<TlsTransport> server;
};

std::string long_text() {
  std::string text;
  for (int i = 0; i < 500'000; ++i) text += std::to_string(i) + ";";
  return text;
}

}  // namespace

TEST_CASE("a handshake opens both ends and data flows both ways", "[net]") {
  Pair pair;
  pair.client->write(chain_of(pair.fixture.loop, "before the handshake is done"));
  REQUIRE(pair.open());
  CHECK(pair.server->peer() != nullptr);
  CHECK(pair.client->peer() != nullptr);
  pair.server->write(chain_of(pair.fixture.loop, "answer"));
  REQUIRE(pair.fixture.run_until([&] { return pair.client_user.received == "answer"; }));
  CHECK(pair.server_user.received == "before the handshake is done");
  CHECK(pair.client_user.sent == pair.server_user.received.size());
  CHECK(pair.server_user.sent == 6);
  CHECK(pair.client->unsent() == 0);
}

TEST_CASE("each half ends by close_notify while the other goes on", "[net]") {
  Pair pair;
  REQUIRE(pair.open());
  pair.client->write(chain_of(pair.fixture.loop, "request"));
  pair.client->shutdown_write();
  REQUIRE(pair.fixture.run_until([&] { return pair.server_user.saw("eof"); }));
  CHECK(pair.server_user.received == "request");
  pair.server->write(chain_of(pair.fixture.loop, "response"));
  pair.server->shutdown_write();
  REQUIRE(pair.fixture.run_until([&] { return pair.client_user.saw("eof"); }));
  CHECK(pair.client_user.received == "response");
  CHECK_FALSE(pair.client_user.closed());
  CHECK_FALSE(pair.server_user.closed());
}

TEST_CASE("much data arrives whole although both ends stop and go", "[net]") {
  Pair pair;
  REQUIRE(pair.open());
  const std::string text = long_text();
  std::size_t most = 0;
  for (auto* side : {&pair.client_user, &pair.server_user}) {
    Transport& transport = side == &pair.client_user ? *pair.client : *pair.server;
    side->hook = [&, side, stops = 0](std::string_view event) mutable {
      if (event == "bytes" && ++stops % 3 == 0) transport.set_reading(false);
      most = std::max(most, pair.fixture.loop.chunks().outstanding_bytes());
      static_cast<void>(side);
    };
  }
  std::size_t given = 0;
  REQUIRE(pair.fixture.run_until(
      [&] {
        for (; given < text.size() && pair.client->unsent() < 65536; given += 10'000) {
          pair.client->write(
              chain_of(pair.fixture.loop, std::string_view(text).substr(given, 10'000)));
          pair.server->write(
              chain_of(pair.fixture.loop, std::string_view(text).substr(given, 10'000)));
        }
        pair.fixture.loop.run_once(false);
        pair.client->set_reading(true);
        pair.server->set_reading(true);
        return pair.client_user.received.size() == text.size() &&
               pair.server_user.received.size() == text.size();
      },
      30s));
  CHECK(pair.client_user.received == text);
  CHECK(pair.server_user.received == text);
  CHECK(pair.fixture.run_until([&] { return pair.client->unsent() + pair.server->unsent() == 0; }));
  CHECK(pair.client_user.sent == text.size());
}

TEST_CASE("reading off bounds what is held", "[net]") {
  Pair pair;
  REQUIRE(pair.open());
  pair.server->set_reading(false);
  const std::string block(50'000, 'x');
  std::size_t given = 0;
  for (int i = 0; i < 2000; ++i) {
    if (pair.client->unsent() < 65536) {
      pair.client->write(chain_of(pair.fixture.loop, block));
      given += block.size();
    }
    pair.fixture.settle(1);
  }
  CHECK(pair.server_user.received.empty());
  CHECK(given < 2000 * block.size());
  CHECK(pair.fixture.loop.chunks().outstanding_bytes() < 600'000);
  pair.server->set_reading(true);
  CHECK(pair.fixture.run_until([&] { return pair.server_user.received.size() == given; }));
}

TEST_CASE("a handshake goes on although reading is off, and its data waits", "[net]") {
  Pair pair;
  pair.server->set_reading(false);
  pair.client->write(chain_of(pair.fixture.loop, "waits"));
  REQUIRE(pair.open());
  pair.fixture.settle(20);
  CHECK(pair.server_user.received.empty());
  pair.server->set_reading(true);
  CHECK(pair.fixture.run_until([&] { return pair.server_user.received == "waits"; }));
}

TEST_CASE("a refused client hears the alert before the end", "[net]") {
  Pair pair(keys().unknown);
  REQUIRE(pair.fixture.run_until(
      [&] { return pair.client_user.closed() && pair.server_user.closed(); }));
  // The client's anchors do not know the server either, so it is the client who refuses.
  CHECK(pair.client_user.error.code == Code::tls_handshake);
  CHECK(pair.client->handshake()->failure == tls::Failure::unknown_ca);
  CHECK(pair.server->handshake()->told_by_peer);
  CHECK(pair.server_user.error.code == Code::tls_handshake);
  pair.fixture.advance(1000ms);
  CHECK(pair.client_user.events == Events{"closed"});
  CHECK(pair.server_user.events == Events{"closed"});
}

TEST_CASE("a peer that does not speak TLS is closed once, with its cause", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  RawSocket peer(acceptor.address);
  REQUIRE(fixture.run_until([&] { return acceptor.accepted.size() == 1; }));
  Recorder user;
  auto server = server_over(std::move(acceptor.accepted.front()));
  server->start(user);
  peer.send("GET / HTTP/1.1\r\n\r\n");
  std::string answer;
  REQUIRE(fixture.run_until([&] { return !peer.receive(answer); }));
  CHECK_FALSE(user.closed());  // lingers until the peer has gone or its time is over
  fixture.advance(600ms);
  CHECK(user.events == Events{"closed"});
  CHECK(user.error.code == Code::tls_handshake);
  CHECK(server->handshake()->failure == tls::Failure::not_tls);
  peer.close_with_reset();
  fixture.settle(10);
  CHECK(user.events == Events{"closed"});
}

TEST_CASE("an end without close_notify is a lost connection, not an end", "[net]") {
  Pair pair;
  REQUIRE(pair.open());
  pair.client->write(chain_of(pair.fixture.loop, "half a mess"));
  REQUIRE(pair.fixture.run_until([&] { return !pair.server_user.received.empty(); }));
  pair.client.reset();
  REQUIRE(pair.fixture.run_until([&] { return pair.server_user.closed(); }));
  CHECK(pair.server_user.error.code == Code::connection_lost);
  CHECK_FALSE(pair.server_user.saw("eof"));
  pair.fixture.advance(2000ms);
  CHECK(pair.server_user.events == Events{"open", "bytes", "closed"});
}

TEST_CASE("an end in the handshake is told once, with its cause", "[net]") {
  Pair pair;
  pair.client.reset();
  REQUIRE(pair.fixture.run_until([&] { return pair.server_user.closed(); }));
  CHECK(pair.server_user.error.code == Code::tls_handshake);
  CHECK(pair.server->handshake()->failure == tls::Failure::closed);
  CHECK(pair.server_user.events == Events{"closed"});
}

TEST_CASE("a refused connect stays one under TLS", "[net]") {
  LoopFixture fixture;
  SocketAddress closed;
  {
    const auto socket = bind_tcp(*SocketAddress::parse("127.0.0.1", 0), true);
    closed = socket->address();
  }
  Recorder user;
  auto client = client_over(TcpTransport::connect(fixture.loop, closed), keys().client);
  client->start(user);
  REQUIRE(fixture.run_until([&] { return user.closed(); }));
  CHECK(user.error.code == Code::connect_failed);
  CHECK(user.events == Events{"closed"});
}

TEST_CASE("ciphertext chopped into single bytes gives the same", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  Acceptor middle(fixture.loop);
  // A relay that hands on one byte at a time towards the server.
  Recorder client_user, server_user;
  auto client = client_over(TcpTransport::connect(fixture.loop, middle.address), keys().client);
  client->start(client_user);
  REQUIRE(fixture.run_until([&] { return middle.accepted.size() == 1; }));
  RawSocket up(acceptor.address);
  REQUIRE(fixture.run_until([&] { return acceptor.accepted.size() == 1; }));
  auto server = server_over(std::move(acceptor.accepted.front()));
  server->start(server_user);
  Recorder relay;
  middle.accepted.front()->start(relay);
  std::size_t given = 0;
  std::string back;
  client->write(chain_of(fixture.loop, "in pieces"));
  REQUIRE(fixture.run_until([&] {
    for (int i = 0; i < 20 && given < relay.received.size(); ++i) {
      given += up.send(std::string_view(relay.received).substr(given, 1));
      fixture.loop.run_once(false);
    }
    back.clear();
    up.receive(back);
    if (!back.empty()) middle.accepted.front()->write(chain_of(fixture.loop, back));
    fixture.loop.run_once(false);
    return server_user.received == "in pieces";
  }));
}

TEST_CASE("TLS can begin in mid-stream, with the first bytes put back", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  Recorder client_user, detector, server_user;
  auto client = client_over(TcpTransport::connect(fixture.loop, acceptor.address), keys().client);
  client->start(client_user);
  REQUIRE(fixture.run_until([&] { return acceptor.accepted.size() == 1; }));
  std::unique_ptr<TcpTransport> lower = std::move(acceptor.accepted.front());
  std::unique_ptr<TlsTransport> server;
  detector.hook = [&](std::string_view event) {
    if (event != "bytes" || server) return;
    lower->put_back(chain_of(fixture.loop, detector.received));
    server = server_over(std::move(lower));
    server->start(server_user);
  };
  lower->start(detector);
  REQUIRE(fixture.run_until([&] { return client_user.saw("open") && server_user.saw("open"); }));
}

}  // namespace proxy::net
