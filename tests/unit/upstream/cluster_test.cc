// Clusters and pools over loopback: reuse, limits, waiting, ends.
// Not retries, which exchanges decide (unit_exchange).
#include "tests/unit/upstream/rig.h"

using namespace proxy;
using namespace proxy::test;
using namespace std::chrono_literals;

namespace {

std::vector<std::unique_ptr<Caller>> callers(ClusterRig& rig, std::size_t count) {
  std::vector<std::unique_ptr<Caller>> all;
  for (std::size_t i = 0; i < count; ++i) all.push_back(std::make_unique<Caller>(rig));
  return all;
}

// A request from asking to its end, on whatever connection it gets.
void serve(ClusterRig& rig, std::size_t endpoint = 0) {
  Caller caller(rig);
  REQUIRE(caller.ask(endpoint));
  REQUIRE(rig.until([&] { return caller.ready(); }));
  const auto served = [&]() -> TcpPeer* {
    for (const auto& peer : rig.servers[endpoint]->peers) {
      if (!peer->gone() && peer->has("\r\n\r\n")) return peer.get();
    }
    return nullptr;
  };
  REQUIRE(rig.until([&] { return served() != nullptr; }));
  TcpPeer& peer = *served();
  peer.take();
  caller.finish(peer);
}

}  // namespace

TEST_CASE("connections are used again, the last one first", "[unit]") {
  ClusterRig rig;
  rig.make();
  auto three = callers(rig, 3);
  for (auto& caller : three) REQUIRE(caller->ask());
  REQUIRE(rig.until([&] { return rig.accepted() == 3; }));
  REQUIRE(rig.until(
      [&] { return std::all_of(three.begin(), three.end(), [](auto& c) { return c->ready(); }); }));
  TestServer& server = *rig.servers[0];
  REQUIRE(rig.until([&] {
    return std::all_of(server.peers.begin(), server.peers.end(),
                       [](auto& p) { return p->has("\r\n\r\n"); });
  }));
  for (auto& peer : server.peers) {
    peer->take();
    peer->send(Caller::kOk);
    // One after the other, so that their order in the pool is known.
    rig.fixture.settle(3);
  }
  REQUIRE(rig.until([&] {
    return std::all_of(three.begin(), three.end(),
                       [](auto& c) { return c->response.notes.ends == 1; });
  }));
  rig.fixture.settle();
  for (int i = 0; i < 4; ++i) {
    Caller again(rig);
    REQUIRE(again.ask());
    CHECK(again.ready());  // at once
    REQUIRE(rig.until([&] { return server.peers[2]->has("\r\n\r\n"); }));
    server.peers[2]->take();
    again.finish(*server.peers[2]);
    rig.fixture.settle();
  }
  CHECK(rig.accepted() == 3);
  CHECK(rig.open() == 3);
}

TEST_CASE("an idle connection leaves by its time, and by its age", "[unit]") {
  ClusterRig rig;
  rig.spec.idle_timeout = 55s;
  SECTION("idle") {
    rig.make();
    serve(rig);
    rig.fixture.settle();
    rig.fixture.advance(54s);
    CHECK(rig.open() == 1);
    rig.fixture.advance(2s);
    CHECK(rig.open() == 0);
    REQUIRE(rig.until([&] { return rig.servers[0]->last().gone(); }));
  }
  SECTION("the time begins anew with each use") {
    rig.make();
    for (int i = 0; i < 4; ++i) {
      serve(rig);
      rig.fixture.settle();
      rig.fixture.advance(40s);
    }
    CHECK(rig.accepted() == 1);
  }
  SECTION("age") {
    rig.spec.max_age = 60s;
    rig.make();
    serve(rig);
    rig.fixture.settle();
    rig.fixture.advance(40s);
    serve(rig);
    CHECK(rig.accepted() == 1);
    rig.fixture.settle();
    rig.fixture.advance(40s);
    Caller late(rig);
    REQUIRE(late.ask());
    CHECK_FALSE(late.ready());
    REQUIRE(rig.until([&] { return late.ready(); }));
    CHECK(rig.accepted() == 2);
    CHECK(rig.open() == 1);
  }
  SECTION("age under constant waiting") {
    rig.spec.max_age = 60s;
    rig.spec.max_connections = 1;
    rig.make();
    Caller first(rig);
    Caller second(rig);
    REQUIRE(first.ask());
    REQUIRE(second.ask());
    REQUIRE(rig.until([&] { return first.ready() && rig.servers[0]->last().has("\r\n\r\n"); }));
    rig.fixture.advance(61s);
    first.finish(rig.servers[0]->last());
    REQUIRE(rig.until([&] { return second.ready(); }));
    CHECK(rig.accepted() == 2);  // not the old one again
    CHECK(rig.open() == 1);
  }
  SECTION("neither") {
    rig.spec.idle_timeout = 0s;
    rig.make();
    serve(rig);
    rig.fixture.settle();
    rig.fixture.advance(std::chrono::hours(24));
    CHECK(rig.open() == 1);
  }
}

