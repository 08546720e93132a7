// Precedence, environment, flags, origins, derived defaults, and files that cannot be read.
// Not the wording of errors in a file (errors_test.cc).
#include "proxy/config/sources.h"

#include <array>

#include "proxy/config/flags.h"
#include "proxy/config/keys.h"
#include "tests/support/catch.h"
#include "tests/unit/config/support.h"

namespace proxy::config {
namespace {

const FlagValues kShort{{"inbound.listen", {"--from", ":8000"}},
                        {"inbound.app", {"--to", "127.0.0.1:9898"}}};

FlagValues parse_flags(std::vector<std::string> arguments) {
  CLI::App app;
  FlagValues values;
  register_flags(app, values);
  std::reverse(arguments.begin(), arguments.end());  // CLI11 takes a vector from its end
  app.parse(arguments);
  return values;
}

TEST_CASE("--from and --to alone give a whole configuration") {
  const auto loaded = load({{}, kShort, {}});
  CHECK(render(loaded.diagnostics).empty());
  const auto& config = loaded.config;
  CHECK(config.inbound.listen.port == 8000);
  CHECK(config.inbound.app.addresses == std::vector<IpAddress>{{"127.0.0.1", Family::ipv4}});
  CHECK(config.mtls.mode == MtlsMode::off);
  CHECK(config.log.access == AccessLog::errors);
  CHECK(config.stats.listen.text == "127.0.0.1:15090");
  CHECK(config.timeouts.header == Milliseconds(10'000));
  CHECK(config.timeouts.body_idle == Milliseconds(60'000));
  CHECK(config.timeouts.request == Milliseconds(0));
  CHECK(config.timeouts.connect == Milliseconds(5'000));
  CHECK(config.timeouts.tls == Milliseconds(10'000));
  CHECK(config.timeouts.idle == Milliseconds(75'000));
  CHECK(config.timeouts.upstream_idle == Milliseconds(55'000));
  CHECK(config.timeouts.drain == Milliseconds(30'000));
  CHECK(config.stats.label_sets == 1000);
  CHECK(config.workers >= 1);
  CHECK(config.workers <= 2);
}

TEST_CASE("flag outweighs environment outweighs file outweighs default") {
  const std::string yaml = "timeouts: {connect: 1s, tls: 1s, idle: 1s}\n";
  Environment environment{{"HOPLITE_TIMEOUTS_CONNECT", "2s"}, {"HOPLITE_TIMEOUTS_TLS", "2s"}};
  auto flags = kShort;
  flags["timeouts.connect"] = {"--timeouts-connect", "3s"};
  const auto loaded = load_text(yaml, flags, environment);
  CHECK(render(loaded.diagnostics).empty());
  CHECK(loaded.config.timeouts.connect == Milliseconds(3000));
  CHECK(loaded.config.timeouts.tls == Milliseconds(2000));
  CHECK(loaded.config.timeouts.idle == Milliseconds(1000));
  CHECK(loaded.config.timeouts.header == Milliseconds(10'000));
  CHECK(origin_text(loaded.origins.of("timeouts.connect")) == "--timeouts-connect");
  CHECK(origin_text(loaded.origins.of("timeouts.tls")) == "HOPLITE_TIMEOUTS_TLS");
  CHECK(loaded.origins.of("timeouts.idle").source == Source::file);
  CHECK(loaded.origins.of("timeouts.idle").line == 1);
  CHECK(loaded.origins.of("timeouts.idle").column == 40);
  CHECK(origin_text(loaded.origins.of("timeouts.header")) == "default");
}

TEST_CASE("a wrong value is an error even where a stronger source hides it") {
  auto flags = kShort;
  flags["timeouts.connect"] = {"--timeouts-connect", "3s"};
  const auto loaded = load({{}, flags, {{"HOPLITE_TIMEOUTS_CONNECT", "5"}}, false});
  CHECK(render(loaded.diagnostics) ==
        "HOPLITE_TIMEOUTS_CONNECT: timeouts.connect: found \"5\": the unit is missing; allowed: a "
        "duration with a unit (ms, s, m, h) from 1ms to 24h\n");
}

TEST_CASE("unknown variables are warned of, Kubernetes' own are not, empty ones are not set") {
  const auto loaded = load({{},
                            kShort,
                            {{"HOPLITE_STATS_LISTN", ":1"},
                             {"HOPLITE_SERVICE_HOST", "10.0.0.1"},
                             {"HOPLITE_PORT_80_TCP", "tcp://10.0.0.1:80"},
                             {"HOPLITE_LOG_LEVEL", ""}},
                            false});
  CHECK(loaded.ok());
  CHECK(render(loaded.diagnostics) ==
        "HOPLITE_STATS_LISTN: warning: unknown variable, ignored; did you mean "
        "HOPLITE_STATS_LISTEN?\n");
  CHECK(loaded.config.log.level == LogLevel::info);
}

TEST_CASE("the environment is taken from its C form") {
  const std::array<const char*, 5> variables{"HOPLITE_WORKERS=1", "PATH=/bin", "HOPLITE_X",
                                             "HOPLITE_LOG_LEVEL=a=b", nullptr};
  CHECK(environment_from(variables.data()) ==
        Environment{{"HOPLITE_WORKERS", "1"}, {"HOPLITE_LOG_LEVEL", "a=b"}});
}

TEST_CASE("every scalar key outside lists has a flag and a variable, and both set it") {
  for (const auto& key : keys()) {
    if (!has_flag(key)) continue;
    std::string text;
    switch (key.kind) {
      case Kind::boolean:
        text = "true";
        break;
      case Kind::choice:
        text = choices_of(key).back();
        break;
      case Kind::count:
        text = std::to_string(key.traits.min + 1);
        break;
      case Kind::size:
        text = "2KiB";
        break;
      case Kind::duration:
        text = "7s";
        break;
      case Kind::listen:
        text = "127.0.0.1:7777";
        break;
      case Kind::endpoint:
        text = "127.0.0.1:7778";
        break;
      default:
        text = "some-text";
        break;
    }
    INFO(key.path);
    CHECK(flag_name(key).find_first_of("._") == std::string::npos);
    const auto flags = parse_flags({flag_name(key), text});
    REQUIRE(flags.count(key.path) == 1);
    CHECK(flags.find(key.path)->second.text == text);
    for (auto loaded :
         {load({{}, flags, {}, false}), load({{}, {}, {{variable_name(key), text}}, false})}) {
      CHECK(text_of(key, slot_of(key, &loaded.config)) == text);
    }
  }
  CHECK(flag_name(*find_key("stats.source_security_policy")) == "--stats-source-security-policy");
  CHECK(variable_name(*find_key("stats.listen")) == "HOPLITE_STATS_LISTEN");
}

TEST_CASE("every limit and timeout of the schema is in the table") {
  const auto keys_of = [](std::string_view section) { return names_in(section).size(); };
  CHECK(keys_of("timeouts") == sizeof(Timeouts) / sizeof(Milliseconds));
  CHECK(keys_of("limits") == sizeof(Limits) / sizeof(std::size_t));
}

TEST_CASE("every default is within its own bounds") {
  auto config = default_config();
  for (const auto& key : keys()) {
    if (!has_flag(key)) continue;
    const auto text = text_of(key, slot_of(key, &config));
    if (text.empty()) continue;  // a listener or endpoint that is not set
    INFO(key.path);
    CHECK(assign(key, slot_of(key, &config), text) == std::nullopt);
  }
  CHECK(config == default_config());
}

TEST_CASE("--from and --to are inbound.listen and inbound.app, and not both ways at once") {
  const auto flags = parse_flags({"--from", ":8000", "--to=127.0.0.1:9898"});
  CHECK(flags.at("inbound.listen").flag == "--from");
  CHECK(flags.at("inbound.app").text == "127.0.0.1:9898");
  CHECK_THROWS_AS(parse_flags({"--from", ":1", "--inbound-listen", ":2"}), CLI::ParseError);
  CHECK_THROWS_AS(parse_flags({"--from", ":1", "--from", ":2"}), CLI::ParseError);
}

TEST_CASE("defaults that follow other keys say so") {
  const auto loaded = load_text(R"(
workload: {name: web-v1, app: web, version: v1}
outbound:
  listen: ":9000"
  services:
    - {hosts: [api.shop.svc, api], endpoints: ["127.0.0.1:1"]}
    - {hosts: ["*.ext"], endpoints: ["127.0.0.1:2"], tls: {mode: off}}
    - {hosts: [10.0.0.7], endpoints: ["127.0.0.1:3"]}
mtls: {cert: c, key: k, ca: a, mode: strict, allow: ["spiffe://cluster.local/*"]}
)");
  CHECK(render(loaded.diagnostics).empty());
  const auto& config = loaded.config;
  CHECK(config.workload.canonical_service == "web");
  CHECK(config.workload.canonical_revision == "v1");
  REQUIRE(config.outbound.services.size() == 3);
  CHECK(config.outbound.services[0].name == "api");
  CHECK(config.outbound.services[1].name == "*.ext");
  CHECK(config.outbound.services[2].name == "10.0.0.7");
  CHECK(config.outbound.services[0].port == 80);
  CHECK(config.outbound.services[0].tls.mode == ServiceTlsMode::mutual);
  CHECK(config.outbound.services[1].tls.mode == ServiceTlsMode::off);
  REQUIRE(config.mtls.allow.size() == 1);
  CHECK(config.mtls.allow[0].name == "spiffe://cluster.local/*");
  CHECK(origin_text(loaded.origins.of("workload.canonical_service")) ==
        "default, from workload.app");
  CHECK(origin_text(loaded.origins.of("outbound.services[0].tls.mode")) ==
        "default, from mtls.cert");
  CHECK(load_text("", kShort).config.workload.canonical_revision == "latest");
}

TEST_CASE("a file that cannot be read is one diagnostic, not a trail of missing keys") {
  const TemporaryDirectory directory;
  const auto absent = load({directory.file("absent.yaml"), {}, {}});
  CHECK(directory.without(render(absent.diagnostics)) ==
        "absent.yaml: cannot be opened: No such file or directory\n");
  const auto folder = load({directory.file(""), {}, {}});
  CHECK(render(folder.diagnostics).find("cannot be read: Is a directory") != std::string::npos);
  const auto large = directory.write("large.yaml", std::string((1 << 20) + 1, '#'));
  CHECK(directory.without(render(load({large, {}, {}}).diagnostics)) ==
        "large.yaml: found 1048577 bytes; allowed: at most 1MiB\n");
}

TEST_CASE("endpoint names are not looked up") {
  auto flags = kShort;
  flags["inbound.app"].text = "no-such-name.invalid:80";
  const auto loaded = load({{}, flags, {}});
  CHECK(render(loaded.diagnostics).empty());
  CHECK(loaded.config.inbound.app.addresses.empty());
}

}  // namespace
}  // namespace proxy::config
