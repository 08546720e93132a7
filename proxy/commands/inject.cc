// `hoplite inject` and `hoplite uninject`: manifests from a file or stdin, to stdout.
// Not the editing (proxy/inject/).
#include <cstdio>
#include <expected>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/config/diagnostics.h"
#include "proxy/inject/inject.h"
#include "proxy/server/version.h"

namespace proxy::commands {
namespace {

constexpr std::size_t kMaxBytes = 64 * 1024 * 1024;

struct InjectOptions {
  std::string file;
  inject::Settings settings;
  std::string mode = "redirect";
  std::vector<std::string> environment;
  std::vector<std::string> csi_attributes;
};

int fail(std::string_view command, int code, std::string_view why) {
  fmt::print(stderr, "hoplite {}: {}\n", command, why);
  return code;
}

std::expected<std::string, std::string> read(const std::string& file) {
  std::ifstream opened;
  if (file != "-") opened.open(file, std::ios::binary);
  std::istream& in = file == "-" ? std::cin : opened;
  std::string text;
  std::vector<char> piece(64 * 1024);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
    text.append(piece.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kMaxBytes) return std::unexpected(fmt::format("{}: over 64 MiB", file));
  }
  if (file != "-" && (!opened.is_open() || opened.bad())) {
    return std::unexpected(fmt::format("cannot read {}", config::quoted(file)));
  }
  return text;
}

int report(std::string_view command, const std::string& file,
           const std::expected<inject::Outcome, inject::Problem>& outcome) {
  if (!outcome) {
    const auto& problem = outcome.error();
    config::Diagnostic diagnostic;
    diagnostic.origin = {config::Source::file, file == "-" ? "stdin" : file, problem.line,
                         problem.column};
    diagnostic.message = problem.message;
    fmt::print(stderr, "{}\n", config::render(diagnostic));
    return kBadConfiguration;
  }
  for (const auto& one : outcome->done) fmt::print(stderr, "hoplite {}: {}\n", command, one);
  for (const auto& one : outcome->skipped) {
    fmt::print(stderr, "hoplite {}: left alone: {}\n", command, one);
  }
  for (const auto& one : outcome->warnings) {
    fmt::print(stderr, "hoplite {}: warning: {}\n", command, one);
  }
  const auto& text = outcome->text;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    return fail(command, kFailure, "cannot write to stdout");
  }
  return kOk;
}

// "NAME=VALUE" each.
std::expected<inject::Pairs, std::string> pairs(const char* flag,
                                                const std::vector<std::string>& texts) {
  inject::Pairs out;
  for (const auto& text : texts) {
    const auto equals = text.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return std::unexpected(
          fmt::format("{}: found {}; allowed: NAME=VALUE", flag, config::quoted(text)));
    }
    out.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  return out;
}

int run_inject(InjectOptions options) {
  auto environment = pairs("--env", options.environment);
  if (!environment) return fail("inject", kUsage, environment.error());
  auto attributes = pairs("--cert-csi-attribute", options.csi_attributes);
  if (!attributes) return fail("inject", kUsage, attributes.error());
  options.settings.environment = std::move(*environment);
  options.settings.csi_attributes = std::move(*attributes);
  options.settings.mode = options.mode == "tproxy" ? "TPROXY" : "REDIRECT";
  const auto text = read(options.file);
  if (!text) return fail("inject", kFailure, text.error());
  return report("inject", options.file, inject::inject(*text, options.settings));
}

int run_uninject(const std::string& file) {
  const auto text = read(file);
  if (!text) return fail("uninject", kFailure, text.error());
  return report("uninject", file, inject::uninject(*text));
}

void add_file(CLI::App& command, std::string& file) {
  command.add_option("-f,--file", file, "Kubernetes manifests, YAML or JSON; - is stdin")
      ->type_name("FILE")
      ->required();
}

