// The behaviour of streams that every codec must show, whatever its wire.
// Not bytes: what stands on the wire is each codec's unit test's business.
#include <string>

#include "tests/conformance/codec_pair.h"
#include "tests/support/catch.h"

namespace proxy::test {
namespace {

constexpr http::BodyLength kUnknown{http::BodyLength::Kind::unknown, 0};

http::BodyLength known(std::uint64_t bytes) {
  return {http::BodyLength::Kind::known, bytes};
}

const Error kGivenUp{Code::request_timeout, Side::local, Replay::never, 0};

// Answers each request with its own body, as it comes, by credit.
void echo(TestRequest& request) {
  request.auto_consume = false;
  request.when_head = [&request] { request.head(200, kUnknown); };
  request.when_data = [&request, told = std::size_t{0}]() mutable {
    const std::string body = request.notes.body.substr(told);
    told = request.notes.body.size();
    request.data(body);
  };
  request.when_sent = [&request, sent = std::size_t{0}]() mutable {
    request.consume(request.notes.sent - sent);
    sent = request.notes.sent;
  };
  request.when_end = [&request] { request.end(); };
}

std::string pattern(std::size_t bytes) {
  std::string text(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

}  // namespace

TEST_CASE("requests and responses without bodies, one after another", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    for (int i = 0; i < 10; ++i) {
      TestResponse& user = pair.open();
      user.request("GET", "/x", {}, {{"x-a", "1"}, {"x-b", "2"}});
      user.end();
      REQUIRE(pair.handler.requests.size() == static_cast<std::size_t>(i) + 1);
      CHECK(pair.request().notes.heads.at(0) == "GET /x app.example | x-a: 1 | x-b: 2");
      CHECK(pair.request().notes.ends == 1);
      pair.request().reply(204, "", {{"x-c", "3"}, {"date", "d"}});
      CHECK(user.notes.heads == std::vector<std::string>{"204 | x-c: 3 | date: d"});
      CHECK(user.notes.ends == 1);
      CHECK(pair.request().dones == 1);
      CHECK(pair.request().request_complete);
    }
    CHECK(pair.client->streams_opened() == 10);
  }
}

TEST_CASE("echo of bodies of many sizes, known and unknown", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, std::size_t{65536}}) {
      for (const std::size_t size : {std::size_t{1}, std::size_t{2047}, std::size_t{5000},
                                     std::size_t{piece == 1 ? 20'000U : 1'000'000U}}) {
        CAPTURE(piece, size);
        CodecPair pair(codec, {.capacity = 16384, .piece = piece});
        pair.handler.when_started = echo;
        TestResponse& user = pair.open();
        const std::string body = pattern(size);
        user.request("POST", "/", size % 2 == 0 ? kUnknown : known(size));
        user.data(body);
        user.end();
        CHECK(user.notes.body == body);
        CHECK(user.notes.ends == 1);
        CHECK(user.notes.sent == size);
        CHECK(pair.request().dones == 1);
        CHECK(pair.request().notes.owed == 0);
        CHECK(pair.request().notes.wire.received > size);
        CHECK(pair.request().notes.wire.sent > size);
      }
    }
  }
}

TEST_CASE("a slow reader of a response holds a bounded amount", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec, {.capacity = 16384, .piece = 16384});
    TestResponse& user = pair.open();
    user.auto_consume = false;
    user.request("GET", "/");
    user.end();
    pair.request().head(200, kUnknown);
    const std::string body = pattern(500'000);
    // A polite sender: never more than 64 KiB that have not been sent.
    std::size_t given = 0;
    const auto give = [&] {
      while (given < body.size() && given - pair.request().notes.sent < 64 * 1024) {
        pair.request().data(std::string_view(body).substr(given, 4096));
        given += std::min<std::size_t>(4096, body.size() - given);
      }
    };
    give();
    CHECK(user.notes.owed <= 64 * 1024 + 16384);
    CHECK(given < 64 * 1024 * 2 + 2 * 16384 + 4096);
    CHECK(pair.fixture.loop.chunks().outstanding_bytes() < 512 * 1024);
    int rounds = 0;
    while (user.notes.body.size() < body.size() && ++rounds < 10'000) {
      user.consume(std::min<std::size_t>(user.notes.owed, 3000));
      give();
    }
    pair.request().end();
    user.consume(user.notes.owed);  // the end waits behind the bytes that were not consumed
    CHECK(user.notes.most_owed <= 64 * 1024 + 16384);
    CHECK(user.notes.body == body);
    CHECK(user.notes.ends == 1);
  }
}

