// What must be accepted, and what is made of it, in whatever pieces it comes.
// Not connections: server_connection_test.cc and client_connection_test.cc are.
#include "proxy/http1/parser.h"
#include "tests/support/catch.h"
#include "tests/unit/http1/parse_all.h"

namespace proxy::test {
namespace {

// Parses `raw` whole, byte by byte, and split at each position; all must tell the same.
Told chop_requests(std::string_view raw) {
  Told whole = parse_requests(raw, {});
  CHECK(parse_requests(raw, every_byte(raw)) == whole);
  for (std::size_t at = 1; at < raw.size(); ++at) {
    if (parse_requests(raw, {at}) == whole) continue;
    CAPTURE(raw, at);
    CHECK(parse_requests(raw, {at}) == whole);
  }
  CHECK(whole.code == Code::none);
  return whole;
}

Told chop_responses(std::string_view raw, ResponseSetting setting = {}) {
  Told whole = parse_responses(raw, {}, setting);
  CHECK(parse_responses(raw, every_byte(raw), setting) == whole);
  for (std::size_t at = 1; at < raw.size(); ++at) {
    if (parse_responses(raw, {at}, setting) == whole) continue;
    CAPTURE(raw, at);
    CHECK(parse_responses(raw, {at}, setting) == whole);
  }
  return whole;
}

std::string first_head(std::string_view raw) {
  const Told told = chop_requests(raw);
  REQUIRE(told.heads.size() == 1);
  CHECK(told.ends == 1);
  return told.heads.front();
}

}  // namespace

TEST_CASE("a request's head keeps order and case of its fields", "[unit]") {
  CHECK(
      first_head("GET /a?b=c HTTP/1.1\r\nHost: a.example:8080\r\nX-Two: 2\r\nx-one:1\r\nX-Two:  3 "
                 "\t\r\nEmpty:\r\n\r\n") ==
      "GET /a?b=c a.example:8080 | X-Two: 2 | x-one: 1 | X-Two: 3 | Empty: ");
}

TEST_CASE("values may hold bytes from 0x80 and tabs", "[unit]") {
  CHECK(first_head("GET / HTTP/1.1\r\nHost: a\r\nX: \xc3\xa9\ty\r\n\r\n") ==
        "GET / a | X: \xc3\xa9\ty");
}

TEST_CASE("all registered methods pass", "[unit]") {
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
                             "PROPFIND", "M-SEARCH", "VERSION-CONTROL", "QUERY", "PURGE"}) {
    CAPTURE(method);
    const std::string raw = std::string(method) + " / HTTP/1.1\r\nHost: a\r\n\r\n";
    CHECK(first_head(raw) == std::string(method) + " / a");
  }
}

TEST_CASE("hosts in all their forms", "[unit]") {
  for (const char* host :
       {"a", "a:1", "a:65535", "127.0.0.1:80", "[::1]", "[::1]:8080", "[::ffff:1.2.3.4]",
        "a-b.c_d.example.", "xn--bcher-kva.example", "a%20b"}) {
    CAPTURE(host);
    const std::string raw = "GET / HTTP/1.1\r\nHost: " + std::string(host) + "\r\n\r\n";
    CHECK(first_head(raw) == "GET / " + std::string(host));
  }
}

TEST_CASE("absolute targets become origin form", "[unit]") {
  CHECK(first_head("GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n") == "GET /x?y a");
  CHECK(first_head("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n") == "GET / a");
  CHECK(first_head("GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n") == "GET /?q a");
  CHECK(first_head("GET HTTP://A:80/x HTTP/1.1\r\nHost: a\r\n\r\n") == "GET /x A:80");
  CHECK(first_head("OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n") == "OPTIONS * a");
  CHECK(first_head("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n") == "OPTIONS * a");
  CHECK(first_head("GET http://a/x HTTP/1.0\r\n\r\n") == "GET /x a 1.0");
}

TEST_CASE("HTTP/1.0 needs no Host", "[unit]") {
  CHECK(first_head("GET / HTTP/1.0\r\n\r\n") == "GET /  1.0");
  CHECK(first_head("GET / HTTP/1.0\r\nHost: a\r\nX: y\r\n\r\n") == "GET / a 1.0 | X: y");
}

