// What must come out at the other side whichever version goes in: HTTP/1 and HTTP/2, both ways.
// Not one codec's own behaviour: stream_test.cc.
#include <functional>
#include <string>

#include "tests/conformance/crossing.h"
#include "tests/support/catch.h"
#include "tls/websocket.h"

namespace proxy::test {
namespace {

constexpr http::BodyLength kUnknown{http::BodyLength::Kind::unknown, 0};

http::BodyLength known(std::uint64_t bytes) {
  return {http::BodyLength::Kind::known, bytes};
}

void for_all_pairs(const std::function<void(const Codec&, const Codec&)>& run) {
  for (const Codec& down : codecs()) {
    for (const Codec& up : codecs()) {
      CAPTURE(down.name, up.name);
      run(down, up);
    }
  }
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

}  // namespace

TEST_CASE("crossing: heads, bodies and trailers arrive as they were sent", "[conformance]") {
  for_all_pairs([](const Codec& down, const Codec& up) {
    Crossing crossing(down, up, {.capacity = 16384, .piece = 1000});
    for (const http::BodyLength length : {kUnknown, known(100'000)}) {
      TestResponse& user = crossing.open();
      user.request("POST", "/a?b=c", length, {{"X-A", "1"}, {"cookie", "a=1; b=2"}, {"x-a", "2"}});
      const std::string body(100'000, 'u');
      user.data(body);
      const bool chunked = length.kind == http::BodyLength::Kind::unknown;
      if (chunked) {
        user.end({{"x-sum", "1"}});
      } else {
        user.end();
      }
      TestRequest& request = crossing.request();
      CHECK(lower(request.notes.heads.at(0)) ==
            "post /a?b=c app.example | x-a: 1 | cookie: a=1; b=2 | x-a: 2");
      CHECK(request.notes.body == body);
      CHECK(request.notes.trailers == (chunked ? " | x-sum: 1" : ""));
      CHECK(request.notes.ends == 1);
      request.head(201, kUnknown, {{"date", "d"}, {"set-cookie", "a"}, {"set-cookie", "b"}});
      request.data(std::string(50'000, 'd'));
      request.end({{"grpc-status", "0"}});
      CHECK(user.notes.heads.at(0) == "201 | date: d | set-cookie: a | set-cookie: b");
      CHECK(user.notes.body == std::string(50'000, 'd'));
      CHECK(user.notes.trailers == " | grpc-status: 0");
      CHECK(user.notes.ends == 1);
      CHECK(request.dones == 1);
    }
  });
}

TEST_CASE("crossing: 1xx, HEAD, 204 and 304", "[conformance]") {
  for_all_pairs([](const Codec& down, const Codec& up) {
    Crossing crossing(down, up);
    TestResponse& user = crossing.open();
    user.request("HEAD", "/");
    user.end();
    crossing.request().inform(103, {{"link", "</x>"}});
    crossing.request().head(200, known(1000), {{"date", "d"}});
    crossing.request().end();
    CHECK(user.notes.heads ==
          std::vector<std::string>{"103 | link: </x>", "200 declared=1000 | date: d"});
    CHECK(user.notes.body.empty());
    CHECK(user.notes.ends == 1);
    for (const std::uint16_t status : {std::uint16_t{204}, std::uint16_t{304}}) {
      TestResponse& next = crossing.open();
      next.request("GET", "/");
      next.end();
      crossing.request().reply(status, "");
      CHECK(next.status == status);
      CHECK(next.notes.ends == 1);
    }
  });
}

TEST_CASE("crossing: a slow reader holds up the sender at the far end", "[conformance]") {
  for_all_pairs([](const Codec& down, const Codec& up) {
    Crossing crossing(down, up, {.capacity = 16384, .piece = 16384});
    TestResponse& user = crossing.open();
    user.auto_consume = false;
    user.request("GET", "/");
    user.end();
    crossing.request().head(200, kUnknown);
    std::size_t given = 0;
    const std::size_t size = 1'000'000;
    const auto give = [&] {
      while (given < size && given - crossing.request().notes.sent < 32 * 1024) {
        crossing.request().data(std::string(4000, 'x'));
        given += 4000;
      }
    };
    give();
    CHECK(given < 500'000);
    CHECK(crossing.fixture().loop.chunks().outstanding_bytes() < 1024 * 1024);
    for (int i = 0; i < 5000 && user.notes.body.size() < size; ++i) {
      user.consume(user.notes.owed);
      give();
    }
    crossing.request().end();
    user.consume(user.notes.owed);
    CHECK(user.notes.body.size() == size);
    CHECK(user.notes.ends == 1);
  });
}

TEST_CASE("crossing: giving up is told at the other side", "[conformance]") {
  for_all_pairs([](const Codec& down, const Codec& up) {
    for (const bool client : {true, false}) {
      CAPTURE(client);
      Crossing crossing(down, up);
      TestResponse& user = crossing.open();
      user.request("POST", "/", kUnknown);
      user.data("abc");
      crossing.request().head(200, kUnknown);
      crossing.request().data("xyz");
      const Error why{Code::request_timeout, Side::local, Replay::never, 0};
      if (client) {
        user.reset(why);
        CHECK(crossing.request().notes.resets == 1);
      } else {
        crossing.request().reset(why);
        CHECK(user.notes.resets == 1);
        CHECK(user.notes.why.side == Side::upstream);
      }
      CHECK(crossing.request().dones == 0);
      CHECK(user.notes.ends == 0);
    }
  });
}

TEST_CASE("crossing: a WebSocket's tunnel, its key and its accept", "[conformance]") {
  for_all_pairs([](const Codec& down, const Codec& up) {
    Crossing crossing(down, up, {.capacity = 4096, .piece = 1000});
    TestResponse& user = crossing.open();
    // As its client speaks: with a key in HTTP/1, without in HTTP/2.
    if (down.multiplexed) {
      user.request("GET", "/chat", {}, {{"sec-websocket-version", "13"}}, "websocket");
    } else {
      user.request(
          "GET", "/chat", {},
          {{"sec-websocket-version", "13"}, {"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="}},
          "websocket");
    }
    TestRequest& request = crossing.request();
    const auto key = request.request.headers.get("sec-websocket-key");
    CHECK(key.has_value() == !up.multiplexed);
    {
      net::Loop::Turn turn(crossing.fixture().loop);
      http::ResponseHead head;
      head.status = 101;
      head.upgrade = head.headers.put("websocket");
      head.headers.add("date", "d");
      if (key) {
        const tls::WebsocketAccept accept = tls::websocket_accept(*key);
        head.headers.add("sec-websocket-accept", {accept.data(), accept.size()});
      }
      request.stream->send_head(head);
    }
    const std::string accept =
        down.multiplexed ? "" : " | sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=";
    CHECK(lower(user.notes.heads.at(0)) == "101 upgrade=websocket | date: d" + accept);
    user.data(std::string(20'000, 'u'));
    request.data(std::string(30'000, 'd'));
    CHECK(request.notes.body == std::string(20'000, 'u'));
    CHECK(user.notes.body == std::string(30'000, 'd'));
    user.end();
    CHECK(request.notes.ends == 1);
    request.data("still");
    CHECK(user.notes.body.ends_with("still"));
    request.end();
    CHECK(user.notes.ends == 1);
    CHECK(request.dones == 1);
  });
}

TEST_CASE("crossing: a server that accepts a WebSocket wrongly", "[conformance]") {
  for (const std::string_view accept : {"", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="}) {
    Crossing crossing(codecs().at(1), codecs().at(0));
    TestResponse& user = crossing.open();
    user.request("GET", "/chat", {}, {}, "websocket");
    {
      net::Loop::Turn turn(crossing.fixture().loop);
      http::ResponseHead head;
      head.status = 101;
      head.upgrade = head.headers.put("websocket");
      if (!accept.empty()) head.headers.add("sec-websocket-accept", accept);
      crossing.request().stream->send_head(head);
    }
    CHECK(user.notes.resets == 1);
    CHECK(user.notes.heads.empty());
    CHECK(crossing.request().notes.resets == 1);
  }
}

}  // namespace proxy::test
