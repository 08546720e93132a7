// The checks on the whole configuration, section by section.
// Not single values, nor files.
#include "proxy/config/validate.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "proxy/config/keys.h"
#include "proxy/config/probers.h"
#include "proxy/config/values.h"

namespace proxy::config {
namespace {

constexpr std::string_view kSpiffe = "spiffe://";

bool within(std::string_view inner, std::string_view outer) {
  return inner.starts_with(outer) &&
         (inner.size() == outer.size() || inner[outer.size()] == '.' || inner[outer.size()] == '[');
}

bool is_any(const IpAddress& address) {
  return address.text == "0.0.0.0" || address.text == "::";
}

// True when a socket bound to `a` would get in the way of `b`.
bool same_socket(const IpAddress& a, const IpAddress& b) {
  return a.family == b.family && (a.text == b.text || is_any(a) || is_any(b));
}

bool overlap(const ListenAddress& a, const ListenAddress& b) {
  if (!a.is_set() || !b.is_set() || a.port != b.port || a.port == 0) return false;
  return std::any_of(a.addresses.begin(), a.addresses.end(), [&](const IpAddress& x) {
    return std::any_of(b.addresses.begin(), b.addresses.end(),
                       [&](const IpAddress& y) { return same_socket(x, y); });
  });
}

// True when a connection to `endpoint` surely ends in `listen`: an address of this machine alone.
bool leads_to(const Endpoint& endpoint, const ListenAddress& listen) {
  if (!endpoint.is_set() || !listen.is_set() || endpoint.port != listen.port) return false;
  return std::any_of(endpoint.addresses.begin(), endpoint.addresses.end(), [&](const auto& to) {
    const bool loopback = to.text.starts_with("127.") || to.text == "::1" || is_any(to);
    return std::any_of(listen.addresses.begin(), listen.addresses.end(), [&](const auto& at) {
      return to == at || (loopback && is_any(at) && to.family == at.family);
    });
  });
}

bool is_trust_domain(std::string_view text) {
  return !text.empty() && text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789.-_") ==
                              std::string_view::npos;
}

// spiffe://TRUST_DOMAIN/PATH (SPIFFE-ID section 2), nothing to expand.
bool is_spiffe_id(std::string_view text) {
  if (!text.starts_with(kSpiffe)) return false;
  text.remove_prefix(kSpiffe.size());
  const auto slash = text.find('/');
  return slash != std::string_view::npos && slash + 1 < text.size() &&
         is_trust_domain(text.substr(0, slash)) && text.find('*') == std::string_view::npos;
}

class Validator {
 public:
  Validator(const Config& config, const Origins& origins, Diagnostics& diagnostics)
      : config_(config), origins_(origins), diagnostics_(diagnostics) {
    for (const auto& diagnostic : diagnostics) {
      if (diagnostic.severity == Severity::error) failed_.push_back(diagnostic.key);
    }
  }

  void run() {
    // A file that is no YAML would only give a trail of "missing".
    if (std::find(failed_.begin(), failed_.end(), std::string()) != failed_.end()) return;
    listeners();
    inbound();
    ports();
    services();
    mtls();
    rules();
    agent();
    timeouts();
  }

 private:
  // The key, what holds it, or something in it was refused already.
  [[nodiscard]] bool failed(std::string_view path) const {
    return std::any_of(failed_.begin(), failed_.end(), [&](const std::string& key) {
      return within(key, path) || within(path, key);
    });
  }

  void say(Severity severity, std::string_view at, std::string_view path, std::string message) {
    if (failed(path) || failed(at)) return;
    diagnostics_.push_back({severity, origins_.nearest(at), std::string(path), std::move(message)});
  }

  void error(std::string_view path, std::string message) {
    say(Severity::error, path, path, std::move(message));
  }

