// `check --print`, the reference, and what a reload may change.
// Not the reading of values (sources_test.cc).
#include "proxy/config/print.h"

#include <fstream>
#include <sstream>

#include "proxy/config/difference.h"
#include "proxy/config/keys.h"
#include "proxy/config/reference.h"
#include "tests/support/catch.h"
#include "tests/unit/config/support.h"

namespace proxy::config {
namespace {

const std::string kFull = R"(
workload: {name: "web \"1\" \\ #: x", namespace: shop, app: web, version: "1.10", cluster: c,
           service_account: sa, labels: {a: b, "c d": "e: f"}}
inbound: {listen: "*:8000", app: "[::1]:9898", other_tls: terminate}
outbound:
  listen: ":9000"
  services:
    - name: api
      namespace: shop
      hosts: [api.shop, "*.api.shop"]
      port: 8080
      endpoints: ["127.0.0.1:1", "[::1]:2"]
      balance: least_request
      tls: {mode: mutual, sans: ["spiffe://td/ns/shop/sa/api"], sni: api.shop}
    - {hosts: [other], endpoints: ["127.0.0.1:3"]}
mtls:
  {mode: strict, cert: /c, key: /k, ca: /a, trust_domain: td, audit: true,
   allow: ["spiffe://td/*", {name: shop, principal: "spiffe://td/ns/shop/*"}]}
stats: {listen: ":0", ready_listen: "*:15021", source_security_policy: verified, label_sets: 10,
        idle_expiry: 90s}
log: {access: all, format: text, level: debug}
limits: {head_bytes: 1500B, header_count: 10, retry_budget: 0, requests_per_connection: 0}
timeouts: {header: 1500ms, upstream_max_age: 0, drain_delay: 2s}
workers: 3
)";

std::string file_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST_CASE("what is printed loads again to the same configuration") {
  for (const auto& yaml : {kFull, std::string("outbound: {listen: \":1\"}\n"),
                           std::string("inbound: {listen: \":1\", app: \"web.local:80\"}\n")}) {
    const auto first = load_text(yaml);
    REQUIRE(render(first.diagnostics).find("error") == std::string::npos);
    REQUIRE(first.ok());
    const auto text = print(first.config, first.origins);
    INFO(text);
    const auto second = load_text(text);
    INFO(render(second.diagnostics));
    CHECK(second.ok());
    CHECK(second.config == first.config);
  }
}

TEST_CASE("each line says where its value came from") {
  const TemporaryDirectory directory;
  const auto file = directory.write("hoplite.yaml", "log:\n  level: debug\nworkload: {app: web}\n");
  const auto loaded =
      load({file,
            {{"inbound.listen", {"--from", ":8000"}}, {"inbound.app", {"--to", ":9898"}}},
            {{"HOPLITE_TIMEOUTS_IDLE", "9s"}},
            false});
  REQUIRE(loaded.ok());
  const auto text = directory.without(print(loaded.config, loaded.origins));
  INFO(text);
  for (const auto* line : {"  listen: \":8000\"  # --from\n", "  app: \":9898\"  # --to\n",
                           "  level: debug  # hoplite.yaml:2:10\n", "  header: 10s  # default\n",
                           "  idle: 9s  # HOPLITE_TIMEOUTS_IDLE\n", "  # ready_listen is not set\n",
                           "  canonical_service: \"web\"  # default, from workload.app\n",
                           "  services: []  # default\n", "  labels: {}  # default\n"}) {
    INFO(line);
    CHECK(text.find(line) != std::string::npos);
  }
}

TEST_CASE("the reference names every key and is what README.md holds") {
  const auto reference = config_reference_markdown();
  for (const auto& key : keys()) {
    INFO(key.path);
    CHECK(reference.find("| `" + std::string(key.path) + "`") != std::string::npos);
  }
  CHECK(reference.find("| `timeouts.header` | `10s` | duration from 1ms to 24h |") !=
        std::string::npos);
  CHECK(reference.find("| `workers` * | the cores, at most 2 | a whole number") !=
        std::string::npos);

  const std::string begin = "<!-- config-reference:begin -->\n";
  const auto readme = file_text(HOPLITE_SOURCE_DIR "/README.md");
  const auto from = readme.find(begin);
  if (from == std::string::npos) return;
  const auto start = from + begin.size();
  const auto end = readme.find("<!-- config-reference:end -->", start);
  REQUIRE(end != std::string::npos);
  INFO("hoplite check --reference prints what belongs between the two marks");
  CHECK(readme.substr(start, end - start) == reference);
}

TEST_CASE("a reload may not move listeners or change the number of workers") {
  const auto running = load_text(kFull);
  CHECK(not_reloadable(running.config, running.config, running.origins).empty());

  const auto wanted = load_text(
      "inbound: {listen: \":8001\", app: \":1\"}\nworkers: 4\nlog: {level: error}\n"
      "stats: {ready_listen: \"*:15021\"}\n");
  REQUIRE(wanted.ok());
  const auto found = not_reloadable(running.config, wanted.config, wanted.origins);
  std::vector<std::string> keys_found;
  for (const auto& diagnostic : found) keys_found.push_back(diagnostic.key);
  CHECK(keys_found == std::vector<std::string>{"inbound.listen", "outbound.listen", "stats.listen",
                                               "stats.label_sets", "workers"});
  CHECK(found[0].message == "was \"*:8000\", now \":8001\": this takes a restart");
  CHECK(found[0].origin.line == 1);
  CHECK(found[1].message == "was \":9000\", now not set: this takes a restart");
  CHECK(has_errors(found));
}

}  // namespace
}  // namespace proxy::config
