// TcpTransport over real loopback sockets: every event, both kinds of end, backpressure.
// Not random: stress_test.cc.
#include "proxy/net/tcp_transport.h"

#include "tests/support/loop_fixture.h"
#include "tests/unit/net/peers.h"

namespace proxy::net {
namespace {
using namespace std::chrono_literals;
using test::Acceptor;
using test::chain_of;
using test::LoopFixture;
using test::RawSocket;
using test::Recorder;

// A transport of ours, accepted, and the test's own socket at its other end.
struct Pair {
  Pair() : acceptor(fixture.loop), peer(acceptor.address) {
    fixture.run_until([&] { return !acceptor.accepted.empty(); });
    transport = std::move(acceptor.accepted.front());
    acceptor.accepted.clear();
  }
  void start() {
    transport->start(user);
    fixture.run_until([&] { return user.saw("open"); });
  }
  std::string read_all() {
    std::string all;
    fixture.run_until([&] { return !peer.receive(all); });
    return all;
  }
  LoopFixture fixture;
  Acceptor acceptor;
  RawSocket peer;
  Recorder user;
  std::unique_ptr<TcpTransport> transport;
};

using Events = std::vector<std::string>;

}  // namespace

TEST_CASE("bytes flow both ways and each half ends by itself", "[net]") {
  Pair pair;
  pair.start();
  pair.peer.send("hello");
  REQUIRE(pair.fixture.run_until([&] { return pair.user.received == "hello"; }));
  pair.peer.end();
  REQUIRE(pair.fixture.run_until([&] { return pair.user.saw("eof"); }));
  pair.transport->write(chain_of(pair.fixture.loop, "still "));
  pair.transport->write(chain_of(pair.fixture.loop, "here"));
  pair.transport->shutdown_write();
  CHECK(pair.transport->unsent() == 10);
  CHECK(pair.read_all() == "still here");
  CHECK(pair.user.sent == 10);
  CHECK(pair.transport->unsent() == 0);
  CHECK(pair.user.events == Events{"open", "bytes", "eof", "sent"});
  CHECK_FALSE(pair.transport->local_address().empty());
  CHECK(pair.transport->local_address() == pair.acceptor.address.text());
}

TEST_CASE("nothing comes from inside a call", "[net]") {
  Pair pair;
  {
    const Loop::Turn turn(pair.fixture.loop);
    pair.transport->start(pair.user);
    pair.transport->write(chain_of(pair.fixture.loop, "x"));
    CHECK(pair.user.events.empty());
  }
  CHECK(pair.user.events == Events{"open", "sent"});
}

TEST_CASE("closing by destruction is a clean end, unless a reset is asked for", "[net]") {
  for (const bool reset : {false, true}) {
    CAPTURE(reset);
    Pair pair;
    pair.start();
    pair.transport->write(chain_of(pair.fixture.loop, "part"));
    pair.fixture.settle();
    if (reset) pair.transport->abort_on_close();
    pair.transport.reset();
    std::string all;
    REQUIRE(pair.fixture.run_until([&] { return !pair.peer.receive(all); }));
    CHECK(pair.peer.error() == (reset ? ECONNRESET : 0));
  }
}

TEST_CASE("a reset by the peer is one on_closed and the last event", "[net]") {
  Pair pair;
  pair.start();
  pair.peer.close_with_reset();
  REQUIRE(pair.fixture.run_until([&] { return pair.user.closed(); }));
  CHECK(pair.user.error.code == Code::connection_lost);
  CHECK(pair.user.error.detail == ECONNRESET);
  pair.transport->write(chain_of(pair.fixture.loop, "into the void"));
  pair.transport->shutdown_write();
  pair.transport->set_reading(false);
  pair.transport->set_reading(true);
  pair.fixture.settle();
  CHECK(pair.user.events == Events{"open", "closed"});
}

TEST_CASE("what a peer said before it went is heard although writing fails first", "[net]") {
  Pair pair;
  pair.start();
  pair.transport->write(chain_of(pair.fixture.loop, "unread"));
  pair.fixture.settle();
  pair.peer.send("go away");
  pair.peer.close();  // with "unread" in its queue: RST follows the answer
  {
    // Both in one turn, before the loop looks at the socket again.
    const Loop::Turn turn(pair.fixture.loop);
    pair.transport->write(chain_of(pair.fixture.loop, "more"));
  }
  REQUIRE(pair.fixture.run_until([&] { return pair.user.closed(); }));
  CHECK(pair.user.received == "go away");
  CHECK_FALSE(pair.user.saw("eof"));
  CHECK_FALSE(pair.user.after_closed);
}

TEST_CASE("a failed write closes at once when nobody reads", "[net]") {
  Pair pair;
  pair.start();
  pair.transport->set_reading(false);
  pair.fixture.settle();
  pair.peer.close_with_reset();
  pair.transport->write(chain_of(pair.fixture.loop, "x"));
  REQUIRE(pair.fixture.run_until([&] { return pair.user.closed(); }));
  CHECK(pair.user.events == Events{"open", "closed"});
}

TEST_CASE("while reading is off the peer is made to wait", "[net]") {
  Pair pair;
  pair.transport->set_reading(false);
  pair.start();
  const std::string block(65536, 'b');
  std::size_t sent = 0;
  for (int i = 0; i < 1000; ++i) {
    sent += pair.peer.send(block);
    pair.fixture.settle(1);
  }
  CHECK(pair.user.received.empty());
  CHECK(sent < 1000 * block.size());
  CHECK(pair.fixture.loop.chunks().outstanding_bytes() <= 65536);
  pair.transport->set_reading(true);
  CHECK(pair.fixture.run_until([&] { return pair.user.received.size() == sent; }));
}

TEST_CASE("a slow reader gets everything and on_sent tells of every step", "[net]") {
  Pair pair;
  pair.start();
  std::string text;
  for (int i = 0; i < 1'500'000; ++i) text += std::to_string(i) + ",";
  int steps = 0;
  pair.user.hook = [&](std::string_view event) { steps += event == "sent"; };
  {
    const Loop::Turn turn(pair.fixture.loop);
    for (std::size_t at = 0; at < text.size(); at += 700)
      pair.transport->write(chain_of(pair.fixture.loop, std::string_view(text).substr(at, 700)));
    pair.transport->shutdown_write();
  }
  pair.fixture.settle();
  CHECK(pair.transport->unsent() > 0);
  CHECK(pair.transport->unsent() + pair.user.sent == text.size());
  CHECK(pair.read_all() == text);
  CHECK(pair.user.sent == text.size());
  CHECK(steps > 2);
}

TEST_CASE("a connection can be destroyed with a write under way", "[net]") {
  Pair pair;
  pair.start();
  pair.transport->write(chain_of(pair.fixture.loop, std::string(8'000'000, 'x')));
  pair.fixture.settle();
  REQUIRE(pair.transport->unsent() > 0);
  pair.transport.reset();
}

TEST_CASE("connecting works, and is refused with one event", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  Recorder user;
  auto good = TcpTransport::connect(fixture.loop, acceptor.address);
  good->start(user);
  good->write(chain_of(fixture.loop, "early"));
  REQUIRE(fixture.run_until([&] { return user.sent == 5 && acceptor.accepted.size() == 1; }));
  CHECK(user.events == Events{"open", "sent"});
  CHECK(good->remote_address() == acceptor.address.text());

  SocketAddress closed;
  {
    const auto socket = bind_tcp(*SocketAddress::parse("127.0.0.1", 0), true);
    closed = socket->address();
  }
  Recorder refused;
  auto bad = TcpTransport::connect(fixture.loop, closed);
  bad->start(refused);
  REQUIRE(fixture.run_until([&] { return refused.closed(); }));
  CHECK(refused.events == Events{"closed"});
  CHECK(refused.error.code == Code::connect_failed);
  CHECK(refused.error.detail == ECONNREFUSED);
  CHECK(refused.error.replay == Replay::always);

  // Refused before the kernel sends anything.
  Recorder impossible;
  auto worse = TcpTransport::connect(fixture.loop, *SocketAddress::parse("255.255.255.255", 1));
  worse->start(impossible);
  REQUIRE(fixture.run_until([&] { return impossible.closed(); }));
  CHECK(impossible.error.code == Code::connect_failed);
}

TEST_CASE("another user gets what was put back, then what comes, then the end", "[net]") {
  Pair pair;
  Recorder next;
  pair.user.hook = [&](std::string_view event) {
    if (event != "bytes") return;
    pair.transport->put_back(chain_of(pair.fixture.loop, pair.user.received));
    pair.transport->start(next);
  };
  pair.start();
  pair.peer.send("first");
  REQUIRE(pair.fixture.run_until([&] { return next.received == "first"; }));
  pair.peer.send(" second");
  pair.peer.end();
  REQUIRE(pair.fixture.run_until([&] { return next.saw("eof"); }));
  CHECK(next.received == "first second");
  CHECK(next.events == Events{"open", "bytes", "eof"});
  CHECK(pair.user.events == Events{"open", "bytes"});

  Recorder last;  // after the end: told again
  pair.transport->start(last);
  REQUIRE(pair.fixture.run_until([&] { return last.saw("eof"); }));
  CHECK(last.events == Events{"open", "eof"});
}

TEST_CASE("put back bytes wait for a user who reads", "[net]") {
  Pair pair;
  pair.start();
  pair.transport->set_reading(false);
  pair.transport->put_back(chain_of(pair.fixture.loop, "b"));
  pair.transport->put_back(chain_of(pair.fixture.loop, "a"));
  Recorder next;
  pair.transport->start(next);
  pair.fixture.settle();
  CHECK(next.events == Events{"open"});
  pair.transport->set_reading(true);
  pair.fixture.settle();
  CHECK(next.received == "ab");
}

TEST_CASE("an owner may reap the transport in every event", "[net]") {
  for (const char* when : {"open", "bytes", "eof", "sent", "closed"}) {
    CAPTURE(when);
    Pair pair;
    pair.user.hook = [&](std::string_view event) {
      if (event == "open") pair.transport->write(chain_of(pair.fixture.loop, "x"));
      if (event == when) pair.fixture.loop.reap(std::move(pair.transport));
    };
    pair.transport->start(pair.user);
    pair.peer.send("bytes");
    if (std::string_view(when) == "closed") {
      pair.fixture.settle();
      pair.peer.close_with_reset();
    } else {
      pair.peer.end();
    }
    CHECK(pair.fixture.run_until([&] { return pair.transport == nullptr; }));
  }
}

}  // namespace proxy::net
