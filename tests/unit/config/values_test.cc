// Units, addresses and host patterns: what is taken, what is refused, and the way back to text.
// Not bounds of keys (errors_test.cc).
#include "proxy/config/values.h"

#include "tests/support/catch.h"

namespace proxy::config {
namespace {

TEST_CASE("durations need a unit and stay whole") {
  CHECK(parse_duration("0") == Milliseconds(0));
  CHECK(parse_duration("1500ms") == Milliseconds(1500));
  CHECK(parse_duration("10s") == Milliseconds(10'000));
  CHECK(parse_duration("5m") == Milliseconds(300'000));
  CHECK(parse_duration("1h") == Milliseconds(3'600'000));
  CHECK(parse_duration("1 h") == Milliseconds(3'600'000));
  for (const auto* text :
       {"", "10", "s", "-1s", "+1s", "1.5s", "1e3s", "10sec", "10S", "1s ", " 1s", "1  s", "1h30m",
        "99999999999999999999s", "9223372036854775807h"}) {
    INFO(text);
    CHECK_FALSE(parse_duration(text));
  }
}

TEST_CASE("sizes need a unit; K is 1000, Ki is 1024") {
  CHECK(parse_size("0") == 0U);
  CHECK(parse_size("512B") == 512U);
  CHECK(parse_size("4KB") == 4000U);
  CHECK(parse_size("4KiB") == 4096U);
  CHECK(parse_size("1MB") == 1'000'000U);
  CHECK(parse_size("2MiB") == 2U << 20);
  CHECK(parse_size("1GiB") == 1U << 30);
  for (const auto* text :
       {"", "60", "KiB", "60K", "60kb", "-1B", "1.5KiB", "18446744073709551615GiB"}) {
    INFO(text);
    CHECK_FALSE(parse_size(text));
  }
}

TEST_CASE("durations and sizes come back in their largest whole unit") {
  CHECK(duration_text(Milliseconds(0)) == "0");
  CHECK(duration_text(Milliseconds(60'000)) == "60s");
  CHECK(duration_text(Milliseconds(90'000)) == "90s");
  CHECK(duration_text(Milliseconds(3'600'000)) == "1h");
  CHECK(duration_text(Milliseconds(1001)) == "1001ms");
  CHECK(size_text(0) == "0");
  CHECK(size_text(60 * 1024) == "60KiB");
  CHECK(size_text(1500) == "1500B");
}

TEST_CASE("counts and booleans are strict") {
  CHECK(parse_count("0") == 0U);
  CHECK(parse_count("18446744073709551615") == 18446744073709551615U);
  for (const auto* text : {"", "-1", "+1", "1.0", "007", "0x10", "1_000", "18446744073709551616"}) {
    INFO(text);
    CHECK_FALSE(parse_count(text));
  }
  CHECK(parse_boolean("true") == true);
  CHECK(parse_boolean("false") == false);
  for (const auto* text : {"", "True", "yes", "on", "1", "off"}) CHECK_FALSE(parse_boolean(text));
}

TEST_CASE("name servers are addresses, with a port or without") {
  for (const auto* good : {"10.0.0.10", "::1", "10.0.0.10:5353", "[fd00::53]:53"}) {
    CHECK(parse_name_server(good) == good);
  }
  for (const auto* bad : {"", ":53", "localhost:53", "dns.example", "dns.example:53", "10.0.0.10:0",
                          "[::1]", "10.0.0.10:65536", "1.2.3.4,5.6.7.8"}) {
    INFO(bad);
    CHECK_FALSE(parse_name_server(bad).has_value());
  }
}

TEST_CASE("listen addresses in all their forms") {
  const auto bare = parse_listen(":8000");
  REQUIRE(bare);
  CHECK(bare->port == 8000);
  CHECK(bare->addresses ==
        std::vector<IpAddress>{{"127.0.0.1", Family::ipv4}, {"::1", Family::ipv6}});
  const auto all = parse_listen("*:0");
  REQUIRE(all);
  CHECK(all->port == 0);
  CHECK(all->addresses == std::vector<IpAddress>{{"0.0.0.0", Family::ipv4}, {"::", Family::ipv6}});
  const auto four = parse_listen("10.1.2.3:80");
  REQUIRE(four);
  CHECK(four->addresses == std::vector<IpAddress>{{"10.1.2.3", Family::ipv4}});
  const auto six = parse_listen("[0:0::1]:80");
  REQUIRE(six);
  CHECK(six->addresses == std::vector<IpAddress>{{"::1", Family::ipv6}});
  CHECK(parse_listen("localhost:80")->addresses == bare->addresses);
  for (const auto* text :
       {"", "8000", ":", ":x", ":65536", ":-1", "::1:80", "[::1]", "[::1", "[1.2.3.4]:80",
        "example.com:80", "1.2.3:80", "1.2.3.4", ":80 ", "[]:80", "*", ":0080"}) {
    INFO(text);
    CHECK_FALSE(parse_listen(text));
  }
}

TEST_CASE("endpoints take names and keep them") {
  CHECK(parse_endpoint("127.0.0.1:9898")->addresses ==
        std::vector<IpAddress>{{"127.0.0.1", Family::ipv4}});
  CHECK(parse_endpoint("[::1]:9898")->addresses == std::vector<IpAddress>{{"::1", Family::ipv6}});
  CHECK(parse_endpoint(":9898")->addresses.size() == 2);
  const auto name = parse_endpoint("Backend.shop.svc:80");
  REQUIRE(name);
  CHECK(name->host == "Backend.shop.svc");
  CHECK(name->addresses.empty());
  for (const auto* text : {"a:0", "127.0.0.300:80", "a..b:80", ".a:80", "a b:80", "http://a:80",
                           "a/b:80", "a", "*:80", "-"}) {
    INFO(text);
    CHECK_FALSE(parse_endpoint(text));
  }
  CHECK(parse_endpoint("http://a:80").error().find("no scheme") != std::string::npos);
}

TEST_CASE("host patterns are exact or one star in front") {
  CHECK(parse_host_pattern("Web.Shop") == "web.shop");
  CHECK(parse_host_pattern("*.shop") == "*.shop");
  CHECK(parse_host_pattern("10.0.0.1") == "10.0.0.1");
  CHECK(parse_host_pattern("[::1]") == "[::1]");
  for (const auto* text :
       {"", "*", "a.*", "*a", "a*.b", "*.", "a:80", "a b", "[::1", "[x]", "a..b"}) {
    INFO(text);
    CHECK_FALSE(parse_host_pattern(text));
  }
}

TEST_CASE("plain text is valid UTF-8 without control bytes") {
  CHECK(is_plain_text(""));
  CHECK(is_plain_text("g\xc3\xbc\x6e, \xf0\x9f\x98\x80"));
  for (const auto* text : {"\n", "\x7f", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82",
                           "\x80", "\xf4\x90\x80\x80"}) {
    CHECK_FALSE(is_plain_text(text));
  }
}

}  // namespace
}  // namespace proxy::config
