// The client's store of sessions: bounds, order, expiry.
// Not what a session is good for (resumption_test.cc).
#include "tls/client_sessions.h"

#include "tests/support/catch.h"

namespace {

constexpr std::chrono::sys_seconds kNow{std::chrono::seconds(1'000'000)};

tls::ClientSessions::Entry entry(int seconds = 60) {
  tls::ClientSessions::Entry made;
  made.session.reset(SSL_SESSION_new());
  made.expires = kNow + std::chrono::seconds(seconds);
  return made;
}

}  // namespace

TEST_CASE("the least recently used session goes when the store is full") {
  tls::ClientSessions sessions(2);
  sessions.put("a", entry());
  sessions.put("b", entry());
  REQUIRE(sessions.find("a", kNow) != nullptr);
  sessions.put("c", entry());
  CHECK(sessions.size() == 2);
  CHECK(sessions.find("a", kNow) != nullptr);
  CHECK(sessions.find("b", kNow) == nullptr);
  CHECK(sessions.find("c", kNow) != nullptr);
}

TEST_CASE("a newer session replaces the one of its key") {
  tls::ClientSessions sessions(2);
  sessions.put("a", entry(1));
  sessions.put("a", entry(100));
  CHECK(sessions.size() == 1);
  CHECK(sessions.find("a", kNow + std::chrono::seconds(50)) != nullptr);
}

TEST_CASE("expired and erased sessions are gone") {
  tls::ClientSessions sessions(4);
  sessions.put("a", entry(10));
  CHECK(sessions.find("a", kNow + std::chrono::seconds(9)) != nullptr);
  CHECK(sessions.find("a", kNow + std::chrono::seconds(10)) == nullptr);
  CHECK(sessions.size() == 0);
  sessions.put("b", entry());
  sessions.erase("b");
  sessions.erase("b");
  CHECK(sessions.find("b", kNow) == nullptr);
}

TEST_CASE("many keys stay within the bound, and none at all is fine") {
  tls::ClientSessions sessions(100);
  for (int i = 0; i < 10000; ++i) sessions.put("host-" + std::to_string(i), entry());
  CHECK(sessions.size() == 100);
  CHECK(sessions.find("host-9999", kNow) != nullptr);
  CHECK(sessions.find("host-9899", kNow) == nullptr);
  tls::ClientSessions none(0);
  none.put("a", entry());
  CHECK(none.size() == 0);
}
