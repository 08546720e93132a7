// Writes the containers down. The numbers are Istio's, so that policies made for it fit.
#include "proxy/inject/containers.h"

#include <fmt/format.h>

namespace proxy::inject {
namespace {

constexpr int kMetricsPort = 15090;
constexpr int kReadyPort = 15021;
constexpr int kUsualStatusPort = 15020;
constexpr int kProxyId = 1337;
constexpr std::string_view kCertificates = "/etc/hoplite/certs";

Value variable(std::string_view name, std::string_view value) {
  return Map{{"name", name}, {"value", value}};
}

Value field(std::string_view name, std::string_view path) {
  return Map{{"name", name}, {"valueFrom", Map{{"fieldRef", Map{{"fieldPath", path}}}}}};
}

Value label(std::string_view name, std::string_view key) {
  return field(name, fmt::format("metadata.labels['{}']", key));
}

List environment(const Settings& settings, const PodFacts& facts) {
  List out{
      field("POD_NAME", "metadata.name"),
      field("POD_NAMESPACE", "metadata.namespace"),
      field("INSTANCE_IP", "status.podIP"),
      field("INSTANCE_IPS", "status.podIPs"),
      field("HOST_IP", "status.hostIP"),
      field("NODE_NAME", "spec.nodeName"),
      field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
      label("POD_LABEL_APP", "app"),
      label("POD_LABEL_VERSION", "version"),
      label("POD_LABEL_APP_KUBERNETES_IO_NAME", "app.kubernetes.io/name"),
      label("POD_LABEL_APP_KUBERNETES_IO_VERSION", "app.kubernetes.io/version"),
      label("POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_NAME", "service.istio.io/canonical-name"),
      label("POD_LABEL_SERVICE_ISTIO_IO_CANONICAL_REVISION", "service.istio.io/canonical-revision"),
      variable("ISTIO_META_WORKLOAD_NAME", facts.workload),
      variable("ISTIO_META_OWNER", facts.owner),
      variable("ISTIO_META_CLUSTER_ID", settings.cluster),
      variable("ISTIO_META_INTERCEPTION_MODE", settings.mode),
      variable("ISTIO_META_APP_CONTAINERS", facts.containers),
      variable("ISTIO_META_POD_PORTS", facts.ports),
      variable("TRUST_DOMAIN", settings.trust_domain),
      variable("HOPLITE_MTLS_MODE", settings.mtls),
  };
  if (has_certificates(settings)) {
    out.push_back(variable("HOPLITE_MTLS_CERT", fmt::format("{}/tls.crt", kCertificates)));
    out.push_back(variable("HOPLITE_MTLS_KEY", fmt::format("{}/tls.key", kCertificates)));
    out.push_back(variable("HOPLITE_MTLS_CA", fmt::format("{}/ca.crt", kCertificates)));
  }
  const auto add_known = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) out.push_back(variable(name, value));
  };
  add_known("ISTIO_PROMETHEUS_ANNOTATIONS", facts.metrics);
  add_known("ISTIO_KUBE_APP_PROBERS", facts.probes);
  add_known("HOPLITE_SERVICES", facts.services);
  add_known("HOPLITE_LOG_LEVEL", settings.log_level);
  if (settings.status_port != kUsualStatusPort) {
    out.push_back(variable("HOPLITE_AGENT_LISTEN", fmt::format("*:{}", settings.status_port)));
  }
  // It is asked to leave at the same time as the app, which may still need it: as long as Istio's.
  if (settings.classic) out.push_back(variable("HOPLITE_TIMEOUTS_DRAIN_DELAY", "5s"));
  for (const auto& [name, value] : settings.environment) out.push_back(variable(name, value));
  return out;
}

Map get_ready() {
  return Map{{"path", "/healthz/ready"}, {"port", kReadyPort}};
}

Value security(int user, int group, bool read_only, List capabilities) {
  Map caps;
  if (!capabilities.empty()) caps.push_back({"add", std::move(capabilities)});
  caps.push_back({"drop", List{"ALL"}});
  return Map{{"allowPrivilegeEscalation", false},
             {"capabilities", std::move(caps)},
             {"privileged", false},
             {"readOnlyRootFilesystem", read_only},
             {"runAsGroup", group},
             {"runAsNonRoot", user != 0},
             {"runAsUser", user},
             {"seccompProfile", Map{{"type", "RuntimeDefault"}}}};
}

Value resources(const Settings& settings) {
  Map out;
  const auto add_known = [&](const char* key, const std::string& cpu, const std::string& memory) {
    Map amounts;
    if (!cpu.empty()) amounts.emplace_back("cpu", cpu);
    if (!memory.empty()) amounts.emplace_back("memory", memory);
    if (!amounts.empty()) out.emplace_back(key, std::move(amounts));
  };
  add_known("limits", settings.cpu_limit, settings.memory_limit);
  add_known("requests", settings.cpu, settings.memory);
  return out;
}

