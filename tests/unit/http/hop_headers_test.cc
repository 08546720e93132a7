// Hop-by-hop rules on maps; whole messages are in tests/unit/http1.
#include "proxy/http/hop_headers.h"

#include "tests/support/catch.h"

namespace proxy::http {

TEST_CASE("Connection's options are read over several fields", "[unit]") {
  HeaderMap headers;
  headers.add("Connection", "Keep-Alive, x-a");
  headers.add("X-A", "1");
  headers.add("X-B", "1");
  headers.add("connection", ",, X-B ,close");
  headers.add("X-C", "1");
  const HopFacts facts = take_hop_headers(headers);
  CHECK(facts.fault == Fault::none);
  CHECK(facts.close);
  CHECK(facts.keep_alive);
  CHECK(headers.size() == 1);
  CHECK(headers.get("x-c") == "1");
}

TEST_CASE("what may not be named by Connection", "[unit]") {
  for (const char* option : {"host", "Content-Length", "TRANSFER-ENCODING", "a b", "\"x\""}) {
    CAPTURE(option);
    HeaderMap headers;
    headers.add("Connection", option);
    CHECK(take_hop_headers(headers).fault != Fault::none);
  }
}

TEST_CASE("hop-by-hop fields go even when Connection does not name them", "[unit]") {
  HeaderMap headers;
  for (const char* name : {"Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "HTTP2-Settings",
                           "Transfer-Encoding", "Content-Length", "Host"}) {
    headers.add(name, "x");
  }
  headers.add("Trailer", "X-T");
  const HopFacts facts = take_hop_headers(headers);
  CHECK(facts.upgrade.length == 0);
  CHECK(headers.size() == 1);
  CHECK(headers.get(NameId::trailer) == "X-T");
}

TEST_CASE("what may be upgraded to", "[unit]") {
  const auto upgrade = [](const char* value) {
    HeaderMap headers;
    headers.add("Connection", "upgrade");
    headers.add("Upgrade", value);
    return std::string(headers.view(take_hop_headers(headers).upgrade));
  };
  CHECK(upgrade("websocket") == "websocket");
  CHECK(upgrade("IRC/6.9, RTA/x11") == "IRC/6.9, RTA/x11");
  CHECK(upgrade("h2c").empty());
  CHECK(upgrade("H2C, websocket").empty());
  CHECK(upgrade("HTTP/2.0").empty());
  CHECK(upgrade("").empty());
  CHECK(upgrade("a b").empty());
  HeaderMap twice;
  twice.add("Connection", "upgrade");
  twice.add("Upgrade", "h2c");
  twice.add("Upgrade", "websocket");
  CHECK(take_hop_headers(twice).upgrade.length == 0);
  CHECK(twice.size() == 0);
}

TEST_CASE("trailers lose what must not be among them", "[unit]") {
  HeaderMap trailers;
  for (const char* name :
       {"Content-Length", "Transfer-Encoding", "Host", "Authorization", "Set-Cookie", "Connection",
        "X-Request-Id", "X-Forwarded-Client-Cert", "X-Envoy-Peer-Metadata"}) {
    trailers.add(name, "x");
  }
  trailers.add("X-Checksum", "1");
  trailers.add("grpc-status", "0");
  clean_trailers(trailers);
  CHECK(trailers.size() == 2);
}

}  // namespace proxy::http