TEST_CASE("a slow reader of a request holds a bounded amount", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec, {.capacity = 16384, .piece = 16384});
    pair.handler.when_started = [](TestRequest& request) { request.auto_consume = false; };
    TestResponse& user = pair.open();
    user.request("POST", "/", known(300'000));
    user.data(pattern(300'000));
    user.end();
    CHECK(pair.request().notes.owed <= 64 * 1024 + 16384);
    CHECK(pair.request().notes.ends == 0);
    int rounds = 0;
    while (pair.request().notes.ends == 0 && ++rounds < 10'000) {
      pair.request().consume(std::min<std::size_t>(pair.request().notes.owed, 3000));
    }
    CHECK(pair.request().notes.body == pattern(300'000));
    pair.request().reply(200, "");
    CHECK(user.notes.ends == 1);
  }
}

TEST_CASE("slow writers: a byte at a time both ways", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    pair.handler.when_started = echo;
    TestResponse& user = pair.open();
    user.request("POST", "/", kUnknown);
    for (int i = 0; i < 500; ++i) {
      user.data("x");
      CHECK(user.notes.body.size() == static_cast<std::size_t>(i) + 1);
    }
    user.end();
    CHECK(user.notes.ends == 1);
  }
}

TEST_CASE("trailers go both ways", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("POST", "/", kUnknown);
    user.data("a");
    user.end({{"x-up", "1"}});
    CHECK(pair.request().notes.trailers == " | x-up: 1");
    pair.request().head(200, kUnknown);
    pair.request().data("b");
    pair.request().end({{"x-down", "2"}});
    CHECK(user.notes.trailers == " | x-down: 2");
  }
}

TEST_CASE("1xx come before the final head", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("POST", "/", known(2), {{"expect", "100-continue"}});
    pair.request().inform(103, {{"link", "</x>"}});
    pair.request().inform(100);
    CHECK(user.notes.heads == std::vector<std::string>{"103 | link: </x>", "100"});
    user.data("ab");
    user.end();
    pair.request().reply(200, "", {{"date", "d"}});
    CHECK(user.notes.heads.size() == 3);
    CHECK(user.status == 200);
    CHECK(user.notes.ends == 1);
  }
}

TEST_CASE("answers that have no body whatever they say", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("HEAD", "/");
    user.end();
    pair.request().head(200, known(1000), {{"date", "d"}});
    pair.request().end();
    CHECK(user.notes.heads.at(0) == "200 declared=1000 | date: d");
    CHECK(user.notes.body.empty());
    CHECK(user.notes.ends == 1);
    for (const std::uint16_t status : {std::uint16_t{204}, std::uint16_t{304}}) {
      TestResponse& next = pair.open();
      next.request("GET", "/");
      next.end();
      pair.request().reply(status, "");
      CHECK(next.status == status);
      CHECK(next.notes.ends == 1);
    }
  }
}

TEST_CASE("an early response ends before its request", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("POST", "/", known(10));
    user.data("abc");
    pair.request().reply(200, "early");
    CHECK(pair.request().dones == 1);
    CHECK_FALSE(pair.request().request_complete);
    CHECK(user.notes.body == "early");
    CHECK(user.notes.ends == 1);
    if (user.stream) {
      user.data("defghij");
      user.end();
    }
    CHECK_FALSE(user.stream.joined());
    // The connection goes on.
    TestResponse& next = pair.open();
    next.request("GET", "/next");
    next.end();
    CHECK(pair.request().notes.heads.at(0) == "GET /next app.example");
    pair.request().reply(200, "");
    CHECK(next.notes.ends == 1);
  }
}