std::string not_intercepted(const Settings& settings) {
  auto out = fmt::format("{},{},{}", kMetricsPort, kReadyPort, settings.status_port);
  if (!settings.exclude_inbound_ports.empty()) out += "," + settings.exclude_inbound_ports;
  return out;
}

Value run(List command) {
  return Map{{"exec", Map{{"command", std::move(command)}}}};
}

// An ordinary container has to hold up the app until it is ready: kubelet starts the next one after
// postStart. A native one needs no hook: it is up before the app, and ended after it.
Value hold_up_the_app() {
  return Map{{"postStart", run({"curl", "-sSf", "-o", "/dev/null", "--retry", "600",
                                "--retry-delay", "1", "--retry-connrefused",
                                fmt::format("http://127.0.0.1:{}/healthz/ready", kReadyPort)})}};
}

}  // namespace

Value init_container(const Settings& settings) {
  List args{"redirect", "apply",
            "-p",       "15001",
            "-z",       "15006",
            "-u",       "1337",
            "-g",       "1337",
            "-m",       settings.mode,
            "-i",       settings.include_outbound_ranges,
            "-x",       settings.exclude_outbound_ranges,
            "-b",       settings.include_inbound_ports,
            "-d",       not_intercepted(settings)};
  const auto add_known = [&](const char* flag, const std::string& value) {
    if (value.empty()) return;
    args.emplace_back(flag);
    args.emplace_back(value);
  };
  add_known("-q", settings.include_outbound_ports);
  add_known("-o", settings.exclude_outbound_ports);
  add_known("-c", settings.exclude_interfaces);
  add_known("-k", settings.virtual_interfaces);
  return Map{{"name", kInitContainer},
             {"image", settings.image},
             {"args", std::move(args)},
             {"resources", resources(settings)},
             // iptables keeps its lock in a file below /run.
             {"securityContext", security(0, 0, false, {"NET_ADMIN", "NET_RAW"})}};
}

Value sidecar_container(const Settings& settings, const PodFacts& facts) {
  const bool transparent = settings.mode == "TPROXY";
  Map out{{"name", settings.name}, {"image", settings.image}};
  if (!settings.classic) out.push_back({"restartPolicy", "Always"});
  out.push_back({"args", List{"sidecar"}});
  out.push_back({"ports", List{Map{{"name", "http-envoy-prom"},
                                   {"containerPort", kMetricsPort},
                                   {"protocol", "TCP"}}}});
  out.push_back({"env", environment(settings, facts)});
  out.push_back({"startupProbe", Map{{"httpGet", get_ready()},
                                     {"periodSeconds", 1},
                                     {"timeoutSeconds", 3},
                                     {"failureThreshold", 600}}});
  out.push_back({"readinessProbe", Map{{"httpGet", get_ready()},
                                       {"initialDelaySeconds", settings.ready_delay},
                                       {"periodSeconds", settings.ready_period},
                                       {"timeoutSeconds", 3},
                                       {"failureThreshold", settings.ready_failures}}});
  if (settings.classic) out.push_back({"lifecycle", hold_up_the_app()});
  out.push_back({"resources", resources(settings)});
  out.push_back({"securityContext", security(transparent ? 0 : kProxyId, kProxyId, true,
                                             transparent ? List{"NET_ADMIN"} : List{})});
  if (has_certificates(settings)) {
    out.push_back({"volumeMounts", List{Map{{"name", kCertificateVolume},
                                            {"mountPath", kCertificates},
                                            {"readOnly", true}}}});
  }
  return out;
}

bool has_certificates(const Settings& settings) {
  return settings.mtls != "off";
}

Value certificate_volume(const Settings& settings) {
  if (settings.cert_csi.empty()) {
    return Map{{"name", kCertificateVolume}, {"secret", Map{{"secretName", settings.cert_secret}}}};
  }
  Map csi{{"driver", settings.cert_csi}, {"readOnly", true}};
  if (!settings.csi_attributes.empty()) {
    Map attributes;
    for (const auto& [name, value] : settings.csi_attributes) attributes.push_back({name, value});
    csi.push_back({"volumeAttributes", std::move(attributes)});
  }
  return Map{{"name", kCertificateVolume}, {"csi", std::move(csi)}};
}

std::string literal(std::string_view text) {
  std::string out;
  for (const char c : text) {
    out += c;
    if (c == '$') out += c;
  }
  return out;
}

}  // namespace proxy::inject
