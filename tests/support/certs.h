// Throw-away CAs, workload certificates and settable clocks for tests, made in memory.
// Not tls/issue.h's users' path, which its own test covers.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "tls/credentials.h"
#include "tls/issue.h"

namespace test {

/// A folder under the system's temporary folder that goes with the object.
class Folder {
 public:
  Folder();
  ~Folder();
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  /// Writes (replaces) a file; returns its path.
  std::string write(std::string_view name, std::string_view text) const;
  std::string path(std::string_view name) const;

 private:
  std::string path_;
};

/// What a workload certificate is to look like; the defaults are a good one.
struct Leaf {
  std::vector<std::string> uri_sans = {"spiffe://cluster.local/ns/default/sa/web"};
  std::vector<std::string> dns_sans = {};
  std::chrono::seconds from = -std::chrono::hours(1);  // relative to now
  std::chrono::seconds until = std::chrono::hours(24);
};

/// A self-signed CA, or an intermediate one. A failure to make something ends the program.
class Authority {
 public:
  explicit Authority(std::string common_name = "Test Root");
  Authority(std::string common_name, const Authority& issuer);

  const std::string& certificate() const { return pair_.certificate; }
  const tls::PemPair& pair() const { return pair_; }
  tls::PemPair issue(const Leaf& leaf = {}) const;
  tls::PemPair issue(std::string_view spiffe_uri) const;

 private:
  tls::PemPair pair_;
};

/// Writes NAME.crt, NAME.key and NAME.ca.
tls::CredentialFiles store(const Folder& folder, std::string_view name, const tls::PemPair& pair,
                           std::string_view ca_pem);

/// Two clocks to put into a ServerSpec and a ClientSpec: system time plus what was set. Reset them
/// with ClockReset in each test that moves one.
std::chrono::sys_seconds server_clock();
std::chrono::sys_seconds client_clock();
void move_server_clock(std::chrono::seconds by);
void move_client_clock(std::chrono::seconds by);
struct ClockReset {
  ClockReset();
  ~ClockReset();
};

}  // namespace test
