// Throw-away CAs, workload certificates and settable clocks for tests, made in memory.
// Not tls/issue.h's users' path.
#include "tests/support/certs.h"

#include <stdlib.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <utility>

namespace test {
namespace {

std::atomic<std::int64_t> server_offset{0};
std::atomic<std::int64_t> client_offset{0};

tls::PemPair make(const tls::CertificateSpec& spec, const tls::PemPair* issuer) {
  auto made = tls::make_certificate(spec, issuer);
  if (!made) {
    std::fprintf(stderr, "test certificate: %s\n", made.error().c_str());
    std::abort();
  }
  return std::move(*made);
}

tls::CertificateSpec authority_spec(std::string common_name) {
  tls::CertificateSpec spec;
  spec.common_name = std::move(common_name);
  spec.is_authority = true;
  spec.not_before = tls::system_now() - std::chrono::days(400);
  spec.not_after = tls::system_now() + std::chrono::days(400);
  return spec;
}

}  // namespace

Folder::Folder() {
  std::string name = std::filesystem::temp_directory_path() / "hoplite-test-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  path_ = name;
}

Folder::~Folder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string Folder::path(std::string_view name) const {
  return path_ + "/" + std::string(name);
}

std::string Folder::write(std::string_view name, std::string_view text) const {
  const std::string where = path(name);
  std::ofstream(where, std::ios::binary | std::ios::trunc) << text;
  return where;
}

Authority::Authority(std::string common_name)
    : pair_(make(authority_spec(std::move(common_name)), nullptr)) {}

Authority::Authority(std::string common_name, const Authority& issuer)
    : pair_(make(authority_spec(std::move(common_name)), &issuer.pair_)) {}

tls::PemPair Authority::issue(const Leaf& leaf) const {
  tls::CertificateSpec spec;
  spec.organization = "Hoplite tests";
  spec.uri_sans = leaf.uri_sans;
  spec.dns_sans = leaf.dns_sans;
  spec.not_before = tls::system_now() + leaf.from;
  spec.not_after = tls::system_now() + leaf.until;
  return make(spec, &pair_);
}

tls::PemPair Authority::issue(std::string_view spiffe_uri) const {
  Leaf leaf;
  leaf.uri_sans = {std::string(spiffe_uri)};
  return issue(leaf);
}

tls::CredentialFiles store(const Folder& folder, std::string_view name, const tls::PemPair& pair,
                           std::string_view ca_pem) {
  const std::string base(name);
  return {folder.write(base + ".crt", pair.certificate), folder.write(base + ".key", pair.key),
          folder.write(base + ".ca", ca_pem)};
}

std::chrono::sys_seconds server_clock() {
  return tls::system_now() + std::chrono::seconds(server_offset.load());
}

std::chrono::sys_seconds client_clock() {
  return tls::system_now() + std::chrono::seconds(client_offset.load());
}

void move_server_clock(std::chrono::seconds by) {
  server_offset = by.count();
}
void move_client_clock(std::chrono::seconds by) {
  client_offset = by.count();
}

ClockReset::ClockReset() {
  move_server_clock({});
  move_client_clock({});
}

ClockReset::~ClockReset() {
  move_server_clock({});
  move_client_clock({});
}

}  // namespace test
