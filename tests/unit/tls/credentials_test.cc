// Every way in which certificate, key and CA can be wrong, and which file is named for it.
// Not TLS (handshake_test.cc).
#include "tls/credentials.h"

#include <sys/stat.h>

#include "tests/support/catch.h"
#include "tests/support/certs.h"
#include "tls/context.h"

using std::chrono::hours;
using test::Authority;
using test::Folder;
using tls::CredentialFile;

namespace {

struct Fixture {
  Folder folder;
  Authority ca;
  tls::CredentialFiles files = store(folder, "own", ca.issue(), ca.certificate());

  std::vector<tls::CredentialProblem> check() const {
    return tls::check_files(files, "cluster.local");
  }
};

// The one problem, with its file and a word of it.
void check_one(const Fixture& f, CredentialFile file, std::string_view word) {
  const auto problems = f.check();
  INFO(tls::describe(problems));
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].file == file);
  CHECK(problems[0].text.find(word) != std::string::npos);
  CHECK_FALSE(tls::Context::make_server({.files = f.files, .alpn = {}, .ticket_secret = {}}));
  CHECK_FALSE(tls::Context::make_client({.files = f.files}));
}

}  // namespace

TEST_CASE_METHOD(Fixture, "good files have no problem and give the own identity") {
  CHECK(check().empty());
  const auto made = tls::Context::make_client({.files = files});
  REQUIRE(made);
  CHECK((*made)->spiffe_uri() == "spiffe://cluster.local/ns/default/sa/web");
  const auto left = (*made)->not_after() - tls::system_now();
  CHECK(left > hours(23));
  CHECK(left <= hours(24));
}

TEST_CASE_METHOD(Fixture, "unreadable files are named, all of them") {
  files = {folder.path("no.crt"), folder.path("no.key"), ""};
  const auto problems = check();
  REQUIRE(problems.size() == 3);
  CHECK(problems[0].file == CredentialFile::certificate);
  CHECK(problems[0].path == folder.path("no.crt"));
  CHECK(problems[0].text.find("No such file") != std::string::npos);
  CHECK(problems[1].file == CredentialFile::key);
  CHECK(problems[2].file == CredentialFile::ca);
  CHECK(problems[2].text == "no file is named");
  const std::string line = tls::describe(problems);
  CHECK(line.find("cert " + folder.path("no.crt") + ": ") == 0);
  CHECK(line.find("; key ") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "a folder is not a file") {
  files.ca = folder.path("");
  check_one(*this, CredentialFile::ca, "cannot be read");
}

TEST_CASE_METHOD(Fixture, "text that is not PEM is named") {
  SECTION("certificate") {
    folder.write("own.crt", "hello");
    check_one(*this, CredentialFile::certificate, "no PEM certificate");
  }
  SECTION("key") {
    folder.write("own.key", "");
    check_one(*this, CredentialFile::key, "no PEM private key");
  }
  SECTION("ca") {
    folder.write("own.ca", "\n");
    check_one(*this, CredentialFile::ca, "no PEM certificate");
  }
  SECTION("broken base64") {
    folder.write("own.crt", "-----BEGIN CERTIFICATE-----\n@@@@\n-----END CERTIFICATE-----\n");
    check_one(*this, CredentialFile::certificate, "certificate 1 of it is not readable");
  }
  SECTION("a second certificate that is cut off") {
    const std::string pem = ca.certificate();
    folder.write("own.ca", pem + pem.substr(0, pem.size() / 2));
    check_one(*this, CredentialFile::ca, "certificate 2 of it is not readable");
  }
  SECTION("larger than anything sensible") {
    folder.write("own.ca", std::string(2 << 20, 'x'));
    check_one(*this, CredentialFile::ca, "1 MiB");
  }
}

TEST_CASE_METHOD(Fixture, "swapped files are recognized") {
  std::swap(files.certificate, files.key);
  const auto problems = check();
  REQUIRE(problems.size() == 2);
  CHECK(problems[0].text.find("swapped") != std::string::npos);
  CHECK(problems[1].text.find("swapped") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "an encrypted key is refused without asking for a password") {
  folder.write(
      "own.key",
      "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n");
  check_one(*this, CredentialFile::key, "encrypted");
}

TEST_CASE_METHOD(Fixture, "a key of another certificate is the key's fault") {
  folder.write("own.key", ca.issue().key);
  check_one(*this, CredentialFile::key, "does not match");
}

TEST_CASE_METHOD(Fixture, "dates are the certificate's fault") {
  SECTION("expired") {
    files =
        store(folder, "old", ca.issue({.from = -hours(48), .until = -hours(24)}), ca.certificate());
    check_one(*this, CredentialFile::certificate, "expired at");
  }
  SECTION("not yet valid") {
    files =
        store(folder, "new", ca.issue({.from = hours(24), .until = hours(48)}), ca.certificate());
    check_one(*this, CredentialFile::certificate, "valid only from");
  }
}

TEST_CASE_METHOD(Fixture, "the SAN must be one SPIFFE ID of the trust domain") {
  std::vector<std::string> sans;
  std::string word;
  SECTION("none") {
    word = "no SPIFFE URI SAN";
  }
  SECTION("two") {
    sans = {"spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/c"};
    word = "2 URI SANs";
  }
  SECTION("no SPIFFE ID") {
    sans = {"https://example.com/"};
    word = "no SPIFFE ID";
  }
  SECTION("another trust domain") {
    sans = {"spiffe://other/ns/a/sa/b"};
    word = "'other', configured is 'cluster.local'";
  }
  files = store(folder, "san", ca.issue({.uri_sans = sans, .dns_sans = {"web.default.svc"}}),
                ca.certificate());
  check_one(*this, CredentialFile::certificate, word);
}

TEST_CASE_METHOD(Fixture, "a certificate of another CA is named") {
  folder.write("own.ca", Authority("Another").certificate());
  check_one(*this, CredentialFile::certificate, "not signed by a CA of " + files.ca);
}

TEST_CASE_METHOD(Fixture, "intermediates complete the chain") {
  const Authority middle("Middle", ca);
  const tls::PemPair leaf = middle.issue();
  files = store(folder, "via", leaf, ca.certificate());
  CHECK(check().empty());
  const std::size_t end = leaf.certificate.find("-----BEGIN", 10);
  REQUIRE(end != std::string::npos);
  folder.write("via.crt", leaf.certificate.substr(0, end));
  check_one(*this, CredentialFile::certificate, "intermediates");
  // An intermediate in the CA file is an anchor by itself.
  folder.write("via.ca", middle.certificate());
  CHECK(check().empty());
}

TEST_CASE_METHOD(Fixture, "an expired CA is the CA's fault, unless another one is valid") {
  const auto later = tls::system_now() + std::chrono::days(500);
  files = store(folder, "long", ca.issue({.until = std::chrono::days(600)}), ca.certificate());
  const auto problems = tls::check_files(files, "cluster.local", later);
  REQUIRE(problems.size() == 1);
  CHECK(problems[0].file == CredentialFile::ca);
  CHECK(problems[0].text.find("has expired") != std::string::npos);
}

TEST_CASE_METHOD(Fixture, "several problems are told at once") {
  files = store(folder, "bad", ca.issue({.uri_sans = {}, .from = -hours(48), .until = -hours(24)}),
                ca.certificate());
  folder.write("bad.key", ca.issue().key);
  folder.write("bad.ca", Authority("Another").certificate());
  CHECK(check().size() == 4);
}
