// Data through a pair of sessions: any cutting of the bytes, any buffers, record sizes, the end.
// Not who is accepted (handshake_test.cc).
#include <atomic>
#include <thread>

#include "tests/unit/tls/pair.h"

using Status = tls::Session::Status;
using test::Link;
using test::Mesh;

namespace {

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  unsigned state = 7;
  for (char& c : text) {
    state = state * 1103515245 + 12345;
    c = static_cast<char>(state >> 24);
  }
  return text;
}

// What a TLS 1.3 record adds: header 5, content type 1, tag 16.
constexpr std::size_t kOverhead = 22;

}  // namespace

TEST_CASE("handshake and data survive any cutting of both directions") {
  Mesh mesh;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  const std::string there = pattern(40000);
  const std::string back = pattern(20001);
  for (const std::size_t chop : {1, 2, 3, 5, 7, 16, 100, 4096, 100000}) {
    for (const std::size_t room : {std::size_t{1}, std::size_t{1000}, std::size_t{1} << 20}) {
      Link link(client, server);
      link.chop = chop;
      link.buffer = chop == 7 ? 1 : 333;
      link.client.out.piece = room;
      link.server.out.piece = room;
      link.handshake();
      REQUIRE(link.both_done());
      REQUIRE(link.client.write(there));
      REQUIRE(link.server.write(back));
      link.pump();
      CHECK(link.server.got == there);
      CHECK(link.client.got == back);
    }
  }
}

TEST_CASE("the ciphertext cut once at each byte gives the same") {
  Mesh mesh;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  Link first(client, server);
  first.client.session.start(first.client.out);
  const std::size_t hello = first.client.out.bytes.size();
  for (std::size_t cut = 1; cut < hello; ++cut) {
    Link link(client, server);
    link.client.session.start(link.client.out);
    auto bytes = std::exchange(link.client.out.bytes, {});
    const auto all = std::span<const std::byte>(bytes);
    const std::size_t at = std::min(cut, all.size());
    link.server.feed(all.first(at), all.size(), 64);
    link.server.feed(all.subspan(at), all.size(), 64);
    REQUIRE_FALSE(link.server.out.bytes.empty());
    REQUIRE_FALSE(link.server.failed());
  }
}

TEST_CASE("megabytes pass through a small plain buffer") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  link.buffer = 700;
  const std::string text = pattern(3 << 20);
  REQUIRE(link.client.write(text));
  link.pump();
  CHECK(link.server.got == text);
}

TEST_CASE("slices share one record and large ones fill records") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  const std::string text = pattern(100000);
  const auto bytes = test::as_bytes(text);
  const auto cost = [&](std::vector<std::span<const std::byte>> slices) {
    std::size_t plain = 0;
    for (const auto& slice : slices) plain += slice.size();
    REQUIRE(link.server.session.write(slices, link.server.out));
    const std::size_t cipher = link.server.out.bytes.size();
    link.client.got.clear();
    link.pump();
    std::string expected;
    for (const auto& slice : slices)
      expected.append(reinterpret_cast<const char*>(slice.data()), slice.size());
    CHECK(link.client.got == expected);
    return static_cast<double>(cipher - plain) / static_cast<double>(kOverhead);
  };
  CHECK(cost({bytes.first(100)}) == 1);
  CHECK(cost({bytes.first(100), bytes.first(50), bytes.first(1)}) == 1);
  CHECK(cost({bytes.first(0), bytes.first(100), bytes.first(0)}) == 1);
  CHECK(cost({}) == 0);
  CHECK(cost({bytes.first(16384)}) == 1);
  CHECK(cost({bytes.first(16385)}) == 2);
  CHECK(cost({bytes.first(10000), bytes.first(10000)}) == 2);
  CHECK(cost({bytes.first(100), bytes.first(65436)}) == 4);
  CHECK(cost({bytes.first(65536), bytes.first(10), bytes.first(10)}) == 5);
}

