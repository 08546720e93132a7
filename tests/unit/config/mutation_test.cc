// Damaged and hostile files: load() always comes back, with bounded work, and never throws.
// Not the wording of what it says (errors_test.cc).
#include <ctime>
#include <random>

#include "proxy/config/keys.h"
#include "proxy/config/parse.h"
#include "proxy/config/print.h"
#include "proxy/config/validate.h"
#include "tests/support/catch.h"
#include "tests/unit/config/support.h"

namespace proxy::config {
namespace {

const std::string kSeed = R"(workload: {name: web, labels: {a: b}}
inbound:
  listen: ":8000"
  app: "127.0.0.1:9898"
outbound:
  listen: ":9000"
  services:
    - hosts: [api.shop, "*.api"]
      endpoints: &e ["127.0.0.1:1", "[::1]:2"]
      tls: {mode: mutual, sans: ["spiffe://td/x"]}
    - {hosts: [b], endpoints: *e , balance: least_request}
mtls:
  mode: strict
  cert: /c
  key: /k
  ca: /a
  allow: ["*", {name: n, principal: "spiffe://td/*"}]
timeouts: {header: 10s, request: 0}
limits: {head_bytes: 60KiB}
)";

// Parse and judge, as load() does, without the file.
Diagnostics judge(const std::string& yaml) {
  auto config = default_config();
  Origins origins;
  Diagnostics diagnostics;
  parse(yaml, "hoplite.yaml", config, origins, diagnostics);
  validate(config, origins, diagnostics);
  CHECK_FALSE(print(config, origins).empty());
  CHECK(render(diagnostics).size() < 4'000'000);
  return diagnostics;
}

// Seconds of the processor, which others cannot take from us.
double time_of(const std::string& yaml) {
  const std::clock_t start = std::clock();
  judge(yaml);
  return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
}

TEST_CASE("mutated files never throw") {
  std::mt19937 random(20261122);
  const std::string pieces = " \t\n:-{}[]\"'*&!|>%@`#,?~0a\\\xff";
  const auto below = [&](std::size_t n) { return std::size_t{random() % n}; };
  for (int round = 0; round < 3000; ++round) {
    auto text = kSeed;
    for (auto edits = 1 + below(4); edits > 0; --edits) {
      const auto at = below(text.size());
      switch (below(4)) {
        case 0:
          text[at] = pieces[below(pieces.size())];
          break;
        case 1:
          text.insert(at, 1, pieces[below(pieces.size())]);
          break;
        case 2:
          text.erase(at, 1 + below(12));
          break;
        default:
          text.insert(at, text.substr(below(text.size()), 1 + below(40)));
          break;
      }
    }
    INFO(text);
    CHECK_NOTHROW(judge(text));
  }
}

TEST_CASE("every prefix of a file comes back") {
  for (std::size_t length = 0; length <= kSeed.size(); ++length) {
    CHECK_NOTHROW(judge(kSeed.substr(0, length)));
  }
}

TEST_CASE("bombs are bounded") {
  const std::string head = "outbound:\n  listen: \":1\"\n  services:\n";
  // 1,000 services that share one list of 256 endpoints: 256,000 values out of a short file.
  std::string aliases = "x: &x [";
  for (int i = 0; i < 256; ++i) aliases += "\":1\", ";
  aliases += "]\n" + head;
  for (int i = 0; i < 1000; ++i) {
    aliases += "  - {hosts: [h" + std::to_string(i) + "], endpoints: *x }\n";
  }
  const auto found = judge(aliases);
  CHECK(render(found).find("more than 100000 values, aliases unfolded") != std::string::npos);

  std::string laughs = "a0: &a0 [x]\n";
  for (int i = 1; i < 30; ++i) {
    const auto alias = "*a" + std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + alias + " , " + alias +
              " ]\n";
  }
  laughs += "mtls: {allow: *a29 }\n";
  CHECK(has_errors(judge(laughs)));

  CHECK(has_errors(judge(std::string(100'000, '['))));
  CHECK(has_errors(judge(std::string(100'000, '{'))));
  CHECK(has_errors(judge("a: &a [*a ]\nmtls: {allow: *a }\n")));
  CHECK(has_errors(judge("a: &a {outbound: *a }\n<<: *a\n")));
}

TEST_CASE("a file of the largest size is judged in bounded time") {
  std::string keys = "";
  while (keys.size() < kMaxFileBytes - 16) keys += "k" + std::to_string(keys.size()) + ": v\n";
  std::string list = "mtls: {allow: [";
  while (list.size() < kMaxFileBytes - 16) list += "a,";
  list += "]}\n";
  // A second each in a release build; sanitizers may take many times that.
  for (const auto& yaml : {keys, list}) CHECK(time_of(yaml) < 40);
}

}  // namespace
}  // namespace proxy::config
