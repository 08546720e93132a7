// Istio's annotations and ours, one line each, with the check of their values.
#include "proxy/inject/settings.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <functional>

#include <arpa/inet.h>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"

namespace proxy::inject {
namespace {

// Each returns what is allowed when the text is not, else nothing, and stores it.
using Setter = std::function<std::string_view(Settings&, const std::string&)>;

struct Annotation {
  std::string_view name;
  Setter set;
};

constexpr std::size_t kMaxText = 4096;

bool is_number(std::string_view text, int least, int most) {
  int number = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end && number >= least && number <= most;
}

template <class Each>
bool all_items(std::string_view text, Each each) {
  while (!text.empty()) {
    const auto comma = text.find(',');
    auto item = text.substr(0, comma);
    while (item.starts_with(' ')) item.remove_prefix(1);
    while (item.ends_with(' ')) item.remove_suffix(1);
    if (!each(item)) return false;
    if (comma == std::string_view::npos) return true;
    text.remove_prefix(comma + 1);
  }
  return true;
}

bool is_port(std::string_view text) {
  return is_number(text, 1, 65535);
}

bool is_range(std::string_view text) {
  const auto slash = text.find('/');
  const std::string address(text.substr(0, slash));
  std::array<unsigned char, 16> bytes{};
  const bool v4 = ::inet_pton(AF_INET, address.c_str(), bytes.data()) == 1;
  if (!v4 && ::inet_pton(AF_INET6, address.c_str(), bytes.data()) != 1) return false;
  return slash == std::string_view::npos || is_number(text.substr(slash + 1), 0, v4 ? 32 : 128);
}

bool is_interface(std::string_view text) {
  return !text.empty() && text.size() < 16 &&
         text.find_first_of(" /\t\n\"'") == std::string_view::npos;
}

std::string without_spaces(std::string text) {
  std::erase(text, ' ');
  return text;
}

Setter list(std::string Settings::* field, bool (*is_item)(std::string_view), bool star,
            std::string_view allowed) {
  return [=](Settings& out, const std::string& text) -> std::string_view {
    if (!(star && text == "*") && !all_items(text, is_item)) return allowed;
    out.*field = without_spaces(text);
    return {};
  };
}

Setter more_ports(std::string Settings::* field) {
  return [=](Settings& out, const std::string& text) -> std::string_view {
    if (!all_items(text, is_port)) return "ports with commas between";
    if (text.empty()) return {};
    if (!(out.*field).empty()) out.*field += ',';
    out.*field += without_spaces(text);
    return {};
  };
}

Setter text(std::string Settings::* field) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (given.empty() || given.size() > kMaxText) return "a text";
    out.*field = given;
    return {};
  };
}

Setter choice(std::string Settings::* field, std::vector<std::string_view> choices,
              std::string_view allowed) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (std::find(choices.begin(), choices.end(), given) == choices.end()) return allowed;
    out.*field = given;
    return {};
  };
}

Setter truth(bool Settings::* field, bool when_true) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (given != "true" && given != "false") return "\"true\" or \"false\"";
    out.*field = (given == "true") == when_true;
    return {};
  };
}

Setter count(int Settings::* field, int least) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (!is_number(given, least, 1'000'000)) return "a whole number";
    std::from_chars(given.data(), given.data() + given.size(), out.*field);
    return {};
  };
}

// Envoy's levels, as far as they have a counterpart.
std::string_view set_log_level(Settings& out, const std::string& given) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kLevels{
      {{"trace", "debug"},
       {"debug", "debug"},
       {"info", "info"},
       {"warning", "warning"},
       {"warn", "warning"},
       {"error", "error"},
       {"critical", "error"},
       {"off", "error"}}};
  for (const auto& [theirs, ours] : kLevels) {
    if (given == theirs) {
      out.log_level = ours;
      return {};
    }
  }
  return "debug, info, warning, error";
}

