// SPIFFE IDs: what is one and how it is cut.
// Not certificates with them (handshake_test.cc).
#include "tls/identity.h"

#include "tests/support/catch.h"

TEST_CASE("a SPIFFE ID is cut into its parts") {
  tls::SpiffeId id;
  REQUIRE(tls::parse_spiffe("spiffe://cluster.local/ns/default/sa/web", id));
  CHECK(id.trust_domain == "cluster.local");
  CHECK(id.path == "/ns/default/sa/web");
  CHECK(id.ns == "default");
  CHECK(id.sa == "web");
  for (const std::string_view other :
       {"spiffe://td", "spiffe://td/workload", "spiffe://td/ns/a", "spiffe://td/ns/a/sa",
        "spiffe://td/ns/a/xx/b", "spiffe://td/ns/a/sa/b/c", "spiffe://td/x/ns/a/sa/b"}) {
    INFO(other);
    REQUIRE(tls::parse_spiffe(other, id));
    CHECK(id.trust_domain == "td");
    CHECK(id.ns.empty());
    CHECK(id.sa.empty());
  }
}

TEST_CASE("what is no SPIFFE ID is refused") {
  tls::SpiffeId id;
  id.ns = "untouched";
  const std::string nul("spiffe://td/ns/a\0b/sa/c", 23);
  for (const std::string& bad : {std::string(),
                                 std::string("spiffe://"),
                                 std::string("spiffe:///ns/a/sa/b"),
                                 std::string("SPIFFE://td/a"),
                                 std::string("https://td/a"),
                                 std::string("spiffe://td/"),
                                 std::string("spiffe://td//a"),
                                 std::string("spiffe://td/a/"),
                                 std::string("spiffe://td/.."),
                                 std::string("spiffe://td/a/./b"),
                                 std::string("spiffe://td:80/a"),
                                 std::string("spiffe://u@td/a"),
                                 std::string("spiffe://td/a?b"),
                                 std::string("spiffe://td/a%20b"),
                                 std::string("spiffe://td/a b"),
                                 std::string("spiffe://td/a;b"),
                                 std::string("spiffe://td/a\"b"),
                                 std::string("spiffe://td/a\r\nb"),
                                 nul,
                                 "spiffe://td/" + std::string(2048, 'a'),
                                 "spiffe://" + std::string(256, 'a') + "/x"}) {
    INFO(bad);
    CHECK_FALSE(tls::parse_spiffe(bad, id));
    CHECK(id.ns == "untouched");
  }
}
