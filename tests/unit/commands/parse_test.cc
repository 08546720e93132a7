// Which command a command line chooses, and that a wrong one chooses none.
// Not what the commands do (certs_test.cc, tests/e2e/test_commands.py).
#include <string>
#include <vector>

#include "proxy/commands/command.h"
#include "tests/support/catch.h"

namespace {

using namespace proxy::commands;

struct Parsed {
  Action action;
  std::optional<int> code;
};

Parsed parse_line(const std::vector<std::string>& arguments) {
  Parsed out;
  CLI::App program;
  describe(program);
  add_run(program, out.action);
  add_check(program, out.action);
  add_certs(program, out.action);
  add_version(program, out.action);
  out.code = parse(program, arguments);
  return out;
}

}  // namespace

TEST_CASE("a good command line chooses an action") {
  for (const auto& line : std::vector<std::vector<std::string>>{
           {"--from", ":8000", "--to", ":9898"},
           {"--from=:8000", "--to=:9898", "--log-access=all"},
           {"-c", "x.yaml"},
           {"run", "-c", "x.yaml", "--stats-listen", "*:1"},
           {"run"},
           {"check", "--config", "x.yaml", "--print"},
           {"check", "--reference"},
           {"certs", "init"},
           {"certs", "issue", "--dns", "a", "--dns", "b", "--days", "3"},
           {"version"}}) {
    INFO(line.front());
    const auto parsed = parse_line(line);
    CHECK(!parsed.code);
    CHECK(parsed.action);
  }
}

TEST_CASE("help and version end well without an action") {
  for (const auto& line : std::vector<std::vector<std::string>>{{"--help"},
                                                                {"-h"},
                                                                {"--version"},
                                                                {"run", "--help"},
                                                                {"--from", "x", "--help"},
                                                                {"check", "--help"},
                                                                {"certs", "--help"},
                                                                {"certs", "init", "--help"},
                                                                {"certs", "issue", "--help"},
                                                                {"version", "--help"}}) {
    INFO(line.front());
    const auto parsed = parse_line(line);
    CHECK(parsed.code == kOk);
    CHECK(!parsed.action);
  }
}

TEST_CASE("a wrong command line is wrong usage") {
  for (const auto& line :
       std::vector<std::vector<std::string>>{{},
                                             {""},
                                             {"-"},
                                             {"rnu"},
                                             {"--form", ":8000"},
                                             {"--from"},
                                             {"run", "x.yaml"},
                                             {"run", "version"},
                                             {"--from", "a", "--from", "b"},
                                             {"--from", "a", "--inbound-listen", "b"},
                                             {"certs"},
                                             {"certs", "inti"},
                                             {"certs", "init", "--days", "many"},
                                             {"version", "1"}}) {
    INFO((line.empty() ? "" : line.front()));
    CHECK(parse_line(line).code == kUsage);
  }
}

TEST_CASE("the version is printed with exit code 0") {
  const auto parsed = parse_line({"version"});
  REQUIRE(parsed.action);
  CHECK(parsed.action() == kOk);
}