std::vector<Annotation> annotations() {
  constexpr std::string_view kPorts = "* or ports with commas between";
  constexpr std::string_view kRanges = "* or addresses like 10.0.0.0/8 with commas between";
  constexpr std::string_view kInterfaces = "names of interfaces with commas between";
  using S = Settings;
  return {
      {"traffic.sidecar.istio.io/includeInboundPorts",
       list(&S::include_inbound_ports, is_port, true, kPorts)},
      {"traffic.sidecar.istio.io/excludeInboundPorts", more_ports(&S::exclude_inbound_ports)},
      {"hoplite.io/skip-inbound-ports", more_ports(&S::exclude_inbound_ports)},
      {"traffic.sidecar.istio.io/includeOutboundPorts",
       list(&S::include_outbound_ports, is_port, true, kPorts)},
      {"traffic.sidecar.istio.io/excludeOutboundPorts", more_ports(&S::exclude_outbound_ports)},
      {"hoplite.io/skip-outbound-ports", more_ports(&S::exclude_outbound_ports)},
      {"traffic.sidecar.istio.io/includeOutboundIPRanges",
       list(&S::include_outbound_ranges, is_range, true, kRanges)},
      {"traffic.sidecar.istio.io/excludeOutboundIPRanges",
       list(&S::exclude_outbound_ranges, is_range, false, kRanges.substr(5))},
      {"traffic.sidecar.istio.io/excludeInterfaces",
       list(&S::exclude_interfaces, is_interface, false, kInterfaces)},
      {"traffic.sidecar.istio.io/kubevirtInterfaces",
       list(&S::virtual_interfaces, is_interface, false, kInterfaces)},
      {"istio.io/reroute-virtual-interfaces",
       list(&S::virtual_interfaces, is_interface, false, kInterfaces)},
      {"sidecar.istio.io/interceptionMode",
       choice(&S::mode, {"REDIRECT", "TPROXY"}, "REDIRECT or TPROXY")},
      {"sidecar.istio.io/proxyImage", text(&S::image)},
      {"sidecar.istio.io/proxyCPU", text(&S::cpu)},
      {"sidecar.istio.io/proxyCPULimit", text(&S::cpu_limit)},
      {"sidecar.istio.io/proxyMemory", text(&S::memory)},
      {"sidecar.istio.io/proxyMemoryLimit", text(&S::memory_limit)},
      {"sidecar.istio.io/logLevel", set_log_level},
      {"sidecar.istio.io/nativeSidecar", truth(&S::classic, false)},
      {"sidecar.istio.io/rewriteAppHTTPProbers", truth(&S::rewrite_probes, true)},
      {"readiness.status.sidecar.istio.io/initialDelaySeconds", count(&S::ready_delay, 0)},
      {"readiness.status.sidecar.istio.io/periodSeconds", count(&S::ready_period, 1)},
      {"readiness.status.sidecar.istio.io/failureThreshold", count(&S::ready_failures, 1)},
      {"prometheus.istio.io/merge-metrics", truth(&S::merge_metrics, true)},
      {"hoplite.io/mtls",
       choice(&S::mtls, {"off", "permissive", "strict"}, "off, permissive, strict")},
      {"hoplite.io/cert-secret", text(&S::cert_secret)},
  };
}

// The annotation's value, or the pod when it came by a merge.
std::size_t place_of(const Workload& workload, std::string_view name) {
  const auto* metadata = find(*workload.pod, "metadata");
  const auto* map = metadata == nullptr ? nullptr : find(*metadata->value, "annotations");
  const auto* child = map == nullptr ? nullptr : find(*map->value, name);
  return child == nullptr ? workload.pod->start : child->value->start;
}

bool says_no(const Labels& texts, std::string_view name) {
  const auto found = texts.find(name);
  return found != texts.end() && found->second == "false";
}

}  // namespace

std::string reason_to_skip(const Workload& workload) {
  if (workload.annotations.contains(kStatusAnnotation)) return "it has its sidecar already";
  if (workload.annotations.contains("sidecar.istio.io/status")) return "it has Istio's sidecar";
  for (const auto* name : {"sidecar.istio.io/inject", "hoplite.io/inject"}) {
    if (says_no(workload.labels, name) || says_no(workload.annotations, name)) {
      return fmt::format("{} is \"false\"", name);
    }
  }
  if (const auto* host = find(*workload.spec, "hostNetwork");
      host != nullptr && text_of(host->value) == "true") {
    return "hostNetwork is true, and the node's traffic is not ours to redirect";
  }
  return {};
}

std::expected<Settings, Problem> settings_for(const Stream& stream, const Workload& workload,
                                              const Settings& options) {
  auto out = options;
  for (const auto& [name, set] : annotations()) {
    const auto found = workload.annotations.find(name);
    if (found == workload.annotations.end()) continue;
    if (const auto allowed = set(out, found->second); !allowed.empty()) {
      return std::unexpected(stream.problem(
          place_of(workload, name),
          fmt::format("{}: found {}; allowed: {}", name, config::quoted(found->second), allowed)));
    }
  }
  if (out.cert_secret.empty()) out.cert_secret = "hoplite." + workload.service_account();
  return out;
}

}  // namespace proxy::inject
