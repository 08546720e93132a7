// Authorization and Glob: who passes, what is counted, how long a verdict lasts.
// Not the 403 itself.
#include "proxy/filter/authorization.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/unit/filter/fixture.h"

namespace proxy::filter {
namespace {

using telemetry::DenyMode;
using telemetry::Direction;

config::Mtls mtls(std::vector<std::string> principals, bool audit = false) {
  config::Mtls out;
  for (std::string& principal : principals) {
    out.allow.push_back({.name = principal, .principal = principal});
  }
  out.audit = audit;
  return out;
}

bool passes(const Authorization& filter, Connection& connection) {
  http::RequestHead head;
  Scope scope = connection.scope();
  const Result<> result = filter.on_request(head, scope);
  if (!result) {
    CHECK(result.error().code == Code::denied);
    CHECK(reply_status(result.error().code) == 403);
  }
  return result.has_value();
}

}  // namespace

TEST_CASE("a glob's star stands for any run of bytes", "[filter]") {
  struct Case {
    std::string pattern;
    std::string text;
    bool matches;
  };
  const Case cases[] = {
      {"", "", true},
      {"", "a", false},
      {"a", "a", true},
      {"a", "A", false},
      {"*", "", true},
      {"*", "spiffe://x/y", true},
      {"***", "anything", true},
      {"a*", "a", true},
      {"a*", "ba", false},
      {"*a", "ba", true},
      {"*a", "ab", false},
      {"a*a", "a", false},
      {"a*a", "aa", true},
      {"ab*ba", "aba", false},
      {"ab*ba", "abba", true},
      {"*ab*", "xxabyy", true},
      {"*ab*", "ba", false},
      {"*aab*", "aaab", true},
      {"*abab*cab*", "xababab-cab", true},
      {"*abab*cab*", "xabab-ca", false},
      {"a*b*c", "abc", true},
      {"a*b*c", "acb", false},
      {"a*b*b", "ab", false},
      {"spiffe://td/ns/shop/sa/*", "spiffe://td/ns/shop/sa/web", true},
      {"spiffe://td/ns/shop/sa/*", "spiffe://td/ns/shopping/sa/web", false},
      {"spiffe://td/ns/*/sa/web", "spiffe://td/ns/shop/sa/web", true},
      {"spiffe://td/ns/*/sa/web", "spiffe://td/ns/shop/sa/webx", false},
      {"a.c", "abc", false},
      {"a?c", "abc", false},
      {"[ab]", "a", false},
      {"*\xff*", std::string("a\xff\0b", 4), true},
      {"a*", std::string("a\0b", 3), true},
  };
  for (const Case& each : cases) {
    CAPTURE(each.pattern, each.text);
    CHECK(Glob(each.pattern).matches(each.text) == each.matches);
  }
}

TEST_CASE("a hostile glob takes linear time", "[filter]") {
  // Backtracking would need more steps than there is time for: 4 MiB squared and worse.
  constexpr std::size_t kBytes = std::size_t{4} << 20;
  const std::string text(kBytes, 'a');
  std::string stars;
  for (int i = 0; i < 2000; ++i) stars += "*a";
  CHECK_FALSE(Glob(stars + "b").matches(text));
  CHECK_FALSE(Glob(stars + "*b*").matches(text));
  CHECK_FALSE(Glob("*" + std::string(kBytes / 2, 'a') + "b*").matches(text));
  CHECK(Glob("*" + std::string(kBytes / 2, 'a') + "*").matches(text));
  CHECK(Glob(std::string(kBytes, '*')).matches(text));
}

TEST_CASE("without rules every peer passes, plaintext too", "[filter]") {
  Worker worker;
  const Authorization filter(mtls({}), worker.registry);
  Connection peer(worker, Direction::inbound, kPeer);
  Connection plaintext(worker, Direction::inbound, std::nullopt);
  CHECK(passes(filter, peer));
  CHECK(passes(filter, plaintext));
}

TEST_CASE("rules let in who matches one of them and count the others", "[filter]") {
  Worker worker;
  const Authorization filter(
      mtls({"spiffe://cluster.local/ns/a/sa/*", "spiffe://cluster.local/ns/shop/sa/web"}),
      worker.registry);
  Connection web(worker, Direction::inbound, kPeer);
  Connection a(worker, Direction::inbound, "spiffe://cluster.local/ns/a/sa/b");
  Connection other(worker, Direction::inbound, "spiffe://cluster.local/ns/shop/sa/web2");
  Connection nameless(worker, Direction::inbound, "");
  Connection plaintext(worker, Direction::inbound, std::nullopt);
  CHECK(passes(filter, web));
  CHECK(passes(filter, a));
  CHECK(worker.denied(Authorization::kNoMatch, DenyMode::enforced) == 0);
  CHECK_FALSE(passes(filter, other));
  CHECK_FALSE(passes(filter, other));
  CHECK(worker.denied(Authorization::kNoMatch, DenyMode::enforced) == 2);
  CHECK_FALSE(passes(filter, nameless));
  CHECK_FALSE(passes(filter, plaintext));
  CHECK(worker.denied(Authorization::kNoPrincipal, DenyMode::enforced) == 2);
  CHECK(worker.denied(Authorization::kNoMatch, DenyMode::enforced) == 2);
}

TEST_CASE("a star still wants a principal", "[filter]") {
  Worker worker;
  const Authorization filter(mtls({"*"}), worker.registry);
  Connection peer(worker, Direction::inbound, kPeer);
  Connection plaintext(worker, Direction::inbound, std::nullopt);
  CHECK(passes(filter, peer));
  CHECK_FALSE(passes(filter, plaintext));
}

TEST_CASE("audit counts and denies nobody", "[filter]") {
  Worker worker;
  const Authorization filter(mtls({"spiffe://cluster.local/ns/none/sa/none"}, true),
                             worker.registry);
  Connection peer(worker, Direction::inbound, kPeer);
  Connection plaintext(worker, Direction::inbound, std::nullopt);
  CHECK(passes(filter, peer));
  CHECK(passes(filter, peer));
  CHECK(passes(filter, plaintext));
  CHECK(worker.denied(Authorization::kNoMatch, DenyMode::audit) == 2);
  CHECK(worker.denied(Authorization::kNoPrincipal, DenyMode::audit) == 1);
  CHECK(worker.denied(Authorization::kNoMatch, DenyMode::enforced) == 0);
}

TEST_CASE("a connection is judged anew by the rules of a reload", "[filter]") {
  Worker worker;
  Connection peer(worker, Direction::inbound, kPeer);
  // Each filter may get the address of the one before; the verdict must not.
  for (int i = 0; i < 8; ++i) {
    const auto open = std::make_unique<Authorization>(mtls({std::string(kPeer)}), worker.registry);
    CHECK(passes(*open, peer));
    CHECK(passes(*open, peer));
    const Authorization shut(mtls({"spiffe://cluster.local/ns/none/sa/none"}), worker.registry);
    CHECK_FALSE(passes(shut, peer));
    CHECK_FALSE(passes(shut, peer));
  }
}

}  // namespace proxy::filter