TEST_CASE("plain full means more, and empty plain loses nothing") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  REQUIRE(link.client.write("hello"));
  std::span<const std::byte> cipher(link.client.out.bytes);
  std::byte room[8];
  auto& server = link.server;
  auto result = server.session.read(cipher, {}, server.out);
  CHECK(result.plain == 0);
  CHECK(result.status == Status::more);
  result = server.session.read(cipher, std::span(room).first(2), server.out);
  CHECK(result.plain == 2);
  CHECK(result.status == Status::more);
  result = server.session.read(cipher, std::span(room).first(3), server.out);
  CHECK(result.plain == 3);
  CHECK(result.status == Status::want_input);
  CHECK(cipher.empty());
  result = server.session.read(cipher, room, server.out);
  CHECK(result.plain == 0);
  CHECK(result.status == Status::want_input);
}

TEST_CASE("close_notify ends one direction at a time") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  REQUIRE(link.client.write("last words"));
  link.client.session.shutdown(link.client.out);
  link.client.session.shutdown(link.client.out);
  link.pump();
  CHECK(link.server.got == "last words");
  CHECK(link.server.status == Status::closed);
  REQUIRE(link.server.write("still here"));
  link.server.session.shutdown(link.server.out);
  link.pump();
  CHECK(link.client.got == "still here");
  CHECK(link.client.status == Status::closed);
  CHECK(link.client.failure() == tls::Failure::none);
}

TEST_CASE("shutdown before the handshake is done writes nothing") {
  Mesh mesh;
  test::End server(mesh.server_context());
  server.session.shutdown(server.out);
  CHECK(server.out.bytes.empty());
}

TEST_CASE("a changed byte anywhere in a record fails the session") {
  Mesh mesh;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  for (std::size_t at = 0; at < 5 + kOverhead; ++at) {
    if (at == 3 || at == 4) continue;  // the length: a longer record is awaited
    Link link(client, server);
    REQUIRE(link.handshake().both_done());
    REQUIRE(link.client.write("hello"));
    link.client.out.bytes.at(at) ^= std::byte{1};
    const auto bytes = std::exchange(link.client.out.bytes, {});
    link.server.feed(bytes, 1 << 20, 100);
    CHECK(link.server.failed());
    CHECK(link.server.got.empty());
    CHECK(link.server.failure() != tls::Failure::none);
    CHECK_FALSE(link.server.write("answer"));
  }
}

TEST_CASE("writing before the handshake, or without room, fails the session") {
  Mesh mesh;
  test::End early(mesh.client_context(), tls::ClientTarget{});
  CHECK_FALSE(early.write("x"));
  CHECK(early.failure() == tls::Failure::other);
  Link link(mesh.client_context(), mesh.server_context());
  REQUIRE(link.handshake().both_done());
  link.client.out.piece = 0;
  CHECK_FALSE(link.client.write("x"));
  CHECK_FALSE(link.client.session.facts().detail.empty());
}

TEST_CASE("a session of the wrong role fails instead of working by chance") {
  Mesh mesh;
  test::End wrong(mesh.client_context());
  wrong.feed(test::as_bytes("\x16\x03\x01"), 10, 10);
  CHECK(wrong.failed());
  CHECK_FALSE(wrong.session.facts().detail.empty());
}

TEST_CASE("idle buffers are given back and come again") {
  Mesh mesh;
  Link link(mesh.client_context(), mesh.server_context());
  link.client.session.release_idle_buffers();
  REQUIRE(link.handshake().both_done());
  for (int i = 0; i < 3; ++i) {
    link.client.session.release_idle_buffers();
    link.server.session.release_idle_buffers();
    REQUIRE(link.client.write("ping"));
    link.pump();
  }
  CHECK(link.server.got == "pingpingping");
  // In the middle of a record nothing is lost.
  REQUIRE(link.client.write("pong"));
  const auto bytes = std::exchange(link.client.out.bytes, {});
  const auto all = std::span<const std::byte>(bytes);
  link.server.feed(all.first(12), 12, 100);
  link.server.session.release_idle_buffers();
  link.server.feed(all.subspan(12), 100, 100);
  CHECK(link.server.got == "pingpingpingpong");
}

TEST_CASE("threads share contexts") {
  Mesh mesh;
  const auto server = mesh.server_context();
  const auto client = mesh.client_context();
  std::atomic<int> good{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      tls::ClientSessions sessions;
      for (int i = 0; i < 10; ++i) {
        tls::ClientTarget target;
        target.sessions = &sessions;
        Link link(client, server, target);
        link.client.session.start(link.client.out);
        link.pump();
        const bool expected = (i > 0) == link.server.session.facts().resumed;
        if (link.both_done() && expected && link.client.write("x")) ++good;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 40);
}
