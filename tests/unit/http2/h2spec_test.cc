// What an HTTP/2 server must answer to each violation: the cases of the public h2spec list, by its
// sections, as raw frames.
// Not the semantics of requests: server_connection_test.cc.
#include <functional>
#include <string>
#include <vector>

#include "tests/support/catch.h"
#include "tests/unit/http2/server_rig.h"

namespace proxy::test {
namespace {

struct Case {
  std::string_view section;
  std::string_view name;
  std::string bytes;
  std::string expected;  // H2ServerRig::outcome()
};

const std::string kOpen = headers(1, post_block(), kWhole);
const std::string kWholeGet = headers(1, get_block());

std::string huge(std::size_t bytes) {
  return std::string(bytes, 'x');
}

std::vector<Case> framing_cases() {
  return {
      {"4.1", "unknown frame type", frame(static_cast<FrameType>(0x16), 0, 0, "12345678") + ping(),
       "alive"},
      {"4.1", "undefined flags", frame(FrameType::ping, 0xfe & ~1U, 0, "12345678"), "alive"},
      {"4.1", "reserved bit", frame(FrameType::ping, 0, 0x80000000, "12345678"), "alive"},
      {"4.2", "DATA of 2^14", kOpen + data(1, huge(16384), kEnd), "alive"},
      {"4.2", "DATA too large", kOpen + data(1, huge(16385)), "GOAWAY FRAME_SIZE_ERROR"},
      {"4.2", "HEADERS too large", headers(1, get_block() + field("x", huge(16384))),
       "GOAWAY FRAME_SIZE_ERROR"},
      {"4.3", "invalid header block", headers(1, "\x40\x81"), "GOAWAY COMPRESSION_ERROR"},
      {"4.3", "PRIORITY inside a header block",
       headers(1, get_block(), kEnd) + priority(1, 0) +
           frame(FrameType::continuation, kWhole, 1, block({{"a", "b"}})),
       "GOAWAY PROTOCOL_ERROR"},
      {"4.3", "HEADERS of another stream inside",
       headers(1, get_block(), kEnd) + headers(3, get_block()), "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "idle: DATA", data(1, "test", kEnd), "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "idle: RST_STREAM", rst(1), "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "idle: WINDOW_UPDATE", window_update(1, 100), "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "idle: CONTINUATION", frame(FrameType::continuation, kWhole, 1, get_block()),
       "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "half closed: DATA", kWholeGet + data(1, "test", kEnd), "GOAWAY STREAM_CLOSED"},
      {"5.1", "half closed: HEADERS", kWholeGet + kWholeGet, "GOAWAY STREAM_CLOSED"},
      {"5.1", "half closed: CONTINUATION",
       kWholeGet + frame(FrameType::continuation, kWhole, 1, get_block()), "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "closed by RST: DATA", kOpen + rst(1) + data(1, "test", kEnd),
       "GOAWAY STREAM_CLOSED"},
      {"5.1", "closed by RST: HEADERS", kOpen + rst(1) + kWholeGet, "GOAWAY STREAM_CLOSED"},
      {"5.1", "closed by RST: CONTINUATION",
       kOpen + rst(1) + frame(FrameType::continuation, kWhole, 1, get_block()),
       "GOAWAY PROTOCOL_ERROR"},
      {"5.1", "closed by RST: WINDOW_UPDATE", kOpen + rst(1) + window_update(1, 1), "alive"},
      {"5.1", "closed by RST: PRIORITY", kOpen + rst(1) + priority(1, 0), "alive"},
      {"5.1.1", "even stream id", headers(2, get_block()), "GOAWAY PROTOCOL_ERROR"},
      {"5.1.1", "smaller stream id", headers(5, get_block()) + headers(3, get_block()),
       "GOAWAY PROTOCOL_ERROR"},
      {"5.3.1", "HEADERS depends on itself",
       frame(FrameType::headers, kWholeEnd | 0x20, 1, be(1, 4) + "\xff" + get_block()),
       "GOAWAY PROTOCOL_ERROR"},
      {"5.3.1", "PRIORITY depends on itself", priority(2, 2), "GOAWAY PROTOCOL_ERROR"},
      {"5.4.1", "PING of a wrong size", ping(0, "123456"), "GOAWAY FRAME_SIZE_ERROR"},
      {"5.5", "unknown frame inside a header block",
       headers(1, get_block(), kEnd) + frame(static_cast<FrameType>(0x16), 0, 1, "12345678"),
       "GOAWAY PROTOCOL_ERROR"},
  };
}

std::vector<Case> frame_cases() {
  return {
      {"6.1", "DATA on stream 0", data(0, "test", kEnd), "GOAWAY PROTOCOL_ERROR"},
      {"6.1", "DATA with too much padding",
       kOpen + frame(FrameType::data, http2::kPadded | kEnd, 1, "\x06test"),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.1", "DATA padded without a length", kOpen + frame(FrameType::data, http2::kPadded, 1),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.2", "HEADERS on stream 0", headers(0, get_block()), "GOAWAY PROTOCOL_ERROR"},
      {"6.2", "HEADERS with too much padding",
       headers(1, "\xf0" + get_block(), kWholeEnd | http2::kPadded), "GOAWAY PROTOCOL_ERROR"},
      {"6.3", "PRIORITY on stream 0", priority(0, 1), "GOAWAY PROTOCOL_ERROR"},
      {"6.3", "PRIORITY of a wrong size", frame(FrameType::priority, 0, 1, be(0x80000001, 4)),
       "GOAWAY FRAME_SIZE_ERROR"},
      {"6.4", "RST_STREAM on stream 0", rst(0), "GOAWAY PROTOCOL_ERROR"},
      {"6.4", "RST_STREAM of a wrong size", kOpen + frame(FrameType::rst_stream, 0, 1, "123"),
       "GOAWAY FRAME_SIZE_ERROR"},
      {"6.5", "SETTINGS ACK with a payload",
       frame(FrameType::settings, http2::kAck, 0, be(0, 2) + be(0, 4)), "GOAWAY FRAME_SIZE_ERROR"},
      {"6.5", "SETTINGS on a stream", frame(FrameType::settings, 0, 1, be(3, 2) + be(100, 4)),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.5", "SETTINGS of a wrong size", frame(FrameType::settings, 0, 0, "123"),
       "GOAWAY FRAME_SIZE_ERROR"},
      {"6.5.2", "ENABLE_PUSH 2", settings({{2, 2}}), "GOAWAY PROTOCOL_ERROR"},
      {"6.5.2", "INITIAL_WINDOW_SIZE too large", settings({{4, 0x80000000}}),
       "GOAWAY FLOW_CONTROL_ERROR"},
      {"6.5.2", "MAX_FRAME_SIZE too small", settings({{5, 16383}}), "GOAWAY PROTOCOL_ERROR"},
      {"6.5.2", "MAX_FRAME_SIZE too large", settings({{5, 16777216}}), "GOAWAY PROTOCOL_ERROR"},
      {"6.5.2", "unknown setting", settings({{0xff, 1}}), "alive"},
      {"6.7", "PING on a stream", frame(FrameType::ping, 0, 1, "12345678"),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.7", "PING of a wrong size", ping(0, "1"), "GOAWAY FRAME_SIZE_ERROR"},
      {"6.8", "GOAWAY on a stream", frame(FrameType::goaway, 0, 1, be(0, 8)),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.9", "WINDOW_UPDATE 0 on the connection", window_update(0, 0), "GOAWAY PROTOCOL_ERROR"},
      {"6.9", "WINDOW_UPDATE 0 on a stream", kOpen + window_update(1, 0), "GOAWAY PROTOCOL_ERROR"},
      {"6.9", "WINDOW_UPDATE of a wrong size", frame(FrameType::window_update, 0, 0, "123"),
       "GOAWAY FRAME_SIZE_ERROR"},
      {"6.9.1", "connection window over 2^31-1",
       window_update(0, 0x7fffffff) + window_update(0, 0x7fffffff), "GOAWAY FLOW_CONTROL_ERROR"},
      {"6.9.1", "stream window over 2^31-1",
       kOpen + window_update(1, 0x7fffffff) + window_update(1, 0x7fffffff),
       "RST 1 FLOW_CONTROL_ERROR"},
      {"6.10", "CONTINUATION after END_HEADERS",
       kOpen + frame(FrameType::continuation, kWhole, 1, block({{"a", "b"}})),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.10", "CONTINUATION on stream 0",
       headers(1, get_block(), kEnd) +
           frame(FrameType::continuation, kWhole, 0, block({{"a", "b"}})),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.10", "CONTINUATION after DATA",
       kOpen + data(1, "x") + frame(FrameType::continuation, kWhole, 1, block({{"a", "b"}})),
       "GOAWAY PROTOCOL_ERROR"},
      {"6.10", "several CONTINUATIONs",
       headers(1, get_block(), kEnd) + frame(FrameType::continuation, 0, 1, block({{"a", "b"}})) +
           frame(FrameType::continuation, kWhole, 1, block({{"c", "d"}})),
       "alive"},
      {"7", "GOAWAY with an unknown code", frame(FrameType::goaway, 0, 0, be(0, 4) + be(0xff, 4)),
       "closed"},
      {"7", "RST_STREAM with an unknown code", kOpen + rst(1, 0xff) + ping(), "alive"},
      {"8.2", "PUSH_PROMISE from a client",
       kOpen + frame(FrameType::push_promise, kWhole, 1, be(2, 4) + get_block()),
       "GOAWAY PROTOCOL_ERROR"},
  };
}

const std::string kMalformed = "RST 1 PROTOCOL_ERROR";

std::string requests(FieldList fields) {
  return headers(1, block(fields));
}

std::vector<Case> message_cases() {
  return {
      {"8.1", "second HEADERS without END_STREAM",
       kOpen + headers(1, block({{"x-test", "ok"}}), kWhole), kMalformed},
      {"8.1.2", "upper-case name", headers(1, get_block({{"X-TEST", "ok"}})), kMalformed},
      {"8.1.2.1", "unknown pseudo-header", headers(1, block({{":test", "ok"}}) + get_block()),
       kMalformed},
      {"8.1.2.1", "response's pseudo-header", headers(1, get_block({{":status", "200"}})),
       kMalformed},
      {"8.1.2.1", "pseudo-header in trailers", kOpen + headers(1, block({{":method", "200"}})),
       kMalformed},
      {"8.1.2.1", "pseudo-header behind a field",
       requests({{":method", "GET"},
                 {":scheme", "http"},
                 {":path", "/"},
                 {"x", "y"},
                 {":authority", "a"}}),
       kMalformed},
      {"8.1.2.2", "Connection", headers(1, get_block({{"connection", "keep-alive"}})), kMalformed},
      {"8.1.2.2", "Transfer-Encoding", headers(1, get_block({{"transfer-encoding", "chunked"}})),
       kMalformed},
      {"8.1.2.2", "Upgrade", headers(1, get_block({{"upgrade", "websocket"}})), kMalformed},
      {"8.1.2.2", "Keep-Alive", headers(1, get_block({{"keep-alive", "1"}})), kMalformed},
      {"8.1.2.2", "Proxy-Connection", headers(1, get_block({{"proxy-connection", "x"}})),
       kMalformed},
      {"8.1.2.2", "TE other than trailers", headers(1, get_block({{"te", "trailers, deflate"}})),
       kMalformed},
      {"8.1.2.3", "empty :path",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", ""}, {":authority", "a"}}),
       kMalformed},
      {"8.1.2.3", "no :method",
       requests({{":scheme", "http"}, {":path", "/"}, {":authority", "a"}}), kMalformed},
      {"8.1.2.3", "no :scheme", requests({{":method", "GET"}, {":path", "/"}, {":authority", "a"}}),
       kMalformed},
      {"8.1.2.3", "no :path",
       requests({{":method", "GET"}, {":scheme", "http"}, {":authority", "a"}}), kMalformed},
      {"8.1.2.3", "two :method", headers(1, block({{":method", "GET"}}) + get_block()), kMalformed},
      {"8.1.2.3", "two :scheme", headers(1, block({{":scheme", "http"}}) + get_block()),
       kMalformed},
      {"8.1.2.3", "two :path", headers(1, block({{":path", "/"}}) + get_block()), kMalformed},
      {"8.1.2.3", "two :authority", headers(1, block({{":authority", "a"}}) + get_block()),
       kMalformed},
      {"8.1.2.6", "content-length above one DATA",
       headers(1, post_block({{"content-length", "1"}}), kWhole) + data(1, "test", kEnd),
       kMalformed},
      {"8.1.2.6", "content-length above several DATA",
       headers(1, post_block({{"content-length", "9"}}), kWhole) + data(1, "test") +
           data(1, "test", kEnd),
       kMalformed},
      {"8.1.2.6", "content-length without a body",
       headers(1, post_block({{"content-length", "1"}})), kMalformed},
      {"8.1.2.6", "content-length and trailers",
       headers(1, post_block({{"content-length", "9"}}), kWhole) + data(1, "test") +
           headers(1, block({{"x", "y"}})),
       kMalformed},
      {"smuggling", "two content-lengths",
       headers(1, post_block({{"content-length", "4"}, {"content-length", "4"}}), kWhole),
       kMalformed},
      {"smuggling", "signed content-length",
       headers(1, post_block({{"content-length", "+4"}}), kWhole), kMalformed},
      {"smuggling", "CR LF in a value", headers(1, get_block({{"x", "a\r\nx: y"}})), kMalformed},
      {"smuggling", "NUL in a value", headers(1, get_block({{"x", std::string_view("a\0b", 3)}})),
       kMalformed},
      {"smuggling", "space in front of a value", headers(1, get_block({{"x", " a"}})), kMalformed},
      {"smuggling", "colon in a name", headers(1, get_block({{"x:y", "a"}})), kMalformed},
      {"smuggling", "space in a name", headers(1, get_block({{"x y", "a"}})), kMalformed},
      {"smuggling", "CR LF in a name", headers(1, get_block({{"x\r\ny", "a"}})), kMalformed},
      {"smuggling", "empty name", headers(1, get_block({{"", "a"}})), kMalformed},
      {"smuggling", "space in :path",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", "/a b"}, {":authority", "a"}}),
       kMalformed},
      {"smuggling", "CR LF in :path",
       requests(
           {{":method", "GET"}, {":scheme", "http"}, {":path", "/\r\nx: y"}, {":authority", "a"}}),
       kMalformed},
      {"smuggling", "absolute :path",
       requests(
           {{":method", "GET"}, {":scheme", "http"}, {":path", "http://b/"}, {":authority", "a"}}),
       kMalformed},
      {"smuggling", "fragment in :path",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", "/#x"}, {":authority", "a"}}),
       kMalformed},
      {"smuggling", "space in :method",
       requests({{":method", "GET /x HTTP/1.1"},
                 {":scheme", "http"},
                 {":path", "/"},
                 {":authority", "a"}}),
       kMalformed},
      {"smuggling", "strange :scheme",
       requests(
           {{":method", "GET"}, {":scheme", "http://b/?"}, {":path", "/"}, {":authority", "a"}}),
       kMalformed},
      {"smuggling", "space in :authority",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a b"}}),
       kMalformed},
      {"smuggling", "user info in :authority",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}, {":authority", "u@a"}}),
       kMalformed},
      {"smuggling", "Host differs", headers(1, get_block({{"host", "b.example"}})), kMalformed},
      {"smuggling", "two Hosts",
       headers(1, get_block({{"host", "a.example"}, {"host", "a.example"}})), kMalformed},
      {"smuggling", "nobody's host",
       requests({{":method", "GET"}, {":scheme", "http"}, {":path", "/"}}), kMalformed},
      {"smuggling", ":protocol without CONNECT",
       headers(1, block({{":protocol", "websocket"}}) + get_block()), kMalformed},
      {"smuggling", "CONNECT with a path",
       requests({{":method", "CONNECT"}, {":scheme", "http"}, {":path", "/"}, {":authority", "a"}}),
       kMalformed},
  };
}

std::vector<Case> hpack_cases() {
  return {
      {"hpack 2.3.3", "index beyond the tables", headers(1, "\xc6" + get_block()),
       "GOAWAY COMPRESSION_ERROR"},
      {"hpack 2.3.3", "name index beyond the tables", headers(1, "\x7f\x7f\x01x" + get_block()),
       "GOAWAY COMPRESSION_ERROR"},
      {"hpack 4.2", "table size update at the end", headers(1, get_block() + "\x21"),
       "GOAWAY COMPRESSION_ERROR"},
      {"hpack 5.2", "Huffman padding of 8 bits",
       headers(1, get_block() + std::string("\x00\x01x\x85\x90\x75\x10\xff\xff", 9)),
       "GOAWAY COMPRESSION_ERROR"},
      {"hpack 5.2", "Huffman padding of zeros",
       headers(1, get_block() + std::string("\x00\x01x\x81\x18", 5)), "GOAWAY COMPRESSION_ERROR"},
      {"hpack 5.2", "Huffman EOS",
       headers(1, get_block() + std::string("\x00\x01x\x84\xff\xff\xff\xff", 8)),
       "GOAWAY COMPRESSION_ERROR"},
      {"hpack 6.1", "index 0", headers(1, "\x80" + get_block()), "GOAWAY COMPRESSION_ERROR"},
      {"hpack 6.3", "table larger than SETTINGS",
       headers(1, hpack_int(0x20, 5, 4097) + get_block()), "GOAWAY COMPRESSION_ERROR"},
      {"hpack 6.3", "table as large as SETTINGS",
       headers(1, hpack_int(0x20, 5, 4096) + get_block()), "alive"},
  };
}

std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (auto& part : {framing_cases(), frame_cases(), message_cases(), hpack_cases()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace

TEST_CASE("h2spec: each violation has its answer, and none is told as a request", "[http2]") {
  for (const Case& it : all_cases()) {
    CAPTURE(it.section, it.name);
    H2ServerRig rig;
    rig.send(it.bytes);
    CHECK(rig.outcome() == it.expected);
    for (const auto& request : rig.handler.requests) {
      if (it.expected != kMalformed) continue;
      CHECK(request->notes.resets == 1);
      CHECK(request->notes.why.code == Code::bad_request);
      CHECK(request->notes.why.detail != 0);
      CHECK(request->notes.ends == 0);
    }
    // Whoever is still alive still answers.
    if (it.expected == "alive") {
      rig.send(ping(0, "stillok!"));
      CHECK(rig.frames().back().payload == "stillok!");
    }
  }
}

TEST_CASE("h2spec: the same, a byte at a time", "[http2]") {
  for (const Case& it : all_cases()) {
    if (it.bytes.size() > 2000) continue;
    CAPTURE(it.section, it.name);
    H2ServerRig rig({}, {.capacity = 65536, .piece = 1});
    rig.send(it.bytes);
    CHECK(rig.outcome() == it.expected);
  }
}

TEST_CASE("h2spec 3.5: the client's preface", "[http2]") {
  H2ServerRig good;
  CHECK(good.frames().front().type == FrameType::settings);
  CHECK(good.outcome() == "alive");
  for (const std::string& bytes :
       {std::string("INVALID CONNECTION PREFACE\r\n\r\n"),
        std::string("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"), std::string(kPreface) + ping()}) {
    H2ServerRig bad({}, {}, false);
    bad.send(bytes);
    CHECK(bad.outcome() == "GOAWAY PROTOCOL_ERROR");
    CHECK(bad.handler.requests.empty());
  }
}

TEST_CASE("h2spec 5.1.2: more streams than announced", "[http2]") {
  http2::ServerConnectionOptions options;
  options.max_concurrent_streams = 3;
  H2ServerRig rig(options);
  for (std::uint32_t id = 1; id <= 7; id += 2) rig.send(headers(id, post_block(), kWhole));
  CHECK(rig.outcome() == "GOAWAY PROTOCOL_ERROR");
  // Before it has acknowledged the limit, a client is only refused.
  H2ServerRig early(options, {}, false);
  early.send(std::string(kPreface) + settings());
  for (std::uint32_t id = 1; id <= 7; id += 2) early.send(headers(id, post_block(), kWhole));
  CHECK(early.outcome() == "RST 7 REFUSED_STREAM");
  CHECK(early.handler.requests.size() == 3);
}

TEST_CASE("h2spec 6.9: the peer's windows are kept to, whatever changes them", "[http2]") {
  H2ServerRig rig;
  rig.send(settings({{4, 1}}) + headers(1, get_block()));
  rig.request().head(200, {http::BodyLength::Kind::known, 10});
  rig.request().data("0123456789");
  rig.request().end();
  CHECK(rig.body(1) == "0");
  rig.send(settings({{4, 3}}));
  CHECK(rig.body(1) == "012");
  rig.send(settings({{4, 0}}));
  rig.send(window_update(1, 4));
  CHECK(rig.body(1) == "0123");
  rig.send(window_update(1, 100));
  CHECK(rig.body(1) == "0123456789");
  CHECK(rig.request().dones == 1);
  CHECK(rig.observer.stalls >= 1);
}

}  // namespace proxy::test