TEST_CASE("a connection that its peer ends leaves the pool", "[unit]") {
  const int how = GENERATE(0, 1, 2, 3);
  INFO(how);
  ClusterRig rig;
  rig.make();
  serve(rig);
  rig.fixture.settle();
  TcpPeer& peer = rig.servers[0]->last();
  if (how == 0) peer.close();
  if (how == 1) peer.reset();
  if (how == 2) peer.shutdown();
  if (how == 3) peer.send("HTTP/1.1 408 Request Timeout\r\n\r\n");
  REQUIRE(rig.until([&] { return rig.open() == 0; }));
  serve(rig);
  CHECK(rig.accepted() == 2);
}

TEST_CASE("no more idle connections are kept than allowed", "[unit]") {
  ClusterRig rig;
  rig.spec.max_idle_per_endpoint = 1;
  rig.make();
  auto two = callers(rig, 2);
  for (auto& caller : two) REQUIRE(caller->ask());
  REQUIRE(rig.until([&] { return rig.accepted() == 2 && two[0]->ready() && two[1]->ready(); }));
  for (auto& peer : rig.servers[0]->peers) peer->send(Caller::kOk);
  REQUIRE(rig.until([&] { return rig.open() == 1; }));
  CHECK(two[0]->response.notes.ends + two[1]->response.notes.ends == 2);
}

TEST_CASE("requests over the connection limit wait in order", "[unit]") {
  ClusterRig rig;
  rig.spec.max_connections = 2;
  rig.spec.max_pending = 3;
  rig.make();
  auto all = callers(rig, 5);
  for (auto& caller : all) REQUIRE(caller->ask());
  Caller refused(rig);
  CHECK_FALSE(refused.ask());
  CHECK(refused.why.code == Code::overloaded);
  CHECK(rig.pending_refused() == 1);
  REQUIRE(rig.until([&] { return all[0]->ready() && all[1]->ready(); }));
  CHECK_FALSE(all[2]->ready());
  CHECK(rig.accepted() == 2);
  TestServer& server = *rig.servers[0];
  for (std::size_t i = 2; i < 5; ++i) {
    REQUIRE(rig.until([&] { return server.peers[0]->has("\r\n\r\n"); }));
    server.peers[0]->take();
    server.peers[0]->send(Caller::kOk);
    REQUIRE(rig.until([&] { return all[i]->ready(); }));
    for (std::size_t later = i + 1; later < 5; ++later) CHECK_FALSE(all[later]->ready());
  }
  CHECK(rig.accepted() == 2);
}

TEST_CASE("a waiter may leave at any moment", "[unit]") {
  // 0 = at once, 1 = while connecting, 2 = when connected, 3 = while waiting for another's end
  const int moment = GENERATE(0, 1, 2, 3);
  INFO(moment);
  ClusterRig rig;
  rig.spec.max_connections = moment == 3 ? 1 : 10;
  rig.make();
  auto first = std::make_unique<Caller>(rig);
  auto second = std::make_unique<Caller>(rig);
  REQUIRE(first->ask());
  if (moment == 0) {
    first.reset();
  } else if (moment == 1) {
    rig.fixture.loop.run_once(false);
    first.reset();
  } else if (moment == 2) {
    REQUIRE(rig.until([&] { return first->ready(); }));
    first.reset();
  } else {
    REQUIRE(rig.until([&] { return first->ready(); }));
    REQUIRE(second->ask());
    second.reset();
    first->finish(rig.servers[0]->last());
    first.reset();
  }
  rig.fixture.settle(5);
  // Whatever was opened for it is of use to the next.
  serve(rig);
  CHECK(rig.accepted() <= 2);
  CHECK(rig.open() == 1);
}

