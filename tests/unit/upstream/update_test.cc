// A cluster whose endpoints change under it: what stays warm, what drains, what is let go.
// Not who finds out the new endpoints (unit_server).
#include <set>

#include "tests/unit/upstream/rig.h"

using namespace proxy;
using namespace proxy::test;

namespace {

// Goes over to the endpoints of these servers.
void update(ClusterRig& rig, const std::vector<std::size_t>& servers) {
  auto spec = rig.spec;
  spec.endpoints.clear();
  for (const std::size_t server : servers) {
    spec.endpoints.push_back(rig.spec.endpoints[server]);
  }
  const net::Loop::Turn turn(rig.fixture.loop);
  rig.cluster->update(std::make_shared<const upstream::ClusterSpec>(std::move(spec)));
}

// The ports that so many picks give.
std::multiset<std::string> picks(ClusterRig& rig, int count) {
  std::multiset<std::string> out;
  for (int i = 0; i < count; ++i) {
    const auto picked = rig.cluster->pick();
    if (picked) out.insert(rig.cluster->endpoint(*picked).text);
  }
  return out;
}

// One request to the endpoint of this slot, answered by `server`.
void serve(ClusterRig& rig, std::size_t slot, std::size_t server) {
  Caller caller(rig);
  REQUIRE(caller.ask(slot));
  REQUIRE(rig.until([&] { return caller.ready() && !rig.servers[server]->peers.empty(); }));
  TcpPeer& peer = rig.servers[server]->last();
  REQUIRE(rig.until([&] { return peer.has("\r\n\r\n"); }));
  peer.received.clear();
  caller.finish(peer);
}

}  // namespace

TEST_CASE("an endpoint that stays keeps its idle connection", "[unit]") {
  ClusterRig rig(3);
  rig.make();
  update(rig, {0, 1});
  serve(rig, 0, 0);
  serve(rig, 1, 1);
  update(rig, {2, 0});
  const std::string first = rig.spec.endpoints[0].text;
  CHECK(picks(rig, 10).count(first) == 5);
  // The one that went is told.
  REQUIRE(rig.until([&] { return rig.servers[1]->last().gone(); }));
  serve(rig, 0, 0);
  CHECK(rig.servers[0]->peers.size() == 1);
  CHECK(rig.open() == 1);
}

TEST_CASE("a request on an endpoint that goes is served to its end", "[unit]") {
  ClusterRig rig(2);
  rig.make();
  update(rig, {0});
  Caller caller(rig);
  REQUIRE(caller.ask(0));
  SECTION("under way") {
    REQUIRE(rig.until([&] { return caller.ready() && rig.accepted() == 1; }));
    update(rig, {1});
  }
  SECTION("waiting for its connection") {
    update(rig, {1});
    REQUIRE(rig.until([&] { return caller.ready() && rig.accepted() == 1; }));
  }
  REQUIRE(rig.until([&] { return rig.servers[0]->last().has("\r\n\r\n"); }));
  caller.finish(rig.servers[0]->last());
  CHECK(caller.failures == 0);
  REQUIRE(rig.until([&] { return rig.servers[0]->last().gone(); }));
  CHECK(picks(rig, 3).count(rig.spec.endpoints[1].text) == 3);
}

TEST_CASE("an endpoint that is back serves on", "[unit]") {
  ClusterRig rig(2);
  rig.make();
  update(rig, {0});
  serve(rig, 0, 0);
  update(rig, {1});
  update(rig, {0});
  serve(rig, *rig.cluster->pick(), 0);
  serve(rig, *rig.cluster->pick(), 0);
  CHECK(rig.servers[0]->peers.size() == 2);
}

TEST_CASE("no endpoint is no endpoint, until there is one", "[unit]") {
  ClusterRig rig(1);
  rig.make();
  update(rig, {});
  CHECK(rig.cluster->endpoint_count() == 0);
  const auto none = rig.cluster->pick();
  REQUIRE_FALSE(none.has_value());
  CHECK(none.error().code == Code::no_endpoint);
  update(rig, {0});
  serve(rig, *rig.cluster->pick(), 0);
}

TEST_CASE("a name that is held is there after its endpoint has gone", "[unit]") {
  ClusterRig rig(3);
  rig.make();
  update(rig, {0});
  const std::string text = rig.cluster->endpoint(*rig.cluster->pick()).text;
  upstream::EndpointHold hold;
  CHECK(hold.text().empty());
  hold.take(*rig.cluster, *rig.cluster->pick());
  for (int i = 0; i < 3; ++i) {
    update(rig, {1});
    update(rig, {2});
  }
  CHECK(hold.text() == text);
  hold.release();
  // Places of those who went are used again: numbers stay small.
  for (int i = 0; i < 20; ++i) update(rig, {static_cast<std::size_t>(i % 2)});
  CHECK(*rig.cluster->pick() < 4);
}

TEST_CASE("a retry leaves the endpoint that failed, also when that has gone", "[unit]") {
  ClusterRig rig(3);
  rig.make();
  const std::size_t failed = *rig.cluster->pick();
  for (int i = 0; i < 10; ++i) CHECK(*rig.cluster->pick(failed) != failed);
  std::vector<std::size_t> others;
  for (std::size_t i = 0; i < 3; ++i) {
    if (rig.spec.endpoints[i].text != rig.cluster->endpoint(failed).text) others.push_back(i);
  }
  update(rig, others);
  for (int i = 0; i < 10; ++i) CHECK(*rig.cluster->pick(failed) != failed);
}
