// A relay between real sockets under peers that misbehave at random: nothing leaks, nothing hangs,
// memory stays bounded. The rules of lifetime, tried as a whole.
// Not a proxy: bytes only.
#include <algorithm>
#include <list>
#include <random>

#include "proxy/base/credit.h"
#include "proxy/base/link.h"
#include "tests/support/loop_fixture.h"
#include "tests/unit/net/peers.h"

namespace proxy::net {
namespace {
using test::Acceptor;
using test::RawSocket;

constexpr std::size_t kLimit = 65536;
constexpr std::size_t kOvershoot = 2 * 65536;  // one bulk read may pass the limit

struct Totals {
  int live = 0;
  int finished = 0;
  std::size_t most = 0;
};

// Two transports; what one reads the other writes, at most kLimit at a time.
class Relay final : public Reapable, public ListHook<Relay> {
 public:
  Relay(Loop& loop, Totals& totals, std::unique_ptr<Transport> a, std::unique_ptr<Transport> b)
      : loop_(loop), totals_(totals), a_(*this, std::move(a)), b_(*this, std::move(b)) {
    ++totals_.live;
    join(a_, a_.other, b_, b_.other);
    a_.transport->start(a_);
    b_.transport->start(b_);
  }
  ~Relay() override {
    --totals_.live;
    ++totals_.finished;
  }

 private:
  struct Half final : TransportUser {
    Half(Relay& relay, std::unique_ptr<Transport> mine)
        : transport(std::move(mine)), relay_(relay) {}
    void on_open(const tls::HandshakeFacts*) override {}
    void on_bytes(Chain bytes) override {
      credit.delivered(bytes.size());
      relay_.totals_.most = std::max(relay_.totals_.most, credit.outstanding());
      if (other) other->transport->write(std::move(bytes));
      transport->set_reading(credit.may_read());
    }
    void on_eof() override {
      ended = true;
      if (other) other->transport->shutdown_write();
      relay_.maybe_finish();
    }
    void on_sent(std::size_t bytes) override {
      if (other) {
        other->credit.consumed(bytes);
        if (other->credit.may_read()) other->transport->set_reading(true);
      }
      relay_.maybe_finish();
    }
    void on_closed(Error) override { relay_.finish(); }

    LinkEnd<Half> other;
    std::unique_ptr<Transport> transport;
    Credit credit{kLimit};
    bool ended = false;
    Relay& relay_;
  };

  void maybe_finish() {
    if (a_.ended && b_.ended && a_.credit.outstanding() == 0 && b_.credit.outstanding() == 0)
      finish();
  }
  void finish() {
    if (finished_) return;
    finished_ = true;
    a_.other.cut();
    loop_.reap(std::unique_ptr<Relay>(this));
  }

  Loop& loop_;
  Totals& totals_;
  Half a_;
  Half b_;
  bool finished_ = false;
};

// Echoes, and now and then closes or stops in the middle.
class Server final : public ListenerUser {
 public:
  Server(Loop& loop, std::mt19937& random) : loop_(loop), random_(random), listener_(loop, *this) {
    auto socket = bind_tcp(*SocketAddress::parse("127.0.0.1", 0), true);
    address = socket->address();
    static_cast<void>(listener_.listen(std::move(*socket)));
  }
  void on_accept(std::unique_ptr<TcpTransport> transport) override {
    (new Echo(loop_, std::move(transport), random_() % 4 == 0 ? random_() % 100'000 : ~0U))
        ->start();
  }
  void on_accept_failed(int) override {}
  SocketAddress address;

 private:
  struct Echo final : TransportUser, Reapable {
    Echo(Loop& on, std::unique_ptr<TcpTransport> mine, std::size_t until)
        : loop(on), transport(std::move(mine)), dies_after(until) {}
    void start() { transport->start(*this); }
    void on_open(const tls::HandshakeFacts*) override {}
    void on_bytes(Chain bytes) override {
      seen += bytes.size();
      if (seen > dies_after) {
        if (seen % 2 == 0) transport->abort_on_close();
        end();
        return;
      }
      transport->write(std::move(bytes));
      if (transport->unsent() > kLimit) transport->set_reading(false);
    }
    void on_eof() override {
      ended = true;
      transport->shutdown_write();
      if (transport->unsent() == 0) end();
    }
    void on_sent(std::size_t) override {
      if (transport->unsent() == 0) transport->set_reading(true);
      if (ended && transport->unsent() == 0) end();
    }
    void on_closed(Error) override { end(); }
    void end() {
      if (std::exchange(gone, true)) return;
      loop.reap(std::unique_ptr<Echo>(this));
    }
    Loop& loop;
    std::unique_ptr<TcpTransport> transport;
    std::size_t dies_after;
    std::size_t seen = 0;
    bool ended = false;
    bool gone = false;
  };

  Loop& loop_;
  std::mt19937& random_;
  Listener listener_;
};

// One client: what it will do was drawn when it was made.
struct Client {
  Client(const SocketAddress& to, std::mt19937& random)
      : socket(to),
        left(random() % (random() % 4 == 0 ? 600'000 : 20'000)),
        killed_at(random() % 3 == 0 ? random() % (left + 1) : 0),
        read_size(random() % 5 == 0 ? 512 : 65536),
        abrupt(random() % 2 == 0) {}

  // False when it is done.
  bool step() {
    if (left > 0) {
      const std::size_t n = socket.send(std::string(std::min<std::size_t>(left, 30'000), 'c'));
      left -= n;
      sent += n;
      if (left == 0) socket.end();
    }
    if (killed_at > 0 && left <= killed_at) {
      abrupt ? socket.close_with_reset() : socket.close();
      return false;
    }
    const std::size_t before = received.size();
    const bool open = socket.receive(received, read_size);
    count += received.size() - before;
    received.clear();
    return open;
  }
  bool complete() const { return left == 0 && count == sent; }

  RawSocket socket;
  std::size_t left;
  std::size_t killed_at;
  std::size_t read_size;
  bool abrupt;
  std::size_t sent = 0;
  std::size_t count = 0;
  std::string received;
};

}  // namespace

TEST_CASE("400 connections under random faults leave nothing behind", "[net]") {
  for (unsigned seed = 1; seed <= 6; ++seed) {
    CAPTURE(seed);
    test::LoopFixture fixture;
    Loop& loop = fixture.loop;
    std::mt19937 random(seed);
    Totals totals;
    Server server(loop, random);
    Acceptor front(loop);
    front.hook = [&] {
      static_cast<void>(new Relay(loop, totals, std::move(front.accepted.back()),
                                  TcpTransport::connect(loop, server.address)));
      front.accepted.clear();
    };
    std::list<Client> clients;
    int made = 0;
    int complete = 0;
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(5);
    while ((made < 400 || !clients.empty() || totals.finished < 400) &&
           std::chrono::steady_clock::now() < deadline) {
      for (int i = 0; i < 5 && made < 400 && clients.size() < 60; ++i, ++made)
        clients.emplace_back(front.address, random);
      for (auto each = clients.begin(); each != clients.end();) {
        const bool goes_on = each->step();
        complete += !goes_on && each->complete();
        each = goes_on ? std::next(each) : clients.erase(each);
      }
      loop.run_once(false);
    }
    CHECK(totals.finished == 400);
    CHECK(totals.live == 0);
    CHECK(complete > 100);
    CHECK(totals.most <= kLimit + kOvershoot);
  }
}

}  // namespace proxy::net
