// The balancer: turns, choices, and what it keeps away from.
// Not who fills in the endpoints' state (cluster_test.cc).
#include "proxy/upstream/balancer.h"

#include <array>
#include <set>
#include <span>
#include <vector>

#include "tests/support/catch.h"

using namespace proxy::upstream;
using proxy::config::Balance;

namespace {

// Endpoints by value, seen as the balancer sees them.
class Endpoints {
 public:
  explicit Endpoints(std::size_t count) : all_(count) {
    for (const Endpoint& each : all_) seen_.push_back(&each);
  }
  operator std::span<const Endpoint* const>() const { return seen_; }
  Endpoint& operator[](std::size_t index) { return all_[index]; }
  auto begin() { return all_.begin(); }
  auto end() { return all_.end(); }

 private:
  std::vector<Endpoint> all_;
  std::vector<const Endpoint*> seen_;
};

}  // namespace

TEST_CASE("there is nothing to choose from nothing, and little from one", "[unit]") {
  for (const Balance policy : {Balance::round_robin, Balance::least_request}) {
    Balancer balancer(policy, 7);
    CHECK(balancer.pick({}, 0) == Balancer::kNone);
    Endpoints one(1);
    one[0].avoid_until_ms = 1000;
    CHECK(balancer.pick(one, 0, 0) == 0);
  }
}

TEST_CASE("round robin takes each in turn", "[unit]") {
  Endpoints endpoints(3);
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{12345}}) {
    Balancer balancer(Balance::round_robin, seed);
    std::array<int, 3> count{};
    std::size_t last = balancer.pick(endpoints, 0);
    for (int i = 0; i < 300; ++i) {
      const std::size_t next = balancer.pick(endpoints, 0);
      CHECK(next == (last + 1) % 3);
      ++count[next];
      last = next;
    }
    CHECK(count == std::array{100, 100, 100});
  }
}

TEST_CASE("the seed decides who is first", "[unit]") {
  Endpoints endpoints(4);
  std::set<std::size_t> firsts;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    firsts.insert(Balancer(Balance::round_robin, seed).pick(endpoints, 0));
  }
  CHECK(firsts.size() == 4);
}

TEST_CASE("who failed lately is taken only when all have", "[unit]") {
  const Balance policy = GENERATE(Balance::round_robin, Balance::least_request);
  Endpoints endpoints(3);
  endpoints[1].avoid_until_ms = 1000;
  Balancer balancer(policy, 3);
  for (int i = 0; i < 50; ++i) CHECK(balancer.pick(endpoints, 999) != 1);
  std::set<std::size_t> later;
  for (int i = 0; i < 200; ++i) later.insert(balancer.pick(endpoints, 1000));
  CHECK(later.size() == 3);
  for (Endpoint& endpoint : endpoints) endpoint.avoid_until_ms = 1000;
  std::set<std::size_t> any;
  for (int i = 0; i < 200; ++i) any.insert(balancer.pick(endpoints, 0));
  CHECK(any.size() == 3);
}

TEST_CASE("a retry goes elsewhere while there is an elsewhere", "[unit]") {
  const Balance policy = GENERATE(Balance::round_robin, Balance::least_request);
  Balancer balancer(policy, 5);
  Endpoints two(2);
  for (int i = 0; i < 20; ++i) CHECK(balancer.pick(two, 0, 1) == 0);
  two[0].avoid_until_ms = two[1].avoid_until_ms = 1000;
  for (int i = 0; i < 20; ++i) CHECK(balancer.pick(two, 0, 1) == 0);
}

TEST_CASE("least request prefers the less busy of two", "[unit]") {
  Balancer balancer(Balance::least_request, 11);
  Endpoints two(2);
  two[0].active = 1;
  for (int i = 0; i < 20; ++i) CHECK(balancer.pick(two, 0) == 1);
  // Of many, the busiest is taken never, the idle one most.
  Endpoints five(5);
  five[0].active = 100;
  five[1].active = five[2].active = five[3].active = 5;
  std::array<int, 5> count{};
  for (int i = 0; i < 2000; ++i) ++count[balancer.pick(five, 0)];
  CHECK(count[0] == 0);
  for (std::size_t i = 1; i < 4; ++i) CHECK(count[i] < count[4]);
}
