// Istio's annotations and ours, one line each, with the check of their values.
#include "proxy/inject/settings.h"

#include <algorithm>
#include <array>
#include <cctype>
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

Setter choice(std::string Settings::* field, const std::vector<std::string_view>& choices,
              std::string_view allowed) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (std::find(choices.begin(), choices.end(), given) == choices.end()) return allowed;
    out.*field = given;
    return {};
  };
}

// As Go's ParseBool, by which Istio reads them.
Setter truth(bool Settings::* field, bool when_true) {
  static constexpr std::array<std::string_view, 6> kTrue{"true", "True", "TRUE", "t", "T", "1"};
  static constexpr std::array<std::string_view, 6> kFalse{"false", "False", "FALSE", "f", "F", "0"};
  return [=](Settings& out, const std::string& given) -> std::string_view {
    const bool yes = std::find(kTrue.begin(), kTrue.end(), given) != kTrue.end();
    const bool no = std::find(kFalse.begin(), kFalse.end(), given) != kFalse.end();
    if (!yes && !no) return "\"true\" or \"false\"";
    out.*field = yes == when_true;
    return {};
  };
}

// A quantity of Kubernetes: "100m", "0.5", "1Gi", "1e9".
bool is_quantity(std::string_view text) {
  static constexpr std::array<std::string_view, 16> kUnits{
      "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"};
  const auto digits = std::min(text.find_first_not_of("0123456789."), text.size());
  const auto number = text.substr(0, digits);
  auto unit = text.substr(digits);
  if (number.find_first_of("0123456789") == std::string_view::npos ||
      number.find('.') != number.rfind('.')) {
    return false;
  }
  if (unit.size() > 1 && (unit[0] == 'e' || unit[0] == 'E') && unit != "Ei") {
    unit.remove_prefix(unit[1] == '+' || unit[1] == '-' ? 2 : 1);
    return is_number(unit, 0, 99);
  }
  return std::find(kUnits.begin(), kUnits.end(), unit) != kUnits.end();
}

Setter quantity(std::string Settings::* field) {
  return [=](Settings& out, const std::string& given) -> std::string_view {
    if (!is_quantity(given)) return "a quantity such as 100m or 128Mi";
    out.*field = given;
    return {};
  };
}

bool is_free_port(std::string_view text) {
  static constexpr std::array<std::string_view, 5> kTaken{"15000", "15001", "15006", "15021",
                                                          "15090"};
  return is_port(text) && std::find(kTaken.begin(), kTaken.end(), text) == kTaken.end();
}

