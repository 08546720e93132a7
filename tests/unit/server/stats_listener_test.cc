// The stats listener over real sockets: its pages, compression, slow and leaving scrapers.
// Not the metrics' text itself (unit_telemetry).
#include "proxy/server/stats_listener.h"

#include "telemetry/record.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/tcp_peer.h"
#include "tests/unit/server/support.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;
using server::StatsListener;

namespace {

struct Rig {
  explicit Rig(std::size_t label_sets = 3, StatsListener::Pages pages = StatsListener::Pages::all)
      : collector([] {
          telemetry::Collector::Options options;
          options.label_sets = 2000;
          return options;
        }()) {
    telemetry::Shard& shard = collector.add_shard();
    telemetry::SeriesCache cache;
    const telemetry::DestinationRef destination = shard.intern_destination({"a", "b", "c"});
    for (std::size_t i = 0; i < label_sets; ++i) {
      telemetry::RequestFacts facts;
      facts.response_code = static_cast<std::uint16_t>(100 + i);
      facts.destination = destination;
      shard.request_started(1);
      telemetry::record(shard, facts, 0, cache);
    }
    collector.retire(shard);
    listener =
        std::make_unique<StatsListener>(fixture.loop, collector, pages, [this] { return ready; });
    auto socket = net::bind_tcp(*net::SocketAddress::parse("127.0.0.1", 0), true);
    address = socket->address();
    REQUIRE(listener->listen(std::move(*socket)));
  }
  std::unique_ptr<TcpPeer> connect() {
    return std::make_unique<TcpPeer>(net::TcpTransport::connect(fixture.loop, address));
  }
  // A request on a connection of its own and all of its answer.
  std::string ask(const std::string& request_line, const std::string& fields = "") {
    auto peer = connect();
    peer->send(request_line + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + fields + "\r\n");
    CHECK(fixture.run_until([&] { return peer->gone(); }));
    return peer->take();
  }
  ~Rig() {
    const net::Loop::Turn turn(fixture.loop);
    listener.reset();
  }

  LoopFixture fixture;
  telemetry::Collector collector;
  bool ready = true;
  std::unique_ptr<StatsListener> listener;
  net::SocketAddress address;
};

bool is(const std::string& response, int status) {
  return response.starts_with("HTTP/1.1 " + std::to_string(status) + " ");
}

// Lines whose values do not change from scrape to scrape.
std::string steady(const std::string& text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    if (line.starts_with("istio_")) out += line + "\n";
    at = end + 1;
  }
  return out;
}

}  // namespace

TEST_CASE("the pages of the stats listener", "[unit]") {
  Rig rig;
  CHECK(is(rig.ask("GET /stats/prometheus"), 200));
  CHECK(is(rig.ask("GET /stats/prometheus?a=b"), 200));
  CHECK(is(rig.ask("GET /healthz/ready"), 200));
  CHECK(is(rig.ask("GET /healthz/live"), 200));
  for (const char* path : {"/", "/stats", "/stats/prometheus/", "/healthz", "/healthz/ready/x",
                           "/STATS/PROMETHEUS", "//stats/prometheus", "/stats%2fprometheus"}) {
    INFO(path);
    CHECK(is(rig.ask(std::string("GET ") + path), 404));
  }
  for (const char* method : {"POST", "PUT", "DELETE", "OPTIONS", "PATCH"}) {
    INFO(method);
    const std::string answer = rig.ask(std::string(method) + " /stats/prometheus");
    CHECK(is(answer, 405));
    CHECK(answer.find("allow: GET, HEAD\r\n") != std::string::npos);
    CHECK(is(rig.ask(std::string(method) + " /nowhere"), 404));
  }
  CHECK(is(rig.ask("GET http://x/healthz/ready"), 200));
  CHECK(is(rig.ask("BREW /"), 501));
  CHECK(is(rig.ask("CONNECT x:1"), 405));
}

