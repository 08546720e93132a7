// Binding and accepting: who may share an address, what happens without descriptors.
// Not what is done with a connection.
#include "proxy/net/listener.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "tests/support/loop_fixture.h"
#include "tests/unit/net/peers.h"

namespace proxy::net {
namespace {
using namespace std::chrono_literals;
using test::Acceptor;
using test::LoopFixture;
using test::RawSocket;

struct Counter : ListenerUser {
  void on_accept(std::unique_ptr<TcpTransport>) override { ++count; }
  void on_accept_failed(int) override {}
  int count = 0;
};

}  // namespace

TEST_CASE("an address in use is an error, but our own workers may join", "[net]") {
  LoopFixture fixture;
  for (const char* host : {"127.0.0.1", "::1"}) {
    CAPTURE(host);
    auto first = bind_tcp(*SocketAddress::parse(host, 0), true);
    REQUIRE(first);
    const SocketAddress address = first->address();
    CHECK(address.port() != 0);

    const auto thief = bind_tcp(address, true);
    REQUIRE_FALSE(thief);
    CHECK(thief.error().code == Code::system);
    CHECK(thief.error().detail == EADDRINUSE);

    auto second = bind_tcp(address, false);
    REQUIRE(second);
    CHECK_FALSE(bind_tcp(address, true));

    std::array<Counter, 2> counters;
    Listener one(fixture.loop, counters[0]);
    Listener two(fixture.loop, counters[1]);
    REQUIRE(one.listen(std::move(*first)));
    REQUIRE(two.listen(std::move(*second)));
    CHECK_FALSE(bind_tcp(address, true));
    std::vector<RawSocket> clients;
    for (int i = 0; i < 64; ++i) clients.emplace_back(address);
    CHECK(fixture.run_until([&] { return counters[0].count + counters[1].count == 64; }));
    CHECK(counters[0].count > 0);  // misses once in 2^64
    CHECK(counters[1].count > 0);
  }
}

TEST_CASE("a port can be bound again right after it was used", "[net]") {
  LoopFixture fixture;
  SocketAddress address;
  {
    Acceptor acceptor(fixture.loop);
    address = acceptor.address;
    const RawSocket client(address);
    CHECK(fixture.run_until([&] { return acceptor.accepted.size() == 1; }));
  }
  fixture.settle();
  CHECK(bind_tcp(address, true));
}

TEST_CASE("an accepted connection is all there is: no descriptor means waiting", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  REQUIRE(acceptor.listening);
  std::vector<RawSocket> clients;
  for (int i = 0; i < 3; ++i) clients.emplace_back(acceptor.address);

  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const int free_fd = ::dup(0);
  ::close(free_fd);
  const rlimit none{static_cast<rlim_t>(free_fd), before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  const bool failed = fixture.run_until([&] { return acceptor.failures.size() >= 3; });
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(failed);
  CHECK(acceptor.failures.front() == EMFILE);
  CHECK(acceptor.accepted.empty());
  CHECK(fixture.run_until([&] { return acceptor.accepted.size() == 3; }));
  // Nobody was hung up on meanwhile.
  std::string text;
  for (RawSocket& client : clients) CHECK(client.receive(text));
}

TEST_CASE("without descriptors the loop waits instead of spinning", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  const RawSocket client(acceptor.address);
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const int free_fd = ::dup(0);
  ::close(free_fd);
  const rlimit none{static_cast<rlim_t>(free_fd), before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  const auto start = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - start < 450ms) fixture.loop.run_once(true);
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(!acceptor.failures.empty());
  CHECK(acceptor.failures.size() <= 6);
}

TEST_CASE("a listener may be destroyed from its own callback", "[net]") {
  LoopFixture fixture;
  auto socket = bind_tcp(*SocketAddress::parse("127.0.0.1", 0), true);
  REQUIRE(socket);
  const SocketAddress address = socket->address();
  struct Once : ListenerUser {
    void on_accept(std::unique_ptr<TcpTransport>) override {
      ++count;
      listener.reset();
    }
    void on_accept_failed(int) override {}
    int count = 0;
    std::unique_ptr<Listener> listener;
  } once;
  once.listener = std::make_unique<Listener>(fixture.loop, once);
  REQUIRE(once.listener->listen(std::move(*socket)));
  std::vector<RawSocket> clients;
  for (int i = 0; i < 4; ++i) clients.emplace_back(address);
  CHECK(fixture.run_until([&] { return once.count > 0; }));
  fixture.settle();
  CHECK(once.count == 1);
  CHECK_FALSE(RawSocket(address).connected());
}

TEST_CASE("finishing takes in who is waiting and then refuses", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  std::vector<RawSocket> clients;
  for (int i = 0; i < 40; ++i) clients.emplace_back(acceptor.address);
  acceptor.listener.finish();
  CHECK(acceptor.accepted.size() == 40);
  CHECK_FALSE(RawSocket(acceptor.address).connected());
  acceptor.listener.finish();  // again: nothing
}

TEST_CASE("kept out: no handshake begins, and those that did are accepted", "[net]") {
  LoopFixture fixture;
  Acceptor acceptor(fixture.loop);
  RawSocket early(acceptor.address);
  acceptor.listener.stop_new();
  const BoundSocket late(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  CHECK(::connect(late.get(), acceptor.address.get(), acceptor.address.length()) == -1);
  CHECK(errno == EINPROGRESS);
  pollfd connected{.fd = late.get(), .events = POLLOUT, .revents = 0};
  CHECK(::poll(&connected, 1, 100) == 0);
  acceptor.listener.finish();
  CHECK(acceptor.accepted.size() == 1);
}

}  // namespace proxy::net
