// The relay over pipes in memory and over sockets: bytes, half-closes, bounds, ends.
// Not detection, which decides what is relayed.
#include "proxy/tunnel/relay.h"

#include <sys/resource.h>
#include <unistd.h>

#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/tcp_peer.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

struct Rig final : tunnel::RelayOwner {
  explicit Rig(std::chrono::milliseconds idle = 60s, PipeOptions options = {}) {
    auto [client_end, from_client] = PipeTransport::make(fixture.loop, options);
    auto [server_end, to_server] = PipeTransport::make(fixture.loop, options);
    const net::Loop::Turn turn(fixture.loop);
    Chain early;
    early.append_copy(fixture.loop.chunks(), std::string_view("early "));
    from_client->put_back(std::move(early));
    relay =
        std::make_unique<tunnel::Relay>(fixture.loop, std::move(from_client), std::move(to_server),
                                        idle, static_cast<tunnel::RelayOwner&>(*this));
    client = std::make_unique<PipePeer>(std::move(client_end));
    server = std::make_unique<PipePeer>(std::move(server_end));
    relay->start();
  }
  bool may_splice() override { return true; }
  void on_relay_ended(tunnel::Relay&) override {
    ++ended;
    fixture.loop.reap(std::move(relay));
  }
  LoopFixture fixture;
  std::unique_ptr<tunnel::Relay> relay;
  std::unique_ptr<PipePeer> client;
  std::unique_ptr<PipePeer> server;
  int ended = 0;
};

}  // namespace

TEST_CASE("a relay carries bytes both ways, those put back first", "[unit]") {
  Rig rig;
  rig.client->send("hello");
  CHECK(rig.server->take() == "early hello");
  rig.server->send("hi");
  CHECK(rig.client->take() == "hi");
  CHECK(rig.ended == 0);
}

TEST_CASE("a relay carries each half-close, and ends with the second", "[unit]") {
  const bool client_first = GENERATE(true, false);
  Rig rig;
  PipePeer& first = client_first ? *rig.client : *rig.server;
  PipePeer& second = client_first ? *rig.server : *rig.client;
  second.take();
  first.send("last");
  first.shutdown();
  CHECK(second.eof);
  CHECK(second.received.ends_with("last"));
  CHECK(rig.ended == 0);
  second.send("answer");
  CHECK(first.received.ends_with("answer"));
  CHECK_FALSE(first.eof);
  second.shutdown();
  CHECK(first.eof);
  CHECK(rig.ended == 1);
}