TEST_CASE("everyone who waits for an endpoint that refuses is told", "[unit]") {
  ClusterRig rig;
  rig.spec.max_connections = GENERATE(std::size_t{1}, std::size_t{2}, std::size_t{100});
  INFO(rig.spec.max_connections);
  rig.make();
  rig.servers[0]->stop();
  auto all = callers(rig, 5);
  for (auto& caller : all) REQUIRE(caller->ask());
  REQUIRE(rig.until([&] {
    return std::all_of(all.begin(), all.end(), [](auto& c) { return c->failures == 1; });
  }));
  for (auto& caller : all) {
    CHECK(caller->why.code == Code::connect_failed);
    CHECK(caller->why.replay == Replay::always);
  }
  rig.fixture.settle();
  // The places are free again.
  rig.servers[0]->listen(rig.servers[0]->address().port());
  serve(rig);
}

TEST_CASE("one who fails may ask again from within", "[unit]") {
  ClusterRig rig(2);
  rig.make();
  rig.servers[0]->stop();
  Caller caller(rig);
  caller.when_failed = [&] {
    CHECK(*rig.cluster->pick() == 1);  // the one that failed is avoided
    CHECK(caller.ask(1));
  };
  REQUIRE(caller.ask(0));
  REQUIRE(rig.until([&] { return caller.ready(); }));
  CHECK(caller.failures == 1);
  // For a second.
  rig.fixture.advance(1100ms);
  bool again = false;
  for (int i = 0; i < 4; ++i) again = again || *rig.cluster->pick() == 0;
  CHECK(again);
}

TEST_CASE("connecting is given up after its time", "[unit]") {
  ClusterRig rig;
  // TEST-NET-1: nothing answers there; where there is no route, that is an answer too.
  rig.spec.endpoints[0].addresses = {{"192.0.2.1", config::Family::ipv4}};
  rig.spec.connect.connect_timeout = 5s;
  rig.make();
  Caller caller(rig);
  REQUIRE(caller.ask());
  rig.fixture.advance(6s);
  REQUIRE(rig.until([&] { return caller.failures == 1; }));
  CHECK((caller.why.code == Code::connect_timeout || caller.why.code == Code::connect_failed));
}

TEST_CASE("the next address is tried when the first refuses", "[unit]") {
  ClusterRig rig;
  rig.spec.endpoints[0].addresses = {{"127.0.0.2", config::Family::ipv4},
                                     {"127.0.0.1", config::Family::ipv4}};
  rig.make();
  serve(rig);
  CHECK(rig.accepted() == 1);
}

TEST_CASE("a free place wakes who waits for another endpoint", "[unit]") {
  ClusterRig rig(2);
  rig.spec.max_connections = 1;
  rig.make();
  Caller first(rig);
  REQUIRE(first.ask(0));
  REQUIRE(rig.until([&] { return first.ready() && rig.accepted() == 1; }));
  Caller other(rig);
  REQUIRE(other.ask(1));
  REQUIRE(rig.until([&] { return rig.servers[0]->last().has("\r\n\r\n"); }));
  SECTION("when the connection becomes idle") {
    first.finish(rig.servers[0]->last());
  }
  SECTION("when the connection closes") {
    rig.servers[0]->last().close();
    REQUIRE(rig.until([&] { return first.response.notes.resets == 1; }));
  }
  REQUIRE(rig.until([&] { return other.ready(); }));
  CHECK(rig.servers[1]->peers.size() == 1);
  REQUIRE(rig.until([&] { return rig.open() == 1; }));
}

TEST_CASE("a failed connect wakes who waits for another endpoint", "[unit]") {
  ClusterRig rig(2);
  rig.spec.max_connections = 1;
  rig.make();
  rig.servers[0]->stop();
  Caller first(rig);
  REQUIRE(first.ask(0));
  Caller other(rig);
  REQUIRE(other.ask(1));
  REQUIRE(rig.until([&] { return other.ready(); }));
  CHECK(first.failures == 1);
}