  void listeners() {
    const auto& in = config_.inbound;
    const auto& out = config_.outbound;
    if (!in.listen.is_set() && !out.listen.is_set() && !in.app.is_set()) {
      if (!failed("outbound.listen")) {
        error("inbound.listen",
              "no listener; set inbound.listen and inbound.app (--from, --to), or outbound.listen");
      }
      return;
    }
    const std::array<std::pair<std::string_view, const ListenAddress*>, 6> all{{
        {"inbound.listen", &in.listen},
        {"outbound.listen", &out.listen},
        {"stats.listen", &config_.stats.listen},
        {"stats.ready_listen", &config_.stats.ready_listen},
        {"agent.listen", &config_.agent.listen},
        {"agent.admin_listen", &config_.agent.admin_listen},
    }};
    for (std::size_t b = 1; b < all.size(); ++b) {
      for (std::size_t a = 0; a < b; ++a) {
        if (!overlap(*all[a].second, *all[b].second) || failed(all[a].first)) continue;
        // At the one that was written: a default is nobody's mistake.
        const bool later = origins_.has(all[b].first);
        error(all[later ? b : a].first,
              fmt::format("found {}: {} ({}) has this port already; allowed: another port",
                          quoted(all[later ? b : a].second->text), all[later ? a : b].first,
                          all[later ? a : b].second->text));
      }
    }
  }

  void inbound() {
    const auto& in = config_.inbound;
    if (intercepts()) {
      if (in.app.is_set()) {
        error("inbound.app",
              "found with interception, where each connection goes on to the port it "
              "was meant for; allowed: with interception none");
      }
    } else if (in.listen.is_set() && !in.app.is_set()) {
      say(Severity::error, "inbound.listen", "inbound.app",
          "missing: inbound.listen needs it; set it to where the app listens (--to)");
    }
    if (in.app.is_set() && !in.listen.is_set()) {
      say(Severity::error, "inbound.app", "inbound.listen",
          "missing: inbound.app needs it; set it to where the traffic arrives (--from)");
    }
    for (const auto& [path, listen] :
         {std::pair{"inbound.listen", &in.listen}, {"outbound.listen", &config_.outbound.listen}}) {
      if (leads_to(in.app, *listen)) {
        error("inbound.app", fmt::format("found {}: this is {}, requests would go in a circle",
                                         quoted(in.app.text), path));
      }
    }
    if (in.other_tls == OtherTls::pass && config_.mtls.mode == MtlsMode::strict) {
      error("inbound.other_tls",
            "found \"pass\" with mtls.mode strict: clients nobody verified would reach the app; "
            "allowed: terminate, or mtls.mode permissive");
    } else if (in.other_tls == OtherTls::pass && !config_.mtls.allow.empty()) {
      error("inbound.other_tls",
            "found \"pass\" with mtls.allow: what passes has no principal that a rule could judge; "
            "allowed: terminate, or no mtls.allow");
    }
    if (in.other_tls == OtherTls::pass && config_.mtls.mode == MtlsMode::off) {
      say(Severity::warning, "inbound.other_tls", "inbound.other_tls",
          "has no effect with mtls.mode off, which takes plaintext only");
    }
  }

  void services() {
    const auto& out = config_.outbound;
    if (!out.services.empty() && !out.listen.is_set()) {
      say(Severity::error, "outbound.services", "outbound.listen",
          "missing: outbound.services needs it; set it to where the app sends its requests");
    }
    if (out.unknown_host == UnknownHost::passthrough && !intercepts()) {
      error("outbound.unknown_host",
            "found \"passthrough\" without interception: nobody knows where it was going; "
            "allowed: refuse, or interception redirect or tproxy");
    }
    if (out.services.empty() && out.listen.is_set() && out.unknown_host == UnknownHost::refuse) {
      say(Severity::warning, "outbound.listen", "outbound.services",
          "empty: every outbound request is refused with 502");
    }
    std::map<std::pair<std::string, std::uint16_t>, std::string> owners;
    std::map<std::pair<std::string, std::uint16_t>, std::string> holders;
    for (std::size_t i = 0; i < out.services.size(); ++i) {
      const auto path = fmt::format("outbound.services[{}]", i);
      service(out.services[i], path);
      for (std::size_t h = 0; h < out.services[i].hosts.size(); ++h) {
        const auto& host = out.services[i].hosts[h];
        const auto [owner, fresh] = owners.emplace(std::pair(host, out.services[i].port), path);
        if (fresh) continue;
        error(fmt::format("{}.hosts[{}]", path, h),
              fmt::format("found {}: {} has this host with port {} already", quoted(host),
                          owner->second, out.services[i].port));
      }
      for (std::size_t a = 0; a < out.services[i].addresses.size(); ++a) {
        const auto& address = out.services[i].addresses[a];
        const auto [holder, fresh] =
            holders.emplace(std::pair(address, out.services[i].port), path);
        if (fresh) continue;
        error(fmt::format("{}.addresses[{}]", path, a),
              fmt::format("found {}: {} has this address with port {} already", quoted(address),
                          holder->second, out.services[i].port));
      }
    }
  }