std::string_view set_status_port(Settings& out, const std::string& given) {
  if (!is_free_port(given)) {
    return "a port other than 15000, 15001, 15006, 15021 and 15090";
  }
  std::from_chars(given.data(), given.data() + given.size(), out.status_port);
  return {};
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

// Who is not to be scraped stays so; what is no truth value counts as true, as in Istio.
std::string_view set_scrape(Settings& out, const std::string& given) {
  auto read = out;
  if (truth(&Settings::merge_metrics, true)(read, given).empty() && !read.merge_metrics) {
    out.merge_metrics = false;
  }
  return {};
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
      {"sidecar.istio.io/proxyCPU", quantity(&S::cpu)},
      {"sidecar.istio.io/proxyCPULimit", quantity(&S::cpu_limit)},
      {"sidecar.istio.io/proxyMemory", quantity(&S::memory)},
      {"sidecar.istio.io/proxyMemoryLimit", quantity(&S::memory_limit)},
      {"sidecar.istio.io/logLevel", set_log_level},
      {"sidecar.istio.io/nativeSidecar", truth(&S::classic, false)},
      {"sidecar.istio.io/rewriteAppHTTPProbers", truth(&S::rewrite_probes, true)},
      {"readiness.status.sidecar.istio.io/initialDelaySeconds", count(&S::ready_delay, 0)},
      {"readiness.status.sidecar.istio.io/periodSeconds", count(&S::ready_period, 1)},
      {"readiness.status.sidecar.istio.io/failureThreshold", count(&S::ready_failures, 1)},
      {"status.sidecar.istio.io/port", set_status_port},
      {"prometheus.istio.io/merge-metrics", truth(&S::merge_metrics, true)},
      {"prometheus.io/scrape", set_scrape},
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

// Of the label and the annotation the label counts, and what is not yes is no, as Istio has it.
bool says_no(const Workload& workload, std::string_view name) {
  static constexpr std::array<std::string_view, 4> kYes{"y", "yes", "true", "on"};
  for (const auto* texts : {&workload.labels, &workload.annotations}) {
    const auto found = texts->find(name);
    if (found == texts->end()) continue;
    std::string value = found->second;
    std::transform(value.begin(), value.end(), value.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return !value.empty() && std::find(kYes.begin(), kYes.end(), value) == kYes.end();
  }
  return false;
}

// What Kubernetes' reader takes for true.
bool is_true(const Node& map, std::string_view key) {
  static constexpr std::array<std::string_view, 11> kTrue{
      "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y"};
  const auto* child = find(map, key);
  const auto* value = child == nullptr ? find_merged(map, key) : child->value;
  return std::find(kTrue.begin(), kTrue.end(), text_of(value)) != kTrue.end();
}

bool is_windows(const Node& spec) {
  const auto* os = find(spec, "os");
  if (os != nullptr && resolved(*os->value).kind == NodeKind::map) {
    const auto* name = find(*os->value, "name");
    if (name != nullptr && text_of(name->value) == "windows") return true;
  }
  const auto* nodes = find(spec, "nodeSelector");
  const auto labels = labels_of(nodes == nullptr ? nullptr : &resolved(*nodes->value));
  const auto found = labels.find("kubernetes.io/os");
  return found != labels.end() && found->second == "windows";
}

// Kubernetes' own; Istio leaves them alone as well.
bool is_system(std::string_view name_space) {
  static constexpr std::array<std::string_view, 4> kSystem{"kube-system", "kube-public",
                                                           "kube-node-lease", "local-path-storage"};
  return std::find(kSystem.begin(), kSystem.end(), name_space) != kSystem.end();
}

bool is_ours_to_read(std::string_view annotation) {
  static constexpr std::array<std::string_view, 7> kDomains{
      "sidecar.istio.io/",        "traffic.sidecar.istio.io/",
      "status.sidecar.istio.io/", "readiness.status.sidecar.istio.io/",
      "prometheus.istio.io/",     "proxy.istio.io/",
      "inject.istio.io/"};
  return std::any_of(kDomains.begin(), kDomains.end(),
                     [&](std::string_view domain) { return annotation.starts_with(domain); });
}

bool is_known(std::string_view name) {
  static const std::vector<Annotation> kKnown = annotations();
  return name == "sidecar.istio.io/inject" || name == "hoplite.io/inject" ||
         std::any_of(kKnown.begin(), kKnown.end(),
                     [&](const Annotation& known) { return known.name == name; });
}

// A mistyped one must not leave a pod less guarded than it was meant to be.
std::expected<void, Problem> only_known(const Stream& stream, const Workload& workload) {
  for (const auto& [name, value] : workload.annotations) {
    if (!name.starts_with("hoplite.io/") || is_known(name)) continue;
    return std::unexpected(stream.problem(
        place_of(workload, name),
        fmt::format("there is no annotation {}; there are hoplite.io/inject, hoplite.io/mtls, "
                    "hoplite.io/cert-secret, hoplite.io/skip-inbound-ports and "
                    "hoplite.io/skip-outbound-ports",
                    config::quoted(name))));
  }
  return {};
}

// When one is told, the others are as Kubernetes has them: Istio writes none of its own then, and a
// default limit may be less than the request.
void forget_resources(Settings& out, const Workload& workload) {
  static constexpr std::array<std::string_view, 4> kNames{
      "sidecar.istio.io/proxyCPU", "sidecar.istio.io/proxyCPULimit", "sidecar.istio.io/proxyMemory",
      "sidecar.istio.io/proxyMemoryLimit"};
  const bool told = std::any_of(kNames.begin(), kNames.end(), [&](std::string_view name) {
    return workload.annotations.contains(name);
  });
  if (told) out.cpu = out.cpu_limit = out.memory = out.memory_limit = {};
}

}  // namespace

std::string reason_to_skip(const Workload& workload) {
  if (workload.annotations.contains(kStatusAnnotation)) return "it has its sidecar already";
  if (workload.annotations.contains("sidecar.istio.io/status")) return "it has Istio's sidecar";
  for (const auto* name : {"sidecar.istio.io/inject", "hoplite.io/inject"}) {
    if (says_no(workload, name)) return fmt::format("{} says so", name);
  }
  if (is_true(*workload.spec, "hostNetwork")) {
    return "hostNetwork is true, and the node's traffic is not ours to redirect";
  }
  if (is_windows(*workload.spec)) return "it is for Windows";
  if (is_system(workload.namespace_name)) {
    return fmt::format("the namespace {} is Kubernetes' own", workload.namespace_name);
  }
  return {};
}

std::vector<std::string> without_effect(const Workload& workload) {
  std::vector<std::string> out;
  for (const auto& [name, value] : workload.annotations) {
    if (is_ours_to_read(name) && !is_known(name)) out.push_back(name);
  }
  return out;
}

std::expected<Settings, Problem> settings_for(const Stream& stream, const Workload& workload,
                                              const Settings& options) {
  if (auto known = only_known(stream, workload); !known) return std::unexpected(known.error());
  auto out = options;
  forget_resources(out, workload);
  for (const auto& [name, set] : annotations()) {
    const auto found = workload.annotations.find(name);
    if (found == workload.annotations.end()) continue;
    if (const auto allowed = set(out, found->second); !allowed.empty()) {
      return std::unexpected(stream.problem(
          place_of(workload, name),
          fmt::format("{}: found {}; allowed: {}", name, config::quoted(found->second), allowed)));
    }
  }
  // What the sidecar would refuse to start with.
  const auto port = workload.annotations.find("prometheus.io/port");
  if (out.merge_metrics && port != workload.annotations.end() && !is_free_port(port->second)) {
    return std::unexpected(
        stream.problem(place_of(workload, port->first),
                       fmt::format("{}: found {}; allowed: a port that is not the sidecar's own",
                                   port->first, config::quoted(port->second))));
  }
  if (out.cert_secret.empty()) out.cert_secret = "hoplite." + workload.service_account();
  return out;
}

}  // namespace proxy::inject