TEST_CASE("the client gives up, at each point", "[conformance]") {
  for (const Codec& codec : codecs()) {
    for (int point = 0; point < 5; ++point) {
      CAPTURE(codec.name, point);
      CodecPair pair(codec);
      TestResponse& user = pair.open();
      user.request("POST", "/", kUnknown);
      if (point >= 1) user.data("abc");
      if (point >= 2) user.end();
      if (point >= 3) pair.request().head(200, kUnknown);
      if (point >= 4) pair.request().data("xyz");
      user.reset(kGivenUp);
      CHECK(user.notes.resets == 0);
      CHECK(pair.request().notes.resets == 1);
      CHECK(pair.request().dones == 0);
      CHECK(pair.request().notes.why.side == Side::downstream);
    }
  }
}

TEST_CASE("the server gives up, at each point", "[conformance]") {
  for (const Codec& codec : codecs()) {
    for (int point = 0; point < 5; ++point) {
      CAPTURE(codec.name, point);
      CodecPair pair(codec);
      TestResponse& user = pair.open();
      user.request("POST", "/", kUnknown);
      if (point >= 1) user.data("abc");
      if (point >= 2) user.end();
      if (point >= 3) pair.request().head(200, kUnknown);
      if (point >= 4) pair.request().data("xyz");
      pair.request().reset(kGivenUp);
      CHECK(pair.request().notes.resets == 0);
      CHECK(user.notes.resets == 1);
      CHECK(user.notes.ends == 0);
      CHECK(user.notes.why.side == Side::upstream);
      const Code cut = point >= 3 ? Code::upstream_truncated : Code::upstream_closed;
      // HTTP/2 can tell that it was a reset.
      CHECK((user.notes.why.code == cut || user.notes.why.code == Code::upstream_reset));
    }
  }
}

TEST_CASE("a tunnel carries bytes and half-closes, either side first", "[conformance]") {
  for (const Codec& codec : codecs()) {
    for (const bool client_first : {true, false}) {
      CAPTURE(codec.name, client_first);
      CodecPair pair(codec, {.capacity = 4096, .piece = 1000});
      TestResponse& user = pair.open();
      user.request("GET", "/ws", {}, {}, "websocket");
      CHECK(pair.request().notes.heads.at(0) == "GET /ws app.example upgrade=websocket");
      CHECK(pair.request().notes.ends == 0);
      pair.request().upgrade("websocket");
      CHECK(user.status == 101);
      user.data(pattern(20'000));
      CHECK(pair.request().notes.body == pattern(20'000));
      pair.request().data(pattern(30'000));
      CHECK(user.notes.body == pattern(30'000));
      const auto end_client = [&] {
        user.end();
        CHECK(pair.request().notes.ends == 1);
      };
      const auto end_server = [&] {
        pair.request().end();
        CHECK(user.notes.ends == 1);
      };
      if (client_first) {
        end_client();
        pair.request().data("still");
        CHECK(user.notes.body.ends_with("still"));
        end_server();
      } else {
        end_server();
        user.data("still");
        CHECK(pair.request().notes.body.ends_with("still"));
        end_client();
      }
      CHECK(pair.request().dones == 1);
      CHECK(user.notes.resets == 0);
      CHECK(pair.both_closed() == !codec.multiplexed);
    }
  }
}

TEST_CASE("an upgrade that is refused is an ordinary answer", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("GET", "/ws", {}, {}, "websocket");
    pair.request().reply(403, "no");
    CHECK(user.status == 403);
    CHECK(user.notes.body == "no");
    CHECK(user.notes.ends == 1);
    CHECK(pair.request().notes.ends == 1);
    CHECK(pair.request().request_complete);
    CHECK(pair.client->free_slots() > 0);
  }
}

TEST_CASE("draining lets the present request finish", "[conformance]") {
  for (const Codec& codec : codecs()) {
    CAPTURE(codec.name);
    CodecPair pair(codec);
    TestResponse& user = pair.open();
    user.request("GET", "/");
    user.end();
    {
      net::Loop::Turn turn(pair.fixture.loop);
      pair.server->begin_drain();
    }
    pair.request().reply(200, "last");
    CHECK(user.notes.body == "last");
    CHECK(user.notes.ends == 1);
    CHECK(pair.both_closed());
  }
}

}  // namespace proxy::test
