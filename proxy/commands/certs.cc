// `hoplite certs init|issue`: a throw-away CA and workload certificates as files in one folder.
// Not the making of certificates (tls/issue.h) and not a CA for production.
#include <cstdio>
#include <expected>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/config/diagnostics.h"
#include "tls/issue.h"

namespace proxy::commands {
namespace {

constexpr int kAuthorityDays = 3650;

struct InitOptions {
  std::string dir = "certs";
  std::string trust_domain = "cluster.local";
  int days = kAuthorityDays;
  bool force = false;
};

struct IssueOptions {
  std::string dir = "certs";
  std::string name;          // of the files; default: the service account
  std::string trust_domain;  // default: the CA's
  tls::WorkloadSpec spec;
  bool force = false;
};

// `hoplite certs init` and `issue` agree on these names.
tls::PairPaths paths_in(const std::string& dir, std::string_view name) {
  const std::filesystem::path folder(dir);
  return {(folder / fmt::format("{}.pem", name)).string(),
          (folder / fmt::format("{}-key.pem", name)).string()};
}

int fail(std::string_view command, std::string_view why) {
  fmt::print(stderr, "hoplite certs {}: {}\n", command, why);
  return kFailure;
}

bool can_be_replaced(const tls::PairPaths& paths) {
  return !std::filesystem::exists(paths.certificate) && !std::filesystem::exists(paths.key);
}

std::string exist_already(const tls::PairPaths& paths) {
  return fmt::format("{} or {} is there already; --force replaces both", paths.certificate,
                     paths.key);
}

int init(const InitOptions& options) {
  const auto authority = tls::make_authority(options.trust_domain, options.days);
  if (!authority) return fail("init", authority.error());
  std::error_code error;
  std::filesystem::create_directories(options.dir, error);
  if (error) return fail("init", fmt::format("cannot make {}: {}", options.dir, error.message()));
  const auto paths = paths_in(options.dir, "ca");
  if (!options.force && !can_be_replaced(paths)) {
    return fail("init",
                exist_already(paths) + ", and what the old CA signed is then worth nothing");
  }
  if (const auto done = tls::write_pair(*authority, paths, options.force); !done) {
    return fail("init", done.error());
  }
  fmt::print(
      "wrote {}: the CA of {} for {} days; every sidecar needs it\n"
      "wrote {}: its key; only `hoplite certs issue` needs it\n"
      "next: hoplite certs issue --dir {} --namespace default --service-account client\n",
      paths.certificate, options.trust_domain, options.days, paths.key, options.dir);
  return kOk;
}

// The name becomes that of two files next to the CA's. Says what is wrong with it, or nothing.
std::string fault_of_name(const std::string& name) {
  if (name.empty() || name.front() == '.' || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return fmt::format("{}: a file name without '/' that does not begin with '.'",
                       config::quoted(name));
  }
  if (name == "ca" || name == "ca-key") return fmt::format("{}: that would overwrite the CA", name);
  return {};
}

int issue(IssueOptions options) {
  const auto& spec = options.spec;
  const auto name = options.name.empty() ? spec.sa : options.name;
  // The service account is one when there is no --name.
  if (const auto fault = fault_of_name(name); !fault.empty()) return fail("issue", fault);
  const auto ca = paths_in(options.dir, "ca");
  const auto authority = tls::read_pair(ca);
  if (!authority) {
    return fail("issue", fmt::format("{}\n`hoplite certs init --dir {}` makes a CA",
                                     authority.error(), options.dir));
  }
  if (options.trust_domain.empty()) options.trust_domain = tls::trust_domain_of(*authority);
  if (!options.trust_domain.empty()) options.spec.trust_domain = options.trust_domain;
  const auto made = tls::issue_workload(*authority, spec);
  if (!made) return fail("issue", made.error());
  const auto paths = paths_in(options.dir, name);
  if (!options.force && !can_be_replaced(paths)) return fail("issue", exist_already(paths));
  if (const auto done = tls::write_pair(*made, paths, options.force); !done) {
    return fail("issue", done.error());
  }
  fmt::print(
      "wrote {0}: spiffe://{3}/ns/{4}/sa/{5} for {6} days (no longer than the CA)\n"
      "wrote {1}: its key\n"
      "next, in the configuration of this workload's sidecar:\n"
      "  mtls: {{mode: strict, cert: {0}, key: {1}, ca: {2}, trust_domain: {3}}}\n",
      paths.certificate, paths.key, ca.certificate, spec.trust_domain, spec.ns, spec.sa, spec.days);
  return kOk;
}

void add_init(CLI::App& certs, Action& action) {
  auto* command = certs.add_subcommand("init", "Make a throw-away CA: ca.pem and ca-key.pem");
  const auto options = std::make_shared<InitOptions>();
  command->add_option("--dir", options->dir, "The folder to write to, made when missing")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--trust-domain", options->trust_domain, "Of all identities it will sign")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--days", options->days, "How long it is valid")
      ->type_name("N")
      ->check(CLI::Range(1, tls::kMaxDays))
      ->capture_default_str();
  command->add_flag("--force", options->force, "Replace a CA that is there");
  command->footer(
      "Examples:\n"
      "  hoplite certs init\n"
      "  hoplite certs init --dir /tmp/ca --trust-domain example.org --days 30");
  command->callback([options, &action] { action = [options] { return init(*options); }; });
}

void add_issue(CLI::App& certs, Action& action) {
  auto* command =
      certs.add_subcommand("issue", "Issue a workload's certificate: NAME.pem and NAME-key.pem");
  const auto options = std::make_shared<IssueOptions>();
  command->add_option("--dir", options->dir, "The folder with the CA, and to write to")
      ->type_name("DIR")
      ->capture_default_str();
  command->add_option("--namespace", options->spec.ns, "The workload's namespace")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--service-account", options->spec.sa, "The workload's service account")
      ->type_name("NAME")
      ->capture_default_str();
  command->add_option("--name", options->name, "Of the files (default: the service account)")
      ->type_name("NAME")
      ->check(fault_of_name);
  command->add_option("--trust-domain", options->trust_domain, "Default: the CA's")
      ->type_name("NAME");
  command->add_option("--dns", options->spec.dns_sans, "A DNS name to add; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
  command->add_option("--days", options->spec.days, "How long it is valid, no longer than the CA")
      ->type_name("N")
      ->check(CLI::Range(1, tls::kMaxDays))
      ->capture_default_str();
  command->add_flag("--force", options->force, "Replace files that are there");
  command->footer(
      "The identity is the URI SAN spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT.\n"
      "\n"
      "Examples:\n"
      "  hoplite certs issue --namespace test --service-account podinfo\n"
      "  hoplite certs issue --dir /tmp/ca --service-account web --dns web.example.org --days 7");
  command->callback([options, &action] { action = [options] { return issue(*options); }; });
}

}  // namespace

void add_certs(CLI::App& program, Action& action) {
  auto* command = program.add_subcommand("certs", "Make a throw-away CA and certificates");
  command->require_subcommand(1);
  command->footer(
      "For trying out and for tests. Keys are ECDSA P-256, in files only their owner may read.\n"
      "\n"
      "Examples:\n"
      "  hoplite certs init\n"
      "  hoplite certs issue --namespace test --service-account podinfo");
  add_init(*command, action);
  add_issue(*command, action);
}

}  // namespace proxy::commands
