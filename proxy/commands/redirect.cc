// `hoplite redirect apply|show|clean|check`: the command line of istio-iptables, its flags and
// variables. Not the rules, and not their installation: proxy/redirect.
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "proxy/commands/command.h"
#include "proxy/config/diagnostics.h"
#include "proxy/redirect/apply.h"
#include "proxy/redirect/check.h"
#include "proxy/redirect/options.h"
#include "proxy/redirect/rules.h"

namespace proxy::commands {
namespace {

struct Invocation {
  redirect::Flags flags;
  std::string backend;            // "", "nft", "legacy"
  std::string network_namespace;  // a path; "" = where this process is
  bool cni_mode = false;
  bool force_apply = false;
  bool dry_run = false;
  bool skip_rule_apply = false;
  bool run_validation = false;
  bool cleanup_only = false;
  bool only_ipv4 = false;
  bool only_ipv6 = false;
  // What this cannot do, so that it is refused rather than passed over.
  bool redirect_dns = false;
  bool capture_all_dns = false;
  bool native_nftables = false;
  // What is always so here.
  bool reconcile = false;
  bool dual_stack = false;
};

int fail(std::string_view verb, std::string_view why, int code = kFailure) {
  std::fflush(stdout);  // what led there comes first, wherever the two go
  fmt::print(stderr, "hoplite redirect {}: {}\n", verb, why);
  return code;
}

std::string not_supported(const Invocation& invocation) {
  if (invocation.redirect_dns || invocation.capture_all_dns) {
    return "--redirect-dns, --capture-all-dns: Hoplite is no DNS proxy, so the redirected queries "
           "would go unanswered; leave them out (and ISTIO_META_DNS_CAPTURE unset)";
  }
  if (invocation.native_nftables) {
    return "--native-nftables: the rules are made through iptables only; leave it out, "
           "--force-iptables-binary nft uses nf_tables underneath";
  }
  return {};
}

// What all of them begin with. The error is the exit code, and has been explained.
struct Ready {
  redirect::Options options;
  redirect::Manner manner;
};

std::expected<Ready, int> prepare(std::string_view verb, const Invocation& invocation) {
  if (const auto why = not_supported(invocation); !why.empty()) {
    return std::unexpected(fail(verb, why, kUsage));
  }
  const auto options = redirect::parse_flags(invocation.flags);
  if (!options) return std::unexpected(fail(verb, options.error(), kUsage));
  Ready out{*options, {std::nullopt, invocation.cni_mode, invocation.force_apply}};
  if (invocation.backend == "nft") {
    out.manner.backend = redirect::Backend::nft;
  } else if (invocation.backend == "legacy") {
    out.manner.backend = redirect::Backend::legacy;
  } else if (!invocation.backend.empty()) {
    return std::unexpected(fail(verb,
                                fmt::format("--force-iptables-binary: {} is not allowed here; "
                                            "allowed: nft or legacy",
                                            config::quoted(invocation.backend)),
                                kUsage));
  }
  return out;
}

// Empty, or why it could not.
std::string enter_namespace(const std::string& path) {
  if (path.empty()) return {};
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return fmt::format("--network-namespace: cannot open {}: {}", config::quoted(path),
                       std::strerror(errno));
  }
  const int result = ::setns(fd, CLONE_NEWNET);
  const int error = errno;
  ::close(fd);
  if (result == 0) return {};
  return fmt::format("--network-namespace: cannot enter {}: {}{}", config::quoted(path),
                     std::strerror(error),
                     error == EPERM ? " (the capability SYS_ADMIN is missing)" : "");
}

int show(const Invocation& invocation, std::string_view verb) {
  const auto ready = prepare(verb, invocation);
  if (!ready) return ready.error();
  const bool both = invocation.only_ipv4 == invocation.only_ipv6;
  for (const auto family : redirect::kFamilies) {
    const bool v4 = family == redirect::Family::ipv4;
    if (!both && v4 != invocation.only_ipv4) continue;
    fmt::print("# {}, for {}-restore --noflush\n{}", redirect::name_of(family),
               v4 ? "iptables" : "ip6tables",
               redirect::restore_text(redirect::rules_for(ready->options, family)));
    const auto ip = v4 ? "ip -4" : "ip -6";
    if (!v4) fmt::print("# besides: ip -6 address add ::6/128 dev lo\n");
    if (const auto policy = redirect::policy_of(ready->options)) {
      fmt::print("# besides: {} rule add fwmark {:#x} lookup {}\n", ip, policy->mark,
                 policy->table);
      fmt::print("# besides: {} route add local default dev lo table {}\n", ip, policy->table);
    }
  }
  return kOk;
}

int clean(const Invocation& invocation, std::string_view verb) {
  const auto ready = prepare(verb, invocation);
  if (!ready) return ready.error();
  if (const auto why = enter_namespace(invocation.network_namespace); !why.empty()) {
    return fail(verb, why);
  }
  const auto done = redirect::clean(ready->manner, invocation.dry_run);
  return done ? kOk : fail(verb, done.error());
}

int report(const Ready& ready, std::string_view verb) {
  const auto verdict = redirect::check(ready.options, ready.manner);
  if (verdict.failed > 0) {
    return fail(verb, fmt::format("{} of {} checks failed; `hoplite redirect apply` with the same "
                                  "flags installs what is missing",
                                  verdict.failed, verdict.failed + verdict.passed));
  }
  if (verdict.passed == 0) return fail(verb, "nothing could be checked");
  return kOk;
}

int check(const Invocation& invocation) {
  const auto ready = prepare("check", invocation);
  if (!ready) return ready.error();
  if (const auto why = enter_namespace(invocation.network_namespace); !why.empty()) {
    return fail("check", why);
  }
  return report(*ready, "check");
}

int apply(const Invocation& invocation) {
  if (invocation.cleanup_only) return clean(invocation, "apply");
  if (invocation.dry_run) return show(invocation, "apply");
  const auto ready = prepare("apply", invocation);
  if (!ready) return ready.error();
  if (const auto why = enter_namespace(invocation.network_namespace); !why.empty()) {
    return fail("apply", why);
  }
  if (!invocation.skip_rule_apply) {
    const auto done = redirect::apply(ready->options, ready->manner);
    if (!done) return fail("apply", done.error());
  }
  return invocation.run_validation ? report(*ready, "apply") : kOk;
}

void add_value(CLI::App& app, const char* names, std::string& value, const char* variable,
               const char* type, const char* help) {
  app.add_option(names, value, help)->type_name(type)->envname(variable)->capture_default_str();
}

void add_proxy_flags(CLI::App& app, redirect::Flags& flags) {
  add_value(app, "-p,--envoy-port", flags.envoy_port, "ENVOY_PORT", "PORT",
            "Where the proxy takes outbound traffic");
  add_value(app, "-z,--inbound-capture-port", flags.inbound_capture_port, "INBOUND_CAPTURE_PORT",
            "PORT", "Where the proxy takes inbound traffic");
  add_value(app, "-e,--inbound-tunnel-port", flags.inbound_tunnel_port, "INBOUND_TUNNEL_PORT",
            "PORT", "An inbound port that is never redirected");
  add_value(app, "-u,--proxy-uid", flags.proxy_uid, "PROXY_UID", "IDS",
            "Users whose traffic is not redirected: the proxy's; default: that of istio-proxy, "
            "else 1337");
  add_value(app, "-g,--proxy-gid", flags.proxy_gid, "PROXY_GID", "IDS",
            "Groups likewise; default: the same as --proxy-uid");
  add_value(app, "-m,--istio-inbound-interception-mode", flags.interception_mode,
            "ISTIO_INBOUND_INTERCEPTION_MODE", "MODE",
            "REDIRECT, which is the default, or TPROXY, which keeps the client's address");
  add_value(app, "-t,--istio-inbound-tproxy-mark", flags.tproxy_mark, "ISTIO_INBOUND_TPROXY_MARK",
            "MARK", "TPROXY: the mark of packets for the proxy");
  add_value(app, "-r,--istio-inbound-tproxy-route-table", flags.tproxy_route_table,
            "ISTIO_INBOUND_TPROXY_ROUTE_TABLE", "TABLE",
            "TPROXY: the table that routes them to lo");
}

void add_traffic_flags(CLI::App& app, redirect::Flags& flags) {
  add_value(app, "-b,--istio-inbound-ports", flags.inbound_ports, "ISTIO_INBOUND_PORTS", "PORTS",
            "Inbound ports to redirect: '*' is all, nothing is none");
  add_value(app, "-d,--istio-local-exclude-ports", flags.local_exclude_ports,
            "ISTIO_LOCAL_EXCLUDE_PORTS", "PORTS", "Inbound ports to leave alone, with -b '*'");
  add_value(app, "-i,--istio-service-cidr", flags.service_cidr, "ISTIO_SERVICE_CIDR", "RANGES",
            "Destinations to redirect: '*' is all, nothing is none");
  add_value(app, "-x,--istio-service-exclude-cidr", flags.service_exclude_cidr,
            "ISTIO_SERVICE_EXCLUDE_CIDR", "RANGES", "Destinations to leave alone");
  add_value(app, "-q,--istio-outbound-ports", flags.outbound_ports, "ISTIO_OUTBOUND_PORTS", "PORTS",
            "Ports to redirect whatever the destination");
  add_value(app, "-o,--istio-local-outbound-ports-exclude", flags.local_outbound_ports_exclude,
            "ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE", "PORTS", "Outbound ports to leave alone");
  add_value(app, "-c,--istio-exclude-interfaces", flags.exclude_interfaces,
            "ISTIO_EXCLUDE_INTERFACES", "NAMES", "Interfaces to leave alone in both directions");
  add_value(app, "-k,--kube-virt-interfaces", flags.kube_virt_interfaces, "KUBE_VIRT_INTERFACES",
            "NAMES", "Interfaces of virtual machines, whose inbound traffic counts as outbound");
  app.add_flag("--drop-invalid", flags.drop_invalid, "Drop packets that conntrack cannot place")
      ->envname("INVALID_DROP");
}

void add_manner_flags(CLI::App& app, Invocation& invocation) {
  add_value(app, "--force-iptables-binary", invocation.backend, "FORCE_IPTABLES_BINARY", "BACKEND",
            "nft or legacy; default: the one in use here");
  add_value(app, "--network-namespace", invocation.network_namespace, "NETWORK_NAMESPACE", "PATH",
            "Do it in this network namespace, such as /proc/PID/ns/net");
  app.add_flag("--cni-mode", invocation.cni_mode,
               "Do not wait for the lock of the host's iptables: for a pod's namespace, seen from "
               "the host");
  add_value(app, "--iptables-probe-port", invocation.flags.probe_port, "IPTABLES_PROBE_PORT",
            "PORT", "The port check connects to");
  add_value(app, "--probe-timeout", invocation.flags.probe_timeout, "PROBE_TIMEOUT", "TIME",
            "How long check waits for connections to arrive");
  app.add_flag("--redirect-dns", invocation.redirect_dns, "Not supported: there is no DNS proxy");
  app.add_flag("--capture-all-dns", invocation.capture_all_dns, "Not supported, likewise");
  app.add_flag("--native-nftables", invocation.native_nftables, "Not supported");
  app.add_flag("--dual-stack", invocation.dual_stack, "Always so: IPv6 too, where there is IPv6");
  app.add_flag("--reconcile", invocation.reconcile, "Always so: older rules of ours are replaced");
}

// The variables without a flag; read when the command runs.
void read_environment(redirect::Flags& flags) {
  const auto read = [](const char* name, std::string& value) {
    if (const char* found = std::getenv(name); found != nullptr && *found != '\0') value = found;
  };
  read("ISTIO_OUTBOUND_OWNER_GROUPS", flags.owner_groups);
  read("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", flags.owner_groups_exclude);
  read("ENVOY_USER", flags.proxy_user);
}

using Verb = int (*)(const Invocation&);

std::pair<CLI::App*, std::shared_ptr<Invocation>> add_verb(CLI::App& command, Action& action,
                                                           const char* name, const char* help,
                                                           Verb verb) {
  auto* app = command.add_subcommand(name, help);
  auto invocation = std::make_shared<Invocation>();
  add_proxy_flags(*app, invocation->flags);
  add_traffic_flags(*app, invocation->flags);
  add_manner_flags(*app, *invocation);
  app->callback([invocation, verb, &action] {
    action = [invocation, verb] {
      read_environment(invocation->flags);
      return verb(*invocation);
    };
  });
  return {app, invocation};
}

void declare_apply(CLI::App& command, Action& action) {
  const auto [app, invocation] =
      add_verb(command, action, "apply", "Install the rules; again changes nothing", &apply);
  app->add_flag("-n,--dry-run", invocation->dry_run,
                "Print the rules, as show does; change nothing");
  app->add_flag("--skip-rule-apply", invocation->skip_rule_apply, "Install nothing");
  app->add_flag("--run-validation", invocation->run_validation, "Check afterwards, as check does");
  app->add_flag("--cleanup-only", invocation->cleanup_only, "Remove instead, as clean does");
  app->add_flag("--force-apply", invocation->force_apply,
                "Install them again though they are there");
  app->footer(
      "Every flag has a variable of the same name in capitals (ISTIO_INBOUND_PORTS); the flag\n"
      "outweighs it. Without -b and -i nothing is redirected, as with istio-iptables.\n"
      "\n"
      "Examples:\n"
      "  hoplite redirect apply -b '*' -d 15090,15021,15020 -i '*'   as Istio's injector does\n"
      "  hoplite redirect apply -b 8080 -i 10.0.0.0/8,fd00::/8 -o 3306 --dry-run\n"
      "  hoplite redirect apply -b '*' -i '*' -m TPROXY --run-validation");
}

void declare_show(CLI::App& command, Action& action) {
  const auto [app, invocation] =
      add_verb(command, action, "show", "Print the rules for iptables-restore and change nothing",
               [](const Invocation& given) { return show(given, "show"); });
  app->add_flag("-4,--ipv4", invocation->only_ipv4, "Only those of IPv4");
  app->add_flag("-6,--ipv6", invocation->only_ipv6, "Only those of IPv6");
  app->footer(
      "Examples:\n"
      "  hoplite redirect show -b '*' -i '*'\n"
      "  hoplite redirect show -b '*' -i '*' -4 | iptables-restore --noflush --test");
}

void declare_clean(CLI::App& command, Action& action) {
  const auto [app, invocation] =
      add_verb(command, action, "clean", "Remove what apply installed, and nothing else",
               [](const Invocation& given) { return clean(given, "clean"); });
  app->add_flag("-n,--dry-run", invocation->dry_run, "Print what would be removed; change nothing");
  app->footer(
      "It needs no flags: what is ours is known by its chains (ISTIO_INBOUND and its like), its\n"
      "comment and its routing protocol number, whatever it was installed with. Empty tables "
      "stay.\n"
      "\n"
      "Examples:\n"
      "  hoplite redirect clean\n"
      "  hoplite redirect clean --dry-run");
}

void declare_check(CLI::App& command, Action& action) {
  const auto [app, invocation] =
      add_verb(command, action, "check", "Make connections and see where they arrive", &check);
  app->footer(
      "With the flags of apply, which say what is meant. Where nothing listens on the proxy's\n"
      "ports it does so itself for that moment; otherwise the proxy sees its connections. Inbound\n"
      "traffic comes through a pair of interfaces that it makes and removes. As the proxy's own\n"
      "user, without capabilities, it checks what that user can see.\n"
      "\n"
      "Example:\n"
      "  hoplite redirect check -b '*' -d 15090,15021,15020 -i '*'");
}

}  // namespace

void add_redirect(CLI::App& program, Action& action) {
  auto* command =
      program.add_subcommand("redirect", "Install the iptables rules of a sidecar, and check them");
  command->require_subcommand(1);
  command->footer(
      "In the network namespace it runs in, with the flags and variables of istio-iptables. Needs\n"
      "NET_ADMIN (and NET_RAW for iptables-legacy).\n"
      "\n"
      "Examples:\n"
      "  hoplite redirect apply -b '*' -d 15090,15021,15020 -i '*'\n"
      "  hoplite redirect check -b '*' -d 15090,15021,15020 -i '*'\n"
      "  hoplite redirect clean");
  declare_apply(*command, action);
  declare_show(*command, action);
  declare_clean(*command, action);
  declare_check(*command, action);
}

}  // namespace proxy::commands