TEST_CASE("a busy endpoint does not starve one that has no connection at all", "[unit]") {
  ClusterRig rig(2);
  rig.spec.max_connections = 1;
  rig.make();
  auto first = callers(rig, 2);
  REQUIRE(first[0]->ask(0));
  REQUIRE(rig.until([&] { return first[0]->ready() && rig.accepted() == 1; }));
  Caller other(rig);
  REQUIRE(other.ask(1));
  // There is always someone waiting for the first endpoint.
  REQUIRE(first[1]->ask(0));
  REQUIRE(rig.until([&] { return rig.servers[0]->last().has("\r\n\r\n"); }));
  first[0]->finish(rig.servers[0]->last());
  REQUIRE(rig.until([&] { return other.ready(); }));
  REQUIRE(rig.until([&] { return rig.servers[1]->last().has("\r\n\r\n"); }));
  other.finish(rig.servers[1]->last());
  REQUIRE(rig.until([&] { return first[1]->ready(); }));
}

TEST_CASE("an idle connection elsewhere makes room", "[unit]") {
  ClusterRig rig(2);
  rig.spec.max_connections = 1;
  rig.make();
  serve(rig, 0);
  rig.fixture.settle();
  serve(rig, 1);
  CHECK(rig.open() == 1);
  REQUIRE(rig.until([&] { return rig.servers[0]->last().gone(); }));
}

TEST_CASE("the retry budget", "[unit]") {
  ClusterRig rig;
  rig.spec.retry_percent = GENERATE(std::size_t{0}, std::size_t{20});
  upstream::Cluster& cluster = rig.make();
  std::size_t granted = 0;
  while (granted < 100 && cluster.retry_started()) ++granted;
  CHECK(granted == (rig.spec.retry_percent == 0 ? 0U : 3U));
  for (int i = 0; i < 100; ++i) cluster.request_started(0);
  while (granted < 100 && cluster.retry_started()) ++granted;
  CHECK(granted == (rig.spec.retry_percent == 0 ? 0U : 20U));
  for (; granted > 0; --granted) cluster.retry_ended();
  CHECK(cluster.retry_started() == (rig.spec.retry_percent != 0));
  for (int i = 0; i < 100; ++i) cluster.request_ended(0);
  CHECK(cluster.endpoint(0).active == 0);
}

TEST_CASE("a cluster goes with what it has: idle, connecting, nobody waiting", "[unit]") {
  ClusterRig rig(2);
  rig.make();
  serve(rig, 0);
  rig.fixture.settle();
  {
    Caller gone(rig);
    REQUIRE(gone.ask(1));
    if (GENERATE(false, true)) rig.fixture.loop.run_once(false);
  }
  {
    const net::Loop::Turn turn(rig.fixture.loop);
    rig.cluster.reset();
  }
  CHECK(rig.open() == 0);
  REQUIRE(rig.until([&] { return rig.servers[0]->last().gone(); }));
}

TEST_CASE("a spec that differs in anything is another", "[unit]") {
  upstream::ClusterSpec a;
  a.name = "x";
  CHECK(a.same_as(a));
  const auto differs = [&](auto change) {
    upstream::ClusterSpec b = a;
    change(b);
    return !a.same_as(b) && !b.same_as(a);
  };
  CHECK(differs([](auto& s) { s.name = "y"; }));
  CHECK(differs([](auto& s) { s.endpoints.emplace_back(); }));
  CHECK(differs([](auto& s) { s.balance = config::Balance::least_request; }));
  CHECK(differs([](auto& s) { s.max_connections = 1; }));
  CHECK(differs([](auto& s) { s.max_pending = 1; }));
  CHECK(differs([](auto& s) { s.max_idle_per_endpoint = 1; }));
  CHECK(differs([](auto& s) { s.retry_percent = 1; }));
  CHECK(differs([](auto& s) { s.idle_timeout = 1s; }));
  CHECK(differs([](auto& s) { s.max_age = 1s; }));
  CHECK(differs([](auto& s) { s.connect.sni = "z"; }));
  CHECK(differs([](auto& s) { s.connect.expected_sans = {"z"}; }));
  CHECK(differs([](auto& s) { s.connect.connect_timeout = 1s; }));
  CHECK(differs([](auto& s) { s.connect.tls_timeout = 1s; }));
  CHECK(differs([](auto& s) { s.message_limits.head_bytes = 1; }));
}
