// `hoplite certs` makes files that the configuration takes, and overwrites nothing unasked.
// Not the certificates' content beyond that (tests/unit/tls/issue_test.cc).
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "proxy/commands/command.h"
#include "tests/support/catch.h"
#include "tests/support/certs.h"

namespace {

using namespace proxy::commands;

int certs(std::vector<std::string> arguments) {
  Action action;
  CLI::App program;
  describe(program);
  add_certs(program, action);
  arguments.insert(arguments.begin(), "certs");
  if (const auto code = parse(program, arguments)) return *code;
  return action();
}

std::string content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

unsigned mode_of(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 0777 : 0;
}

}  // namespace

TEST_CASE("init and issue give credentials that fit together") {
  const test::Folder folder;
  const auto dir = folder.path("new/ca");
  REQUIRE(certs({"init", "--dir", dir, "--trust-domain", "example.org"}) == kOk);
  REQUIRE(certs({"issue", "--dir", dir, "--namespace", "shop", "--service-account", "web"}) == kOk);
  const auto file = [&](const std::string& name) { return dir + "/" + name; };
  const auto loaded = tls::load({file("web.pem"), file("web-key.pem"), file("ca.pem")},
                                "example.org", tls::system_now());
  REQUIRE(loaded);
  CHECK(loaded->spiffe_uri == "spiffe://example.org/ns/shop/sa/web");
  CHECK(mode_of(file("ca-key.pem")) == 0600);
  CHECK(mode_of(file("web-key.pem")) == 0600);
  CHECK(mode_of(file("web.pem")) == 0644);
}

TEST_CASE("nothing is overwritten unless forced") {
  const test::Folder folder;
  const auto dir = folder.path("");
  REQUIRE(certs({"init", "--dir", dir}) == kOk);
  REQUIRE(certs({"issue", "--dir", dir, "--name", "x"}) == kOk);
  const auto ca = content(folder.path("ca.pem"));
  const auto leaf = content(folder.path("x.pem"));
  CHECK(certs({"init", "--dir", dir}) == kFailure);
  CHECK(certs({"issue", "--dir", dir, "--name", "x"}) == kFailure);
  CHECK(content(folder.path("ca.pem")) == ca);
  CHECK(content(folder.path("x.pem")) == leaf);
  CHECK(certs({"issue", "--dir", dir, "--name", "x", "--force"}) == kOk);
  CHECK(content(folder.path("x.pem")) != leaf);
  CHECK(certs({"init", "--dir", dir, "--force"}) == kOk);
  CHECK(content(folder.path("ca.pem")) != ca);
}

TEST_CASE("what cannot be issued is refused and writes nothing") {
  const test::Folder folder;
  const auto dir = folder.path("");
  CHECK(certs({"issue", "--dir", dir}) == kFailure);  // no CA
  CHECK(certs({"init", "--dir", dir, "--trust-domain", "a/b"}) == kFailure);
  CHECK(certs({"init", "--dir", dir, "--days", "0"}) == kUsage);
  REQUIRE(std::filesystem::is_empty(dir));
  REQUIRE(certs({"init", "--dir", dir}) == kOk);
  const auto ca = content(folder.path("ca.pem"));
  for (const auto* name : {"ca", "ca-key", "../x", ".x"}) {
    INFO(name);
    CHECK(certs({"issue", "--dir", dir, "--name", name, "--force"}) == kUsage);
  }
  CHECK(certs({"issue", "--dir", dir, "--namespace", "a/b"}) == kFailure);
  CHECK(certs({"issue", "--dir", dir, "--service-account", ""}) == kFailure);
  CHECK(content(folder.path("ca.pem")) == ca);
  CHECK(std::distance(std::filesystem::directory_iterator(dir), {}) == 2);
}