  void service(const Service& service, const std::string& path) {
    for (const auto* name : {"hosts", "endpoints"}) {
      const auto key = fmt::format("{}.{}", path, name);
      if (origins_.has(key)) continue;
      if (name == std::string_view("endpoints") && service.resolution == Resolution::original) {
        continue;
      }
      error(key, fmt::format("missing; allowed: {}", allowed(*find_shown_key(key))));
    }
    for (std::size_t e = 0; e < service.endpoints.size(); ++e) {
      if (!leads_to(service.endpoints[e], config_.outbound.listen)) continue;
      error(fmt::format("{}.endpoints[{}]", path, e),
            fmt::format("found {}: this is outbound.listen, requests would go in a circle",
                        quoted(service.endpoints[e].text)));
    }
    interception_of(service, path);
    const auto& tls = service.tls;
    const auto mode = path + ".tls.mode";
    if (service.upgrade && service.protocol == Protocol::http1) {
      error(path + ".upgrade", "found with protocol http1; allowed: with protocol auto or http2");
    } else if (service.upgrade && tls.mode == ServiceTlsMode::off) {
      error(path + ".upgrade", "found with tls.mode off; allowed: with tls.mode mutual");
    }
    if (tls.mode == ServiceTlsMode::mutual && config_.mtls.cert.empty() && !failed("mtls.cert")) {
      error(mode, "found \"mutual\" without credentials; set mtls.cert, mtls.key and mtls.ca");
    }
    for (std::size_t s = 0; s < tls.sans.size(); ++s) {
      if (is_spiffe_id(tls.sans[s])) continue;
      error(fmt::format("{}.tls.sans[{}]", path, s),
            fmt::format("found {}; allowed: spiffe://TRUST_DOMAIN/PATH such as "
                        "spiffe://{}/ns/shop/sa/web, in full",
                        quoted(tls.sans[s]), config_.mtls.trust_domain));
    }
    if (tls.mode == ServiceTlsMode::off) {
      if (!tls.sans.empty()) {
        error(path + ".tls.sans",
              "found with tls.mode off, where nobody shows an identity; "
              "allowed: with tls.mode mutual");
      }
      if (!tls.sni.empty()) {
        error(path + ".tls.sni", "found with tls.mode off; allowed: with tls.mode mutual");
      }
    }
  }

  bool intercepts() const noexcept { return config_.interception != Interception::none; }

  void interception_of(const Service& service, const std::string& path) {
    constexpr std::string_view kNeeded = "allowed: with interception redirect or tproxy";
    if (!service.addresses.empty() && !intercepts()) {
      error(path + ".addresses", fmt::format("found without interception; {}", kNeeded));
    }
    if (service.resolution == Resolution::original && !intercepts()) {
      error(path + ".resolution",
            fmt::format("found \"original\" without interception; {}", kNeeded));
    }
    if (service.resolution == Resolution::original && !service.endpoints.empty()) {
      error(path + ".endpoints",
            "found with resolution original; allowed: with resolution endpoints");
    }
    if (service.traffic == Traffic::tcp && service.addresses.empty()) {
      error(path + ".traffic",
            "found \"tcp\" without addresses, by which its connections would be "
            "known; allowed: with addresses");
    }
  }

  void ports() {
    const auto& ports = config_.inbound.ports;
    if (!ports.empty() && !intercepts()) {
      error("inbound.ports",
            "found without interception; allowed: with interception redirect or "
            "tproxy");
    }
    std::set<std::uint16_t> seen;
    for (std::size_t i = 0; i < ports.size(); ++i) {
      const auto path = fmt::format("inbound.ports[{}].port", i);
      if (ports[i].port == 0) {
        error(path, "missing; allowed: a whole number from 1 to 65535");
      } else if (!seen.insert(ports[i].port).second) {
        error(path, fmt::format("found {}: it stands above already", ports[i].port));
      }
    }
  }

