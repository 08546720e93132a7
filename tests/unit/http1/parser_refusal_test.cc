// What must be refused, with which code and for which fault, in whatever pieces it comes.
// Not the wire: tests/integration sends the same table over sockets.
#include "proxy/http1/parser.h"
#include "tests/support/catch.h"
#include "tests/support/hostile_requests.h"
#include "tests/unit/http1/parse_all.h"

namespace proxy::test {
namespace {

// Chunk and trailer cases are refused after a head that was fine.
bool head_may_pass(std::string_view name) {
  return name.find("chunk size") != std::string_view::npos ||
         name.find("a chunk ") != std::string_view::npos ||
         name.find("extension") != std::string_view::npos ||
         name.find("trailer") != std::string_view::npos ||
         name.find("last chunk") != std::string_view::npos;
}

}  // namespace

TEST_CASE("hostile requests are refused with their code and fault, in any pieces", "[unit]") {
  CHECK(std::size(kHostileRequests) >= 120);
  for (const HostileRequest& hostile : kHostileRequests) {
    CAPTURE(hostile.name);
    const Told whole = parse_requests(hostile.raw, {});
    CHECK(reply_status(whole.code) == hostile.status);
    CHECK(http::word_of(whole.fault) == hostile.word);
    CHECK(whole.started == 1);
    CHECK(whole.ends == 0);
    if (!head_may_pass(hostile.name)) CHECK(whole.heads.empty());
    const Told bytewise = parse_requests(hostile.raw, every_byte(hostile.raw));
    CHECK(bytewise.code == whole.code);
    CHECK(bytewise.fault == whole.fault);
    CHECK(bytewise.heads == whole.heads);
    for (std::size_t at = 1; at < hostile.raw.size(); ++at) {
      const Told split = parse_requests(hostile.raw, {at});
      if (split.code != whole.code || split.fault != whole.fault || split.heads != whole.heads) {
        CAPTURE(at);
        CHECK(split.code == whole.code);
        CHECK(split.fault == whole.fault);
        CHECK(split.heads == whole.heads);
      }
    }
  }
}

TEST_CASE("a first line without a word of HTTP's gets no answer", "[unit]") {
  for (const std::string line :
       {"INVALID CONNECTION PREFACE", "SSH 2.0 hello", "some words more"}) {
    const std::string raw = line + "\r\n\r\n";
    CAPTURE(line);
    CHECK(parse_requests(raw, {}).code == Code::not_http);
    CHECK(parse_requests(raw, every_byte(raw)).code == Code::not_http);
    CHECK(reply_status(Code::not_http) == 0);
  }
  // Each of these has something of a request, and is refused in words.
  for (const std::string line : {"GET CONNECTION PREFACE", "INVALID / PREFACE", "INVALID * PREFACE",
                                 "DESCRIBE rtsp://a/b RTSP/1.0", "INVALID CONNECTION HTTP/9"}) {
    CAPTURE(line);
    CHECK(reply_status(parse_requests(line + "\r\n\r\n", {}).code) >= 400);
  }
}

TEST_CASE("heads past a limit are 431", "[unit]") {
  http1::Limits limits;
  limits.head_bytes = 200;
  limits.header_count = 5;
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\n";
  SECTION("bytes, complete") {
    const std::string raw = start + "X: " + std::string(300, 'x') + "\r\n\r\n";
    CHECK(parse_requests(raw, {}, limits).code == Code::head_too_large);
    CHECK(parse_requests(raw, {}, limits).fault == http::Fault::head_too_long);
    CHECK(parse_requests(raw, every_byte(raw), limits).code == Code::head_too_large);
  }
  SECTION("bytes, never ending") {
    CHECK(parse_requests(start + std::string(300, 'x'), {}, limits).code == Code::head_too_large);
    CHECK(parse_requests("GET /" + std::string(300, 'x'), {}, limits).code == Code::head_too_large);
  }
  SECTION("exactly at the limit") {
    const std::string frame = start + "X: \r\n\r\n";
    const std::string raw =
        start + "X: " + std::string(limits.head_bytes - frame.size(), 'x') + "\r\n\r\n";
    REQUIRE(raw.size() == limits.head_bytes);
    CHECK(parse_requests(raw, {}, limits).ends == 1);
  }
  SECTION("fields") {
    CHECK(parse_requests(start + "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n", {}, limits).ends == 1);
    const Told told =
        parse_requests(start + "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n\r\n", {}, limits);
    CHECK(told.code == Code::head_too_large);
    CHECK(told.fault == http::Fault::too_many_headers);
  }
}

TEST_CASE("chunk extensions and trailers are bounded", "[unit]") {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  http1::Limits limits;
  limits.chunk_extension_bytes = 20;
  limits.chunk_extensions_bytes = 50;
  limits.trailer_bytes = 60;
  limits.header_count = 3;
  using http::Fault;
  const auto fault = [&](const std::string& body) {
    const Told told = parse_requests(head + body, {}, limits);
    CHECK(told.code == (told.fault == Fault::none ? Code::none : Code::bad_request));
    return told.fault;
  };
  CHECK(fault("1;" + std::string(20, 'x') + "\r\na\r\n0\r\n\r\n") == Fault::none);
  CHECK(fault("1;" + std::string(21, 'x') + "\r\na\r\n0\r\n\r\n") ==
        Fault::chunk_extension_too_long);
  std::string many;
  for (int i = 0; i < 10; ++i) many += "1;abcdefghij\r\na\r\n";
  CHECK(fault(many + "0\r\n\r\n") == Fault::chunk_extension_too_long);
  CHECK(fault("0\r\nX: " + std::string(100, 'x') + "\r\n\r\n") == Fault::trailers_too_long);
  CHECK(fault("0\r\nA: 1\r\nB: 1\r\nC: 1\r\n\r\n") == Fault::none);
  CHECK(fault("0\r\nA: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\n\r\n") == Fault::too_many_trailers);
}

TEST_CASE("hostile responses are refused, in any pieces", "[unit]") {
  struct Hostile {
    std::string_view name;
    std::string_view word;
    std::string_view raw;
  };
  static constexpr Hostile kResponses[] = {
#define HOSTILE(name, word, raw) {name, word, std::string_view(raw, sizeof(raw) - 1)},
#include "tests/support/hostile_responses.def"
#undef HOSTILE
  };
  CHECK(std::size(kResponses) >= 40);
  for (const Hostile& hostile : kResponses) {
    CAPTURE(hostile.name);
    const Told whole = parse_responses(hostile.raw, {});
    CHECK(whole.code == Code::bad_response);
    CHECK(http::word_of(whole.fault) == hostile.word);
    CHECK(whole.ends == 0);
    const Told bytewise = parse_responses(hostile.raw, every_byte(hostile.raw));
    CHECK(bytewise.code == Code::bad_response);
    CHECK(bytewise.fault == whole.fault);
    for (std::size_t at = 1; at < hostile.raw.size(); ++at) {
      const Told split = parse_responses(hostile.raw, {at});
      if (split.code != Code::bad_response || split.fault != whole.fault) {
        CAPTURE(at);
        CHECK(split.code == Code::bad_response);
        CHECK(split.fault == whole.fault);
      }
    }
  }
}

TEST_CASE("informational responses are bounded", "[unit]") {
  std::string raw;
  for (int i = 0; i < 33; ++i) raw += "HTTP/1.1 103 Early Hints\r\n\r\n";
  CHECK(parse_responses(raw, {}).code == Code::bad_response);
  CHECK(parse_responses(raw, {}).fault == http::Fault::too_many_informational);
}

}  // namespace proxy::test
