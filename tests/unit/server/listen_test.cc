// Opening the configured addresses: one port for all, one socket a worker, clear words for errors.
// Not accepting (unit_net).
#include "proxy/server/listen.h"

#include "tests/support/catch.h"

using namespace proxy;
using namespace proxy::server;

namespace {

config::ListenAddress at(std::uint16_t port, std::vector<config::IpAddress> addresses) {
  config::ListenAddress listen;
  listen.text = ":" + std::to_string(port);
  listen.port = port;
  listen.addresses = std::move(addresses);
  return listen;
}
const config::IpAddress kV4{"127.0.0.1", config::Family::ipv4};
const config::IpAddress kV6{"::1", config::Family::ipv6};

}  // namespace

TEST_CASE("each worker gets a socket for each address, all on one port", "[unit]") {
  std::vector<Listening> listening;
  for (int round = 0; round < 20; ++round) {
    listening.clear();
    const auto sets = open_listener(at(0, {kV4, kV6}), "inbound", 3, listening);
    REQUIRE(sets.has_value());
    REQUIRE(sets->size() == 3);
    const std::uint16_t port = sets->front().front().address().port();
    CHECK(port != 0);
    for (const auto& set : *sets) {
      CHECK(set.size() == listening.size());
      for (const net::BoundSocket& socket : set) CHECK(socket.address().port() == port);
    }
    CHECK(listening.front().what == "inbound");
    CHECK(listening.front().address == "127.0.0.1:" + std::to_string(port));
  }
}

TEST_CASE("a port in use is named, also when its holder shares ports", "[unit]") {
  std::vector<Listening> listening;
  const auto holder = open_listener(at(0, {kV4}), "inbound", 2, listening);
  REQUIRE(holder.has_value());
  const std::uint16_t port = holder->front().front().address().port();
  const auto second = open_listener(at(port, {kV4}), "outbound", 2, listening);
  REQUIRE_FALSE(second.has_value());
  CHECK(second.error().address_in_use == "127.0.0.1:" + std::to_string(port));
  CHECK(second.error().text.find("outbound") != std::string::npos);
  CHECK(second.error().text.find("in use") != std::string::npos);
  CHECK(listening.size() == 1);
}

TEST_CASE("an address that is not ours is an error, unless it is a second family's", "[unit]") {
  std::vector<Listening> listening;
  const config::IpAddress foreign6{"2001:db8::1", config::Family::ipv6};
  CHECK_FALSE(open_listener(at(0, {foreign6}), "inbound", 1, listening).has_value());
  const config::IpAddress foreign4{"192.0.2.1", config::Family::ipv4};
  const auto failed = open_listener(at(0, {foreign4}), "inbound", 1, listening);
  REQUIRE_FALSE(failed.has_value());
  CHECK(failed.error().address_in_use.empty());
  listening.clear();
  const auto one = open_listener(at(0, {kV4, foreign6}), "inbound", 2, listening);
  REQUIRE(one.has_value());
  CHECK(one->front().size() == 1);
  CHECK(listening.size() == 1);
}

TEST_CASE("all or nothing: what was opened before an error is closed", "[unit]") {
  std::vector<Listening> listening;
  const auto holder = open_listener(at(0, {kV6}), "inbound", 1, listening);
  if (!holder.has_value()) return;  // a machine without IPv6
  const std::uint16_t port = holder->front().front().address().port();
  CHECK_FALSE(open_listener(at(port, {kV4, kV6}), "outbound", 1, listening).has_value());
  listening.clear();
  CHECK(open_listener(at(port, {kV4}), "outbound", 1, listening).has_value());
}