TEST_CASE("a relay delivers what waited when both halves have ended", "[unit]") {
  Rig rig(60s, {.capacity = 1000});
  rig.server->pause(true);
  rig.client->send(std::string(30'000, 'x'));
  rig.client->shutdown();
  rig.server->shutdown();
  CHECK(rig.ended == 0);
  rig.server->pause(false);
  CHECK(rig.server->received.size() == 30'006);
  CHECK(rig.server->eof);
  CHECK(rig.ended == 1);
}

TEST_CASE("a relay resets one side when the other is reset", "[unit]") {
  Rig rig;
  SECTION("the client") {
    rig.client->reset();
    CHECK(rig.server->closed);
  }
  SECTION("the server") {
    rig.server->reset();
    CHECK(rig.client->closed);
  }
  CHECK(rig.ended == 1);
}

TEST_CASE("a relay holds a fast sender back", "[unit]") {
  Rig rig(60s, {.capacity = 16 * 1024, .piece = 16 * 1024});
  rig.server->pause(true);
  rig.client->send(std::string(1'000'000, 'x'));
  // Its window, the last piece beyond it, and what the two pipes hold.
  CHECK(rig.client->transport().unsent() > 1'000'000 - 64 * 1024 - 4 * 16 * 1024);
  rig.server->pause(false);
  CHECK(rig.server->received.size() == 1'000'006);
}

TEST_CASE("a silent relay ends by its idle time, one that moves does not", "[unit]") {
  Rig rig(60s);
  for (int i = 0; i < 3; ++i) {
    rig.fixture.advance(50s);
    rig.server->send(".");
  }
  CHECK(rig.ended == 0);
  rig.fixture.advance(61s);
  CHECK(rig.ended == 1);
  CHECK(rig.client->gone());
  CHECK(rig.server->gone());
}

TEST_CASE("a relay without an idle time waits for ever", "[unit]") {
  Rig rig(0s);
  rig.fixture.advance(std::chrono::hours(100));
  CHECK(rig.ended == 0);
}

TEST_CASE("a relay over sockets", "[unit]") {
  struct Owner final : tunnel::RelayOwner {
    bool may_splice() override { return true; }
    void on_relay_ended(tunnel::Relay&) override { ended = true; }
    bool ended = false;
  } owner;
  LoopFixture fixture;
  TestServer server(fixture.loop);
  auto [near_end, far_end] = PipeTransport::make(fixture.loop);
  std::unique_ptr<tunnel::Relay> relay;
  {
    const net::Loop::Turn turn(fixture.loop);
    relay =
        std::make_unique<tunnel::Relay>(fixture.loop, std::move(far_end),
                                        net::TcpTransport::connect(fixture.loop, server.address()),
                                        0ms, static_cast<tunnel::RelayOwner&>(owner));
    relay->start();
  }
  PipePeer pipe(std::move(near_end));
  pipe.send(std::string(60'000, 'y'));
  pipe.shutdown();
  REQUIRE(fixture.run_until([&] { return !server.peers.empty() && server.last().eof; }));
  CHECK(server.last().received == std::string(60'000, 'y'));
  server.last().send("done");
  server.last().close();
  REQUIRE(fixture.run_until([&] { return owner.ended; }));
  CHECK(pipe.received == "done");
  const net::Loop::Turn turn(fixture.loop);
  fixture.loop.reap(std::move(relay));
}

namespace {

// Two bare sockets, as splices join them.
struct Sockets final : tunnel::RelayOwner {
  Sockets() {
    const net::Loop::Turn turn(fixture.loop);
    relay = std::make_unique<tunnel::Relay>(
        fixture.loop, net::TcpTransport::connect(fixture.loop, client.address()),
        net::TcpTransport::connect(fixture.loop, server.address()), 0ms,
        static_cast<tunnel::RelayOwner&>(*this));
    relay->start();
  }
  ~Sockets() override {
    const net::Loop::Turn turn(fixture.loop);
    fixture.loop.reap(std::move(relay));
  }
  // From the client to the server, whose memory is spared.
  void transfer(std::size_t size) {
    REQUIRE(fixture.run_until([&] { return !client.peers.empty() && !server.peers.empty(); }));
    client.last().send(std::string(size, 'x'));
    for (std::size_t got = 0; got < size;) {
      REQUIRE(fixture.run_until([&] { return !server.last().received.empty(); }));
      got += server.last().take().size();
    }
  }
  bool may_splice() override {
    ++asked;
    return plenty;
  }
  void on_relay_ended(tunnel::Relay&) override { ended = true; }

  static constexpr std::size_t kLittle = 1 << 16;

  LoopFixture fixture;
  TestServer client{fixture.loop};
  TestServer server{fixture.loop};
  std::unique_ptr<tunnel::Relay> relay;
  bool plenty = true;
  bool ended = false;
  int asked = 0;
};

}  // namespace

TEST_CASE("a relay between sockets is spliced once much has passed", "[unit]") {
  Sockets sockets;
  sockets.transfer(tunnel::Relay::kSpliceAfter - 1);
  CHECK(sockets.asked == 0);
  CHECK(net::Splice::open_pipe_ends() == 0);
  sockets.transfer(Sockets::kLittle);
  REQUIRE(sockets.fixture.run_until([] { return net::Splice::open_pipe_ends() != 0; }));
  CHECK(net::Splice::open_pipe_ends() == net::Splice::kPipeEnds);
  sockets.transfer(Sockets::kLittle);
  CHECK(sockets.relay->spliced() >= Sockets::kLittle);
  CHECK(sockets.asked == 1);
}

TEST_CASE("a relay that may not splice tries again, but seldom", "[unit]") {
  Sockets sockets;
  sockets.plenty = false;
  sockets.transfer(tunnel::Relay::kSpliceAfter);
  sockets.transfer(tunnel::Relay::kSpliceAgain / 2);
  CHECK(sockets.asked == 1);
  sockets.transfer(tunnel::Relay::kSpliceAgain / 2);
  CHECK(sockets.asked == 2);
  CHECK(sockets.relay->spliced() == 0);
  sockets.plenty = true;
  sockets.transfer(tunnel::Relay::kSpliceAgain);
  REQUIRE(sockets.fixture.run_until([] { return net::Splice::open_pipe_ends() != 0; }));
  sockets.transfer(Sockets::kLittle);
  CHECK(sockets.relay->spliced() >= Sockets::kLittle);
  CHECK(sockets.relay->received() ==
        tunnel::Relay::kSpliceAfter + 2 * tunnel::Relay::kSpliceAgain + Sockets::kLittle);
}

TEST_CASE("a relay without descriptors for a splice goes on, and tries again seldom", "[unit]") {
  Sockets sockets;
  sockets.transfer(Sockets::kLittle);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  // Descriptors are given out lowest first: so many more, and that is all.
  const rlim_t left = GENERATE(1, 3, 5);
  const int next = ::dup(0);
  REQUIRE(next >= 0);
  ::close(next);
  const rlimit few{static_cast<rlim_t>(next) + left, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &few) == 0);
  sockets.transfer(tunnel::Relay::kSpliceAgain);
  const int still = ::dup(0);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(still == next);  // nothing was kept of what it could have
  ::close(still);
  CHECK(sockets.asked == 1);
  CHECK(sockets.relay->spliced() == 0);
  sockets.transfer(tunnel::Relay::kSpliceAgain);
  REQUIRE(sockets.fixture.run_until([] { return net::Splice::open_pipe_ends() != 0; }));
}