  void mtls() {
    const auto& mtls = config_.mtls;
    const std::array<std::pair<std::string_view, const std::string*>, 3> files{
        {{"mtls.cert", &mtls.cert}, {"mtls.key", &mtls.key}, {"mtls.ca", &mtls.ca}}};
    const auto given = std::find_if(files.begin(), files.end(),
                                    [](const auto& file) { return !file.second->empty(); });
    const bool needed = mtls.mode != MtlsMode::off;
    for (const auto& [path, file] : files) {
      if (!file->empty() || (!needed && given == files.end())) continue;
      const auto because = needed ? std::string("mtls.mode") : std::string(given->first);
      const auto value = needed ? (mtls.mode == MtlsMode::strict ? " strict" : " permissive") : "";
      say(Severity::error, because, path,
          fmt::format("missing: {}{} needs it; allowed: the path of a PEM file", because, value));
    }
    if (!is_trust_domain(mtls.trust_domain)) {
      error("mtls.trust_domain",
            fmt::format("found {}; allowed: lower-case letters, digits, '.', '-', '_'",
                        quoted(mtls.trust_domain)));
    }
  }

  void rules() {
    const auto& mtls = config_.mtls;
    if (!mtls.allow.empty() && mtls.mode == MtlsMode::off) {
      error("mtls.allow",
            "found with mtls.mode off, where nobody shows an identity; allowed: "
            "with mtls.mode permissive or strict");
    }
    if (mtls.audit && mtls.allow.empty()) {
      say(Severity::warning, "mtls.audit", "mtls.audit", "has no effect without mtls.allow");
    }
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < mtls.allow.size(); ++i) {
      const auto& rule = mtls.allow[i];
      const auto path = fmt::format("mtls.allow[{}]", i);
      const auto principal = path + ".principal";
      if (rule.principal.empty()) {
        error(principal, "missing; allowed: a SPIFFE id, * stands for any text");
        continue;
      }
      if (!rule.principal.starts_with(kSpiffe) && !rule.principal.starts_with('*')) {
        error(principal, fmt::format("found {}; did you mean \"{}{}\"? allowed: spiffe://..., or "
                                     "text that begins with *",
                                     quoted(rule.principal), kSpiffe, rule.principal));
      }
      if (!names.insert(rule.name).second) {
        error(path + ".name",
              fmt::format("found {}: another rule has this name already", quoted(rule.name)));
      }
    }
  }

  void agent() {
    const auto& agent = config_.agent;
    if (!parse_ip(agent.app_address)) {
      error("agent.app_address",
            fmt::format("found {}; allowed: an IP address", quoted(agent.app_address)));
    }
    if (const auto probers = parse_probers(agent.probers); !probers) {
      error("agent.probers", probers.error());
    }
    if (!agent.metrics_path.starts_with('/')) {
      error("agent.metrics_path", fmt::format("found {}; allowed: a path, which begins with /",
                                              quoted(agent.metrics_path)));
    }
  }

  void timeouts() {
    const auto& timeouts = config_.timeouts;
    // A timeout longer than timeouts.request is no mistake: the shorter one just comes first.
    const auto idle = timeouts.upstream_idle;
    const auto age = timeouts.upstream_max_age;
    if (age.count() == 0 || idle <= age || failed("timeouts.upstream_max_age")) return;
    // At the one that was written.
    const bool idle_written = origins_.has("timeouts.upstream_idle");
    error(idle_written ? "timeouts.upstream_idle" : "timeouts.upstream_max_age",
          fmt::format("timeouts.upstream_idle ({}ms) is longer than timeouts.upstream_max_age "
                      "({}ms) and could never run out",
                      idle.count(), age.count()));
  }

  const Config& config_;
  const Origins& origins_;
  Diagnostics& diagnostics_;
  std::vector<std::string> failed_;
};

}  // namespace

void validate(const Config& config, const Origins& origins, Diagnostics& diagnostics) {
  Validator(config, origins, diagnostics).run();
}

}  // namespace proxy::config