TEST_CASE("not ready is 503, and alive all the same", "[unit]") {
  Rig rig;
  rig.ready = false;
  CHECK(is(rig.ask("GET /healthz/ready"), 503));
  CHECK(is(rig.ask("GET /healthz/live"), 200));
  CHECK(is(rig.ask("GET /stats/prometheus"), 200));
}

TEST_CASE("the readiness listener has nothing else", "[unit]") {
  Rig rig(3, StatsListener::Pages::ready_only);
  CHECK(is(rig.ask("GET /healthz/ready"), 200));
  CHECK(is(rig.ask("GET /healthz/live"), 404));
  CHECK(is(rig.ask("GET /stats/prometheus"), 404));
}

TEST_CASE("HEAD answers without a body and the connection goes on", "[unit]") {
  Rig rig;
  auto peer = rig.connect();
  for (const char* path : {"/stats/prometheus", "/healthz/ready", "/none"}) {
    peer->take();
    peer->send(std::string("HEAD ") + path + " HTTP/1.1\r\nHost: x\r\n\r\n");
    REQUIRE(rig.fixture.run_until([&] { return peer->received.ends_with("\r\n\r\n"); }));
    CHECK(peer->received.find("\r\n\r\n") == peer->received.size() - 4);
    CHECK_FALSE(peer->has("connection: close"));
  }
  peer->take();
  peer->send("GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n");
  REQUIRE(rig.fixture.run_until([&] { return peer->has("ok\n"); }));
}

TEST_CASE("a scrape is text 0.0.4, plain or compressed, the same", "[unit]") {
  Rig rig(300);
  const std::string plain = rig.ask("GET /stats/prometheus");
  CHECK(plain.find("content-type: text/plain; version=0.0.4; charset=utf-8\r\n") !=
        std::string::npos);
  const std::string text = body_of(plain);
  CHECK(text.find("\nistio_requests_total{") != std::string::npos);
  const std::string packed =
      rig.ask("GET /stats/prometheus", "Accept-Encoding: deflate, gzip;q=0.5\r\n");
  CHECK(packed.find("content-encoding: gzip\r\n") != std::string::npos);
  CHECK(packed.size() < plain.size() / 4);
  CHECK(steady(gunzip(body_of(packed))) == steady(text));
  CHECK(plain.find("content-encoding") == std::string::npos);
  CHECK(
      rig.ask("GET /stats/prometheus", "Accept-Encoding: gzip;q=0\r\n").find("content-encoding") ==
      std::string::npos);
  CHECK(rig.ask("GET /stats/prometheus", "Accept-Encoding: br\r\nAccept-Encoding: gzip\r\n")
            .find("content-encoding: gzip\r\n") != std::string::npos);
}

TEST_CASE("an old client's scrape ends with its connection", "[unit]") {
  Rig rig;
  auto peer = rig.connect();
  peer->send("GET /stats/prometheus HTTP/1.0\r\n\r\n");
  REQUIRE(rig.fixture.run_until([&] { return peer->eof; }));
  CHECK(peer->has("istio_build"));
  CHECK_FALSE(peer->has("chunked"));
}

TEST_CASE("a slow scraper holds one piece of the text, not all of it", "[unit]") {
  Rig rig(1500);
  auto peer = rig.connect();
  peer->pause(true);
  const std::size_t before = rig.fixture.loop.chunks().outstanding();
  peer->send("GET /stats/prometheus HTTP/1.1\r\nHost: x\r\n\r\n");
  rig.fixture.settle(200);
  const std::size_t held = rig.fixture.loop.chunks().outstanding() - before;
  CHECK(held < 60);  // a piece is 64 KiB and a label set: nine chunks and as many slices
  auto other = rig.connect();
  other->send("GET /healthz/ready HTTP/1.1\r\nHost: x\r\n\r\n");
  REQUIRE(rig.fixture.run_until([&] { return other->has("ok\n"); }));
  peer->pause(false);
  REQUIRE(rig.fixture.run_until([&] { return peer->received.ends_with("0\r\n\r\n"); },
                                std::chrono::seconds(60)));
  CHECK(peer->received.size() > 5'000'000);
}

