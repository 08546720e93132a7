// One JSON document, written key by key; JSON is YAML.
// Not the checks of values: config/ makes them, and names this text as their place.
#include "proxy/sidecar/environment.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string_view>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

namespace proxy::sidecar {
namespace {

constexpr std::array<std::string_view, 5> kOwnPorts{"15000", "15001", "15006", "15021", "15090"};
constexpr std::string_view kAgentListen = "*:15020";

// A JSON string. Control characters become spaces: config/ would refuse them, and a label that has
// one should not keep a pod from starting.
std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return out + '"';
}

class Section {
 public:
  void text(std::string_view key, std::string_view value) {
    if (!value.empty()) raw(key, quoted(value));
  }
  void raw(std::string_view key, std::string_view json) {
    body_ += fmt::format("{}\"{}\": {}", body_.empty() ? "" : ", ", key, json);
  }
  std::string json() const { return "{" + body_ + "}"; }

 private:
  std::string body_;
};

std::string_view get(const Variables& variables, std::string_view name) {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string_view{} : std::string_view(found->second);
}

// The first that is not empty.
std::string_view first(const Variables& variables, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const auto value = get(variables, name); !value.empty()) return value;
  }
  return {};
}

std::expected<YAML::Node, std::string> read_json(const Variables& variables,
                                                 std::string_view name) {
  try {
    return YAML::Load(std::string(get(variables, name)));
  } catch (const YAML::Exception& problem) {
    return std::unexpected(fmt::format("{} is not JSON: {}", name, problem.msg));
  }
}

std::string text_of(const YAML::Node& map, const char* key) {
  const YAML::Node node = map[key];
  return node && node.IsScalar() ? node.Scalar() : std::string();
}

std::string workload(const Variables& variables) {
  Section section;
  section.text("name", first(variables, {"ISTIO_META_WORKLOAD_NAME", "POD_NAME"}));
  section.text("namespace", get(variables, "POD_NAMESPACE"));
  section.text("app", get(variables, "POD_LABEL_APP"));
  section.text("version", get(variables, "POD_LABEL_VERSION"));
  section.text("canonical_service",
               first(variables, {"POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_NAME",
                                 "POD_LABEL_APP_KUBERNETES_IO_NAME", "POD_LABEL_APP",
                                 "ISTIO_META_WORKLOAD_NAME", "POD_NAME"}));
  section.text("canonical_revision",
               first(variables, {"POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_REVISION",
                                 "POD_LABEL_APP_KUBERNETES_IO_VERSION", "POD_LABEL_VERSION"}));
  const auto cluster = get(variables, "ISTIO_META_CLUSTER_ID");
  section.text("cluster", cluster.empty() ? "Kubernetes" : cluster);
  section.text("service_account", get(variables, "SERVICE_ACCOUNT"));
  Section labels;
  labels.text("app.kubernetes.io/name", get(variables, "POD_LABEL_APP_KUBERNETES_IO_NAME"));
  labels.text("app.kubernetes.io/version", get(variables, "POD_LABEL_APP_KUBERNETES_IO_VERSION"));
  section.raw("labels", labels.json());
  return section.json();
}

// The Service of this workload, by the name that both have: the full name its clients use.
std::string own_service(const Variables& variables, const YAML::Node& services) {
  const auto name_space = get(variables, "POD_NAMESPACE");
  for (const std::string_view own :
       {get(variables, "POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_NAME"),
        get(variables, "POD_LABEL_APP_KUBERNETES_IO_NAME"), get(variables, "POD_LABEL_APP"),
        get(variables, "ISTIO_META_WORKLOAD_NAME")}) {
    if (own.empty()) continue;
    for (const auto& service : services) {
      if (!service.IsMap() || text_of(service, "name") != own) continue;
      if (text_of(service, "namespace") != name_space) continue;
      const YAML::Node hosts = service["hosts"];
      if (hosts && hosts.IsSequence() && hosts.size() > 0 && hosts[0].IsScalar()) {
        return hosts[0].Scalar();
      }
    }
  }
  return {};
}

std::expected<std::string, std::string> agent(const Variables& variables) {
  Section section;
  section.text("listen", kAgentListen);
  section.text("admin_listen", ":15000");
  section.text("app_address", get(variables, "INSTANCE_IP"));
  section.text("probers", get(variables, "ISTIO_KUBE_APP_PROBERS"));
  if (get(variables, "ISTIO_PROMETHEUS_ANNOTATIONS").empty()) return section.json();
  const auto annotations = read_json(variables, "ISTIO_PROMETHEUS_ANNOTATIONS");
  if (!annotations) return std::unexpected(annotations.error());
  if (!annotations->IsMap() || text_of(*annotations, "scrape") != "true") return section.json();
  const std::string port = text_of(*annotations, "port");
  auto agent_port = first(variables, {"HOPLITE_AGENT_LISTEN"});
  if (agent_port.empty()) agent_port = kAgentListen;
  agent_port.remove_prefix(agent_port.rfind(':') + 1);
  if (port == agent_port ||
      std::find(kOwnPorts.begin(), kOwnPorts.end(), port) != kOwnPorts.end()) {
    return std::unexpected(fmt::format(
        "ISTIO_PROMETHEUS_ANNOTATIONS names port {}, which is the sidecar's own", port));
  }
  const bool number =
      std::all_of(port.begin(), port.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
  if (!number) {
    return std::unexpected(
        fmt::format("ISTIO_PROMETHEUS_ANNOTATIONS: {} is no port", quoted(port)));
  }
  section.raw("metrics_port", port.empty() ? "80" : port);
  const std::string path = text_of(*annotations, "path");
  section.text("metrics_path", path.empty()            ? "/metrics"
                               : path.starts_with('/') ? path
                                                       : "/" + path);
  return section.json();
}

}  // namespace

Variables variables_from(const char* const* environment) {
  Variables out;
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const std::string_view entry = *environment;
    const auto equals = entry.find('=');
    if (equals == std::string_view::npos || equals + 1 == entry.size()) continue;
    out.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return out;
}

std::expected<std::string, std::string> configuration(const Variables& variables) {
  std::string mode(get(variables, "ISTIO_META_INTERCEPTION_MODE"));
  std::transform(mode.begin(), mode.end(), mode.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (mode.empty()) mode = "redirect";
  const auto services = read_json(variables, "HOPLITE_SERVICES");
  if (!services) return std::unexpected(services.error());

  Section inbound;
  inbound.text("listen", "*:15006");
  if (services->IsSequence()) inbound.text("service", own_service(variables, *services));
  Section outbound;
  outbound.text("listen", "*:15001");
  outbound.text("unknown_host", "passthrough");
  if (!services->IsNull()) outbound.raw("services", get(variables, "HOPLITE_SERVICES"));
  Section mtls;
  mtls.text("trust_domain", get(variables, "TRUST_DOMAIN"));
  Section stats;
  stats.text("listen", "*:15090");
  stats.text("ready_listen", "*:15021");
  const auto beside = agent(variables);
  if (!beside) return std::unexpected(beside.error());

  Section all;
  all.raw("workload", workload(variables));
  all.text("interception", mode);
  all.raw("inbound", inbound.json());
  all.raw("outbound", outbound.json());
  all.raw("mtls", mtls.json());
  all.raw("stats", stats.json());
  all.raw("agent", *beside);
  return all.json() + "\n";
}

}  // namespace proxy::sidecar
