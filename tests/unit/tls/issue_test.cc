// Certificates that are made are good, files are written whole, private and not over others.
// Not their use in TLS (handshake_test.cc).
#include "tls/issue.h"

#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/support/catch.h"
#include "tests/support/certs.h"
#include "tls/context.h"
#include "tls/verify.h"

namespace {

std::string read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

unsigned mode_of(const std::string& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

std::size_t files_in(const std::string& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
}

}  // namespace

TEST_CASE("an authority and a workload of it are good credentials") {
  const test::Folder folder;
  const auto ca = tls::make_authority("cluster.local", 365);
  REQUIRE(ca);
  tls::WorkloadSpec spec;
  spec.ns = "prod";
  spec.sa = "shop";
  spec.dns_sans = {"shop.prod.svc.cluster.local", "*.example.com"};
  const auto made = tls::issue_workload(*ca, spec);
  REQUIRE(made);
  const auto files = test::store(folder, "shop", *made, ca->certificate);
  CHECK(tls::check_files(files, "cluster.local").empty());
  const auto loaded = tls::load(files, "cluster.local", tls::system_now());
  REQUIRE(loaded);
  CHECK(loaded->spiffe_uri == "spiffe://cluster.local/ns/prod/sa/shop");
  int uri_sans = 0;
  const auto identity = tls::identity_of(loaded->leaf.get(), uri_sans);
  CHECK(identity.dns_sans == spec.dns_sans);
  CHECK(EVP_PKEY_get_bits(loaded->key.get()) == 256);
  CHECK(EVP_PKEY_get_base_id(loaded->key.get()) == EVP_PKEY_EC);
  CHECK(X509_check_ca(loaded->leaf.get()) == 0);
}

TEST_CASE("a workload certificate ends with its authority") {
  const auto ca = tls::make_authority("cluster.local", 10);
  REQUIRE(ca);
  const test::Folder folder;
  tls::WorkloadSpec spec;
  spec.days = 90;
  const auto made = tls::issue_workload(*ca, spec);
  REQUIRE(made);
  const auto context =
      tls::Context::make_client({.files = test::store(folder, "w", *made, ca->certificate)});
  REQUIRE(context);
  CHECK((*context)->not_after() - tls::system_now() <= std::chrono::days(10));
  const auto late = tls::issue_workload(*ca, spec, tls::system_now() + std::chrono::days(11));
  REQUIRE_FALSE(late);
  CHECK(late.error().find("expired at") != std::string::npos);
}

TEST_CASE("names and numbers that make no certificate are refused in words") {
  for (const char* bad : {"", "a/b", "a b", "a:b", "-----\n"})
    CHECK_FALSE(tls::make_authority(bad, 1));
  CHECK_FALSE(tls::make_authority("td", 0));
  CHECK_FALSE(tls::make_authority("td", 40000));
  const auto ca = tls::make_authority("td", 1);
  REQUIRE(ca);
  for (const char* bad : {"", "..", "a/b", "x y", "\n"}) {
    INFO(bad);
    tls::WorkloadSpec spec;
    spec.ns = bad;
    CHECK_FALSE(tls::issue_workload(*ca, spec));
    spec = {};
    spec.sa = bad;
    CHECK_FALSE(tls::issue_workload(*ca, spec));
    spec = {};
    spec.dns_sans = {bad};
    if (std::string_view(bad) != "..") CHECK_FALSE(tls::issue_workload(*ca, spec));
  }
  tls::WorkloadSpec spec;
  CHECK_FALSE(tls::issue_workload({ca->certificate, "no key"}, spec));
  CHECK_FALSE(tls::issue_workload({"no certificate", ca->key}, spec));
  const auto leaf = tls::issue_workload(*ca, spec);
  REQUIRE(leaf);
  const auto by_leaf = tls::issue_workload(*leaf, spec);
  REQUIRE_FALSE(by_leaf);
  CHECK(by_leaf.error().find("not one of a CA") != std::string::npos);
  const auto other = tls::make_authority("td", 1);
  const auto mixed = tls::issue_workload({ca->certificate, other->key}, spec);
  REQUIRE_FALSE(mixed);
  CHECK(mixed.error().find("does not match") != std::string::npos);
}

TEST_CASE("files are private, whole, and replace others only when told") {
  const test::Folder folder;
  const tls::PairPaths paths{folder.path("ca.crt"), folder.path("ca.key")};
  const auto ca = tls::make_authority("td", 1);
  REQUIRE(ca);
  REQUIRE(tls::write_pair(*ca, paths, false));
  CHECK(mode_of(paths.key) == 0600);
  CHECK(mode_of(paths.certificate) == 0644);
  CHECK(read(paths.key) == ca->key);
  CHECK(read(paths.certificate) == ca->certificate);
  CHECK(files_in(folder.path("")) == 2);

  const auto next = tls::make_authority("td", 1);
  const auto refused = tls::write_pair(*next, paths, false);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().find("exists already") != std::string::npos);
  CHECK(read(paths.key) == ca->key);

  std::filesystem::remove(paths.key);
  CHECK_FALSE(tls::write_pair(*next, paths, false));
  CHECK_FALSE(std::filesystem::exists(paths.key));
  CHECK(read(paths.certificate) == ca->certificate);

  REQUIRE(tls::write_pair(*next, paths, true));
  CHECK(read(paths.key) == next->key);
  CHECK(read(paths.certificate) == next->certificate);
  CHECK(mode_of(paths.key) == 0600);
  CHECK(files_in(folder.path("")) == 2);
  const auto back = tls::read_pair(paths);
  REQUIRE(back);
  CHECK(back->key == next->key);
}

TEST_CASE("files that cannot be written or read are named") {
  const test::Folder folder;
  const auto ca = tls::make_authority("td", 1);
  REQUIRE(ca);
  const tls::PairPaths nowhere{folder.path("no/ca.crt"), folder.path("no/ca.key")};
  const auto written = tls::write_pair(*ca, nowhere, true);
  REQUIRE_FALSE(written);
  CHECK(written.error().find(nowhere.key) != std::string::npos);
  const auto back = tls::read_pair(nowhere);
  REQUIRE_FALSE(back);
  CHECK(back.error().find(nowhere.certificate) != std::string::npos);
  const tls::PairPaths odd{folder.write("a", ca->certificate), folder.write("b", "x")};
  const auto no_key = tls::read_pair(odd);
  REQUIRE_FALSE(no_key);
  CHECK(no_key.error() == odd.key + " holds no PEM private key");
}

TEST_CASE("an authority tells its trust domain") {
  const auto ca = tls::make_authority("mesh.example.org", 1);
  REQUIRE(ca);
  CHECK(tls::trust_domain_of(*ca) == "mesh.example.org");
  CHECK(tls::trust_domain_of({}) == "");
}
