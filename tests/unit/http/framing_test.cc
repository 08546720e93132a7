// Framing rules on values; whole messages are in tests/unit/http1.
#include "proxy/http/framing.h"

#include "tests/support/catch.h"

namespace proxy::http {

TEST_CASE("content lengths", "[unit]") {
  CHECK(parse_content_length("0") == 0U);
  CHECK(parse_content_length("5") == 5U);
  CHECK(parse_content_length("0005") == 5U);
  CHECK(parse_content_length("9223372036854775807") == 9223372036854775807U);
  for (const char* bad : {"", "+5", "-5", " 5", "5 ", "5,5", "0x5", "5a", "9223372036854775808",
                          "18446744073709551616", "00000000000000000005"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_content_length(bad));
  }
}

TEST_CASE("which body a head announces", "[unit]") {
  HeaderMap headers;
  CHECK(read_framing(headers, Version::http11).body.kind == BodyLength::Kind::none);
  headers.add("Content-Length", "7");
  Framing framing = read_framing(headers, Version::http11);
  CHECK(framing.has_length);
  CHECK(framing.body.kind == BodyLength::Kind::known);
  CHECK(framing.body.bytes == 7);
  headers.add("Transfer-Encoding", "chunked");
  CHECK(read_framing(headers, Version::http11).fault == Fault::both_lengths);
  headers.remove(NameId::content_length);
  CHECK(read_framing(headers, Version::http11).body.kind == BodyLength::Kind::unknown);
  CHECK(read_framing(headers, Version::http10).fault == Fault::transfer_encoding_in_http10);
  headers.set(NameId::transfer_encoding, "gzip");
  CHECK(read_framing(headers, Version::http11).fault == Fault::unknown_coding);
}

TEST_CASE("the same authority", "[unit]") {
  CHECK(same_authority("a", "A"));
  CHECK(same_authority("a:80", "a"));
  CHECK(same_authority("[::1]:80", "[::1]"));
  CHECK_FALSE(same_authority("a:81", "a"));
  CHECK(same_authority("a:443", "a", "443"));
  CHECK_FALSE(same_authority("a:80", "a", "443"));
  CHECK_FALSE(same_authority("a", "b"));
  CHECK_FALSE(same_authority("[::1]", "[::2]"));
}

TEST_CASE("targets", "[unit]") {
  CHECK(read_target("/x?y", "GET").path == "/x?y");
  CHECK(read_target("*", "OPTIONS").path == "*");
  CHECK(read_target("*", "GET").fault == Fault::target_form);
  const Target target = read_target("http://a:1/x", "GET");
  CHECK(target.absolute);
  CHECK(target.authority == "a:1");
  CHECK(target.path == "/x");
  CHECK(read_target("http://a?q", "GET").query_only);
  CHECK(read_target("ws://a/", "GET").fault == Fault::target_form);
}

}  // namespace proxy::http
