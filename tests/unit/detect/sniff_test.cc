// What first bytes are taken for, in every length they may arrive in.
#include "proxy/detect/sniff.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/catch.h"

using proxy::detect::Protocol;
using proxy::detect::sniff;

namespace {

Protocol of(std::string_view text) {
  return sniff(std::as_bytes(std::span(text)));
}

// Unclear up to some byte, then `wanted`, and never anything else on the way.
void becomes(std::string_view text, Protocol wanted) {
  INFO(text);
  bool decided = false;
  for (std::size_t n = 0; n <= text.size(); ++n) {
    const Protocol now = of(text.substr(0, n));
    INFO(n);
    if (decided) CHECK(now == wanted);
    if (now != Protocol::unclear) {
      CHECK(now == wanted);
      decided = true;
    }
  }
  CHECK(decided);
}

}  // namespace

TEST_CASE("HTTP/1 is known by its request line", "[unit]") {
  for (const std::string_view text :
       {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.0\r\n", "OPTIONS * HTTP/1.1\r\n",
        "CONNECT a:443 HTTP/1.1\r\n", "M-SEARCH * HTTP/1.1\r\n", "\r\n\r\nGET / HTTP/1.1\r\n",
        "GET / HTTP/9.9\r\n", "GET http://a/b HTTP/1.1\n", "PRI * HTTP/2.1\r\n"}) {
    if (text.starts_with("PRI")) continue;  // no method of requests
    becomes(text, Protocol::http1);
  }
}

TEST_CASE("a request line that is too long to have an end is HTTP", "[unit]") {
  const std::string head = "GET /" + std::string(proxy::detect::kMaxSniffed, 'a');
  CHECK(of(std::string_view(head).substr(0, 1000)) == Protocol::unclear);
  CHECK(of(head) == Protocol::http1);
}

TEST_CASE("the preface of HTTP/2", "[unit]") {
  becomes("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::http2);
  becomes("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Protocol::tcp);
}

TEST_CASE("TLS", "[unit]") {
  becomes(std::string_view("\x16\x03\x01\x02\x00", 5), Protocol::tls);
  becomes(std::string_view("\x16\x09", 2), Protocol::tcp);
}

TEST_CASE("whatever else there is, is TCP as soon as that is sure", "[unit]") {
  for (const std::string_view text :
       {"EHLO example.com\r\n", "PUB subject 5\r\n", "CONNECT {\"verbose\":false}\r\n",
        "GET key\r\n", "get key\r\n", "SET a b\r\n", "*1\r\n$4\r\nPING\r\n", "SSH-2.0-x\r\n",
        "USER anonymous\r\n", "HELLO\r\n", "QUIT\r\n"}) {
    becomes(text, Protocol::tcp);
  }
  CHECK(of(std::string_view("\x00\x00\x00\x08", 4)) == Protocol::tcp);  // PostgreSQL
  CHECK(of("G") == Protocol::unclear);
  CHECK(of("GX") == Protocol::tcp);
}

TEST_CASE("of what is HTTP, the preface alone makes it HTTP/2", "[unit]") {
  const auto version = [](std::string_view text) {
    return proxy::detect::http_version(std::as_bytes(std::span(text)));
  };
  const std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  REQUIRE(preface.size() == proxy::detect::kPrefaceSize);
  for (std::size_t n = 0; n < preface.size(); ++n) {
    CHECK(version(preface.substr(0, n)) == Protocol::unclear);
  }
  CHECK(version(preface) == Protocol::http2);
  CHECK(version("PRI * HTTP/2.1\r\n") == Protocol::http1);
  CHECK(version("GET / HTTP/1.1\r\n") == Protocol::http1);
  CHECK(version(std::string_view("\x16\x03", 2)) == Protocol::http1);
}

TEST_CASE("the frame with which servers of HTTP/2 begin", "[unit]") {
  using Head = std::array<std::uint8_t, proxy::detect::kFrameHeadSize>;
  const auto settings = [](const Head& head) {
    return proxy::detect::is_settings(std::as_bytes(std::span(head)));
  };
  CHECK(settings({0, 0, 0, 4, 0, 0, 0, 0, 0}));
  CHECK(settings({0, 0, 18, 4, 0, 0, 0, 0, 0}));
  CHECK_FALSE(settings({0, 0, 19, 4, 0, 0, 0, 0, 0}));  // a piece of a setting
  CHECK_FALSE(settings({1, 0, 2, 4, 0, 0, 0, 0, 0}));   // longer than was agreed
  CHECK_FALSE(settings({0, 0, 18, 6, 0, 0, 0, 0, 0}));  // PING
  CHECK_FALSE(settings({0, 0, 0, 4, 1, 0, 0, 0, 0}));   // acknowledges what nobody has sent
  CHECK_FALSE(settings({0, 0, 18, 4, 0, 0, 0, 0, 1}));  // of a stream
  CHECK_FALSE(settings({'2', '2', '0', ' ', 'm', 'a', 'i', 'l', '.'}));
  CHECK_FALSE(settings({0x4a, 0, 0, 0, 0x0a, '8', '.', '0', '.'}));  // MySQL
}