void add_settings(CLI::App& command, InjectOptions& options) {
  auto& settings = options.settings;
  settings.image = fmt::format("hoplite:{}", server::kVersion);
  const auto text = [&](const char* flag, std::string& value, const char* what) {
    command.add_option(flag, value, what)->type_name("TEXT")->capture_default_str();
  };
  text("--image", settings.image, "Of the sidecar and of its init container");
  text("--name", settings.name, "Of the sidecar; Istio's dashboards look for the default");
  command.add_flag("--classic", settings.classic,
                   "An ordinary container instead of a native sidecar, for Kubernetes before 1.29");
  command
      .add_option("--mode", options.mode,
                  "How traffic is intercepted; tproxy keeps the client's "
                  "address")
      ->check(CLI::IsMember({"redirect", "tproxy"}))
      ->capture_default_str();
  command.add_option("--mtls", settings.mtls, "Inbound: off, permissive or strict")
      ->check(CLI::IsMember({"off", "permissive", "strict"}))
      ->capture_default_str();
  auto* secret = command
                     .add_option("--cert-secret", settings.cert_secret,
                                 "Secret with tls.crt, tls.key and ca.crt; default "
                                 "hoplite.SERVICE_ACCOUNT")
                     ->type_name("NAME");
  command.add_option("--cert-csi", settings.cert_csi, "CSI driver that mounts these files instead")
      ->type_name("DRIVER")
      ->excludes(secret);
  command.add_option("--cert-csi-attribute", options.csi_attributes, "For that driver; repeatable")
      ->type_name("NAME=VALUE")
      ->needs("--cert-csi");
  text("--cluster", settings.cluster, "Name of the cluster in the metrics");
  text("--trust-domain", settings.trust_domain, "Of the certificates");
  text("--cluster-domain", settings.cluster_domain, "At the end of the names of Services");
  command
      .add_option("--env", options.environment,
                  "A further variable of the sidecar, such as HOPLITE_LOG_ACCESS=all; repeatable")
      ->type_name("NAME=VALUE");
}

}  // namespace

void add_inject(CLI::App& program, Action& action) {
  auto* command = program.add_subcommand("inject", "Put the sidecar into Kubernetes manifests");
  const auto options = std::make_shared<InjectOptions>();
  add_file(*command, options->file);
  add_settings(*command, *options);
  command->footer(
      "Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, Pods and Lists of them\n"
      "get a sidecar; everything else passes. The text is edited, not written anew: comments, "
      "quotes\n"
      "and order stay. Annotations of the pod outweigh the options: sidecar.istio.io/inject,\n"
      "traffic.sidecar.istio.io/excludeOutboundPorts and others of Istio's, hoplite.io/mtls,\n"
      "hoplite.io/skip-inbound-ports, hoplite.io/skip-outbound-ports, hoplite.io/cert-secret.\n"
      "Exit code 78 when it is not Kubernetes' YAML; then nothing is printed on stdout.\n"
      "\n"
      "Examples:\n"
      "  hoplite inject -f podinfo.yaml | kubectl apply -f -\n"
      "  hoplite inject -f podinfo.yaml --mtls strict --env HOPLITE_LOG_ACCESS=all\n"
      "  kubectl get deployment podinfo -o yaml | hoplite inject -f - --classic");
  command->callback([options, &action] { action = [options] { return run_inject(*options); }; });
}

void add_uninject(CLI::App& program, Action& action) {
  auto* command = program.add_subcommand("uninject", "Take the sidecar out of manifests again");
  const auto file = std::make_shared<std::string>();
  add_file(*command, *file);
  command->footer(
      "Gives back, byte for byte, what `hoplite inject` was given.\n"
      "\n"
      "Example:\n"
      "  hoplite uninject -f podinfo-injected.yaml > podinfo.yaml");
  command->callback([file, &action] { action = [file] { return run_uninject(*file); }; });
}

}  // namespace proxy::commands