TEST_CASE("one empty line before a request is forgiven", "[unit]") {
  CHECK(first_head("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == "GET / a");
}

TEST_CASE("hop-by-hop fields and those named by Connection are taken out", "[unit]") {
  CHECK(
      first_head("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: "
                 "timeout=5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: websocket\r\nX: y\r\n"
                 "x-hop: 2\r\n\r\n") == "GET / a | X: y");
  CHECK(first_head(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: gzip;q=0.5, trailers\r\n\r\n") ==
        "GET / a | TE: trailers");
}

TEST_CASE("Upgrade passes only when Connection names it, and never h2c", "[unit]") {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  CHECK(first_head(head + "Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n") ==
        "GET / a upgrade=WebSocket");
  CHECK(first_head(head + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: "
                          "AAMA\r\n\r\n") == "GET / a");
  CHECK(first_head(head + "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n") == "GET / a");
}

TEST_CASE("bodies by length and by chunks", "[unit]") {
  Told told = chop_requests("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
  CHECK(told.heads.at(0) == "POST / a 5");
  CHECK(told.body == "hello");
  CHECK(told.ends == 1);
  told = chop_requests(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n"
      "00A\r\n, chunked \r\n0\r\nX-T: 1\r\nContent-Length: 7\r\nAuthorization: x\r\n\r\n");
  CHECK(told.heads.at(0) == "POST / a chunked");
  CHECK(told.body == "hello, chunked ");
  CHECK(told.trailers == " | X-T: 1");
  CHECK(told.ends == 1);
  told = chop_requests("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\n\r\nhello");
  CHECK(told.body == "hello");
  told = chop_requests("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
  CHECK(told.ends == 1);
}

TEST_CASE("pipelined requests come one after the other", "[unit]") {
  const Told told = chop_requests(
      "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"
      "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
      "\r\nPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ncd\r\n0\r\n\r\n");
  CHECK(told.heads == std::vector<std::string>{"POST /1 a 2", "GET /2 a", "POST /3 a chunked"});
  CHECK(told.body == "abcd");
  CHECK(told.started == 3);
  CHECK(told.ends == 3);
}

TEST_CASE("responses of all kinds of body", "[unit]") {
  Told told = chop_responses("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\nhi");
  CHECK(told.heads.at(0) == "200 OK 2 | X: y");
  CHECK(told.body == "hi");
  CHECK(told.ends == 1);
  told = chop_responses(
      "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nT: 1\r\n\r\n");
  CHECK(told.heads.at(0) == "200  unknown");
  CHECK(told.body == "hi");
  CHECK(told.trailers == " | T: 1");
  told = chop_responses("HTTP/1.0 200 OK\r\n\r\nuntil the end", {.eof = true});
  CHECK(told.heads.at(0) == "200 OK unknown");
  CHECK(told.body == "until the end");
  CHECK(told.ends == 1);
  told = chop_responses("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n");
  CHECK(told.heads.at(0) == "204 No Content");
  CHECK(told.ends == 1);
  told = chop_responses("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
  CHECK(told.heads.at(0) == "304 Not Modified declared 5");
  told = chop_responses("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", {.head = true});
  CHECK(told.heads.at(0) == "200 OK declared 5");
  CHECK(told.ends == 1);
  told = chop_responses("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", {.head = true});
  CHECK(told.ends == 1);
}

TEST_CASE("1xx come before the final head", "[unit]") {
  const Told told = chop_responses(
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
      "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(told.heads ==
        std::vector<std::string>{"100 Continue", "103 Early Hints | Link: </x>", "200 OK"});
  CHECK(told.ends == 1);
}

TEST_CASE("101 opens a tunnel when it was asked for", "[unit]") {
  const Told told = chop_responses(
      "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
      "any\nbytes\x01",
      {.upgrade = "h3, WebSocket", .eof = true});
  CHECK(told.heads.at(0) == "101 Switching Protocols");
  CHECK(told.body == "any\nbytes\x01");
  CHECK(told.ends == 1);
}

TEST_CASE("101 to what was not offered is refused", "[unit]") {
  const std::string head = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ";
  for (const char* protocol : {"foo", "websocket, foo", "web", "websocket2"}) {
    CHECK(chop_responses(head + protocol + "\r\n\r\n", {.upgrade = "websocket"}).heads.empty());
  }
}

TEST_CASE("a cut response is no complete one", "[unit]") {
  for (const char* raw :
       {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 100 Continue\r\n\r\n"}) {
    CAPTURE(raw);
    const Told told = parse_responses(raw, {}, {.eof = true});
    CHECK(told.code == Code::upstream_truncated);
    CHECK(told.ends == 0);
  }
}

TEST_CASE("tiny chunks do not pin one read chunk each", "[unit]") {
  ChunkPool pool;
  {
    const http1::Limits limits;
    http1::RequestParser parser(limits);
    Chain in;
    in.append_copy(pool, std::string_view("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
                                          "chunked\r\n\r\n"));
    std::string chunks;
    for (int i = 0; i < 2000; ++i) chunks += "1\r\nx\r\n";
    in.append_copy(pool, std::string_view(chunks));
    CHECK(parser.next(in) == http1::Step::started);
    CHECK(parser.next(in) == http1::Step::head);
    CHECK(parser.next(in) == http1::Step::body);
    const Chain body = parser.take_body();
    CHECK(body.size() == 2000);
    std::size_t slices = 0;
    for (const Slice* slice = body.slices(); slice != nullptr; slice = slice->next) ++slices;
    CHECK(slices < 5);
  }
  CHECK(pool.outstanding() == 0);
}

}  // namespace proxy::test
