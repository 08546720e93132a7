// SocketAddress to and from text.
// Not names: those are never taken.
#include "proxy/net/address.h"

#include "tests/support/catch.h"

namespace proxy::net {

TEST_CASE("literals become addresses and text again", "[net]") {
  const auto v4 = SocketAddress::parse("127.0.0.1", 80);
  REQUIRE(v4);
  CHECK(v4->text() == "127.0.0.1:80");
  CHECK(v4->is_loopback());
  CHECK_FALSE(v4->is_ipv6());
  const auto v6 = SocketAddress::parse("::1", 65535);
  REQUIRE(v6);
  CHECK(v6->text() == "[::1]:65535");
  CHECK(v6->is_loopback());
  CHECK(v6->port() == 65535);
  CHECK_FALSE(SocketAddress::parse("10.0.0.1", 1)->is_loopback());
  CHECK(SocketAddress().text().empty());
}

TEST_CASE("what is no literal is refused", "[net]") {
  for (const std::string_view text :
       {std::string_view(""), std::string_view("localhost"), std::string_view("1.2.3"),
        std::string_view("1.2.3.4.5"), std::string_view("[::1]"), std::string_view("127.1"),
        std::string_view("127.0.0.1\0x", 11)}) {
    CAPTURE(text);
    CHECK_FALSE(SocketAddress::parse(text, 1));
  }
}

}  // namespace proxy::net