TEST_CASE("a scraper that stops reading is let go in time", "[unit]") {
  Rig rig(1500);
  auto peer = rig.connect();
  peer->pause(true);
  peer->send("GET /stats/prometheus HTTP/1.1\r\nHost: x\r\n\r\n");
  rig.fixture.settle(100);
  const std::size_t held = rig.fixture.loop.chunks().outstanding();
  CHECK(held > 2);
  rig.fixture.advance(61s);
  rig.fixture.settle(5);
  CHECK(rig.fixture.leaked() == 0);
}

TEST_CASE("a client that leaves in mid-scrape leaves nothing behind", "[unit]") {
  const bool reset = GENERATE(false, true);
  Rig rig(1500);
  auto peer = rig.connect();
  peer->send("GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\n\r\n");
  REQUIRE(rig.fixture.run_until([&] { return peer->received.size() > 100'000; }));
  if (reset) {
    peer->reset();
  } else {
    peer->close();
  }
  peer.reset();
  REQUIRE(rig.fixture.run_until([&] { return rig.fixture.leaked() == 0; }));
  CHECK(is(rig.ask("GET /healthz/live"), 200));
}

TEST_CASE("a head that never comes does not hold a place", "[unit]") {
  Rig rig;
  auto peer = rig.connect();
  peer->send("GET /stats/prom");
  rig.fixture.settle(10);
  rig.fixture.advance(61s);
  REQUIRE(rig.fixture.run_until([&] { return peer->gone(); }));
}

TEST_CASE("refused and odd requests on the stats listener", "[unit]") {
  Rig rig(100);
  CHECK(is(rig.ask("GET /healthz/live", "Host: twice\r\n"), 400));
  // A body that turns out malformed after its request was answered.
  CHECK(is(rig.ask("POST /healthz/live", "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 405));
  auto peer = rig.connect();
  peer->pause(true);
  peer->send(
      "GET /stats/prometheus HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n");
  rig.fixture.settle(20);
  peer->pause(false);
  REQUIRE(rig.fixture.run_until([&] { return peer->gone(); }));
  CHECK_FALSE(peer->received.ends_with("\r\n0\r\n\r\n"));
  // A whole one is read over.
  auto polite = rig.connect();
  polite->send(
      "GET /healthz/live HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
      "GET /healthz/live HTTP/1.1\r\nHost: x\r\n\r\n");
  REQUIRE(rig.fixture.run_until([&] {
    const std::size_t first = polite->received.find("ok\n");
    return first != std::string::npos &&
           polite->received.find("ok\n", first + 3) != std::string::npos;
  }));
}

TEST_CASE("more clients than scrapers are turned away", "[unit]") {
  Rig rig;
  std::vector<std::unique_ptr<TcpPeer>> peers;
  for (int i = 0; i < 120; ++i) peers.push_back(rig.connect());
  REQUIRE(rig.fixture.run_until([&] {
    std::size_t gone = 0;
    for (auto& peer : peers) gone += peer->gone() ? 1 : 0;
    return gone == 20;
  }));
  peers.clear();
  rig.fixture.settle(5);
  REQUIRE(rig.fixture.run_until([&] { return is(rig.ask("GET /healthz/live"), 200); }));
}

TEST_CASE("unused connections give way, one with a request does not", "[unit]") {
  Rig rig;
  auto busy = rig.connect();
  busy->send("GET /healthz/ready HTTP/1.1\r\n");
  rig.fixture.settle(5);
  std::vector<std::unique_ptr<TcpPeer>> peers;
  for (int i = 0; i < 99; ++i) peers.push_back(rig.connect());
  rig.fixture.settle(5);
  CHECK(is(rig.ask("GET /healthz/live"), 200));
  CHECK(rig.fixture.run_until([&] { return peers.front()->gone(); }));
  busy->send("Host: x\r\n\r\n");
  CHECK(rig.fixture.run_until([&] { return busy->received.ends_with("ok\n"); }));
}
