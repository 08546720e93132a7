// Credential files that are missing, do not fit, or have expired, at the key that names them.
// Not all that tls/ finds (tests/unit/tls).
#include "proxy/config/credentials.h"

#include "tests/support/catch.h"
#include "tests/unit/config/support.h"
#include "tls/issue.h"

namespace proxy::config {
namespace {

struct Files {
  TemporaryDirectory directory;
  tls::PemPair authority = tls::make_authority("cluster.local", 10).value();
  tls::PemPair one = tls::issue_workload(authority, {}).value();
  tls::PemPair two = tls::issue_workload(authority, {}).value();

  std::string problems(const std::string& cert, const std::string& key, const std::string& ca) {
    const auto yaml =
        "inbound: {listen: \":1\", app: \"127.0.0.1:2\"}\nmtls:\n  mode: strict\n"
        "  cert: " +
        cert + "\n  key: " + key + "\n  ca: " + ca + "\n";
    const auto loaded = load({directory.write("hoplite.yaml", yaml), {}, {}});
    return directory.without(render(loaded.diagnostics));
  }
};

TEST_CASE("credentials that fit are taken; others are refused at their key") {
  Files files;
  const auto& directory = files.directory;
  const auto cert = directory.write("cert.pem", files.one.certificate);
  const auto key = directory.write("key.pem", files.one.key);
  const auto ca = directory.write("ca.pem", files.authority.certificate);
  CHECK(files.problems(cert, key, ca) == "");

  const auto other = directory.write("other.pem", files.two.key);
  const auto mismatch = files.problems(cert, other, ca);
  INFO(mismatch);
  CHECK(mismatch.find("hoplite.yaml:5:8: mtls.key: other.pem: ") == 0);

  const auto absent = files.problems(directory.file("absent.pem"), key, ca);
  INFO(absent);
  CHECK(absent.find("hoplite.yaml:4:9: mtls.cert: absent.pem: ") == 0);

  const auto alone = load({directory.write("alone.yaml", "mtls: {cert: nope.pem}\n"), {}, {}});
  CHECK(render(alone.diagnostics).find("mtls.cert: nope.pem: ") != std::string::npos);
  CHECK(render(alone.diagnostics).find("mtls.key: missing") != std::string::npos);
  CHECK(render(alone.diagnostics).find("mtls.key: :") == std::string::npos);

  const auto past = std::chrono::floor<std::chrono::seconds>(std::chrono::system_clock::now()) -
                    std::chrono::days(5);
  tls::WorkloadSpec one_day;
  one_day.days = 1;
  const auto old =
      tls::issue_workload(tls::make_authority("cluster.local", 10, past).value(), one_day, past);
  REQUIRE(old);
  const auto expired = files.problems(directory.write("old.pem", old->certificate),
                                      directory.write("old-key.pem", old->key), ca);
  INFO(expired);
  CHECK(expired.find("hoplite.yaml:4:9: mtls.cert: old.pem: ") != std::string::npos);
  CHECK(expired.find("expired") != std::string::npos);
}

}  // namespace
}  // namespace proxy::config
