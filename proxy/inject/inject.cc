// One pod after the other, all as edits of one parsed text; then proves that it can be undone.
#include "proxy/inject/inject.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "proxy/inject/containers.h"
#include "proxy/inject/pod_editor.h"
#include "proxy/inject/probes.h"
#include "proxy/inject/workload.h"

namespace proxy::inject {
namespace {

std::string shown(const Workload& workload) {
  return fmt::format("{} {}", workload.kind,
                     workload.name.empty() ? "without a name" : workload.name);
}

std::string annotation(const Workload& workload, std::string_view name) {
  const auto found = workload.annotations.find(name);
  return found == workload.annotations.end() ? std::string() : found->second;
}

template <class Each>
void each_container(const Workload& workload, Each each) {
  const auto* list = find(*workload.spec, "containers");
  for (const auto& item : resolved(*list->value).children) each(resolved(*item.value));
}

std::string text_in(const Node& map, std::string_view key) {
  const auto* child = find(map, key);
  return child == nullptr ? std::string() : std::string(text_of(child->value));
}

std::string container_names(const Workload& workload) {
  std::string out;
  each_container(workload, [&](const Node& container) {
    if (!out.empty()) out += ',';
    out += text_in(container, "name");
  });
  return out;
}

std::string container_ports(const Workload& workload) {
  List out;
  each_container(workload, [&](const Node& container) {
    const auto* ports = find(container, "ports");
    if (ports == nullptr) return;
    for (const auto& item : resolved(*ports->value).children) {
      const auto& port = resolved(*item.value);
      Map one;
      if (const auto name = text_in(port, "name"); !name.empty()) one.emplace_back("name", name);
      int number = 0;
      const auto text = text_in(port, "containerPort");
      std::from_chars(text.data(), text.data() + text.size(), number);
      one.emplace_back("containerPort", number);
      const auto protocol = text_in(port, "protocol");
      one.emplace_back("protocol", protocol.empty() ? "TCP" : protocol);
      out.emplace_back(std::move(one));
    }
  });
  return compact_json(out);
}

// What the sidecar is to merge, as Istio tells its agent; empty: the app announces no metrics.
std::string app_metrics(const Workload& workload) {
  Map out;
  for (const auto* key : {"scrape", "path", "port"}) {
    const auto value = annotation(workload, fmt::format("prometheus.io/{}", key));
    if (!value.empty()) out.emplace_back(key, value);
  }
  return out.empty() ? std::string() : compact_json(out);
}

bool selects(const Service& service, const Workload& workload) {
  return service.namespace_name == workload.namespace_name &&
         std::all_of(service.selector.begin(), service.selector.end(), [&](const auto& one) {
           const auto found = workload.labels.find(one.first);
           return found != workload.labels.end() && found->second == one.second;
         });
}

// What the port's name declares; empty: it is to be found out.
std::string_view traffic_of(std::string_view protocol) {
  static constexpr std::array<std::string_view, 5> kHttp{"http", "http2", "grpc", "grpc-web",
                                                         "kubernetes.io/h2c"};
  static constexpr std::array<std::string_view, 7> kTcp{"tcp",   "tls",   "https",   "mysql",
                                                        "mongo", "redis", "postgres"};
  if (std::find(kHttp.begin(), kHttp.end(), protocol) != kHttp.end()) return "http";
  if (std::find(kTcp.begin(), kTcp.end(), protocol) != kTcp.end()) return "tcp";
  return {};
}

bool has_sidecar(const Workload& workload) {
  return reason_to_skip(workload).empty() || workload.annotations.contains(kStatusAnnotation);
}

// A Service's ports as the configuration lists them; nothing when no pod of the stream with a
// sidecar is behind it.
List described(const Service& service, const Objects& objects, const Settings& options) {
  List sans;
  std::set<std::string> known;
  const std::string scope =
      service.namespace_name.empty() ? "$(POD_NAMESPACE)" : literal(service.namespace_name);
  for (const auto& workload : objects.workloads) {
    if (!has_sidecar(workload) || !selects(service, workload)) continue;
    auto san = fmt::format("spiffe://{}/ns/{}/sa/{}", options.trust_domain, scope,
                           literal(workload.service_account()));
    if (known.insert(san).second) sans.emplace_back(std::move(san));
  }
  if (sans.empty()) return {};
  const auto name = literal(service.name);
  const auto host = fmt::format("{}.{}.svc.{}", name, scope, options.cluster_domain);
  List out;
  for (const auto& port : service.ports) {
    Map tls{{"mode", "mutual"}, {"sans", sans}};
    if (options.mtls == "off") tls = Map{{"mode", Value("off")}};
    Map one{{"name", name},
            {"namespace", scope},
            {"hosts", List{host, fmt::format("{}.{}.svc", name, scope),
                           fmt::format("{}.{}", name, scope), name}},
            {"port", port.port},
            {"endpoints", List{fmt::format("{}:{}", host, port.port)}},
            {"tls", std::move(tls)}};
    if (!service.address.empty()) one.emplace_back("addresses", List{literal(service.address)});
    if (const auto carried = traffic_of(port.protocol); !carried.empty()) {
      one.emplace_back("traffic", carried);
    }
    out.emplace_back(std::move(one));
  }
  return out;
}

// The Services of the stream, each as JSON items with commas between.
class KnownServices {
 public:
  KnownServices(const Objects& objects, const Settings& options) {
    for (const auto& service : objects.services) {
      const auto items = compact_json(described(service, objects, options));
      if (items.size() > 2) all_.emplace_back(&service, items.substr(1, items.size() - 2));
    }
  }

  // The pod's own first, then as many others as fit; `left_out` counts the rest.
  [[nodiscard]] std::string for_pod(const Workload& workload, std::size_t& left_out) const {
    std::string out;
    for (const bool own : {true, false}) {
      for (const auto& [service, items] : all_) {
        if (selects(*service, workload) != own) continue;
        if (out.size() + items.size() + 2 > kMaxBytes) {
          ++left_out;
        } else {
          out += (out.empty() ? "[" : ",") + items;
        }
      }
    }
    return out.empty() ? out : out + "]";
  }

 private:
  // Linux takes no variable above 128 KiB, name and all.
  static constexpr std::size_t kMaxBytes = 64 * 1024;

  std::vector<std::pair<const Service*, std::string>> all_;
};

// Unless the pod says so already, whoever wrote that.
bool is_to_merge(const Workload& workload, const Settings& settings) {
  return settings.merge_metrics &&
         annotation(workload, "prometheus.io/port") != std::to_string(settings.status_port);
}

Map annotations_to_write(const Workload& workload, const Settings& settings) {
  Map out;
  if (is_to_merge(workload, settings)) {
    out.emplace_back("prometheus.io/scrape", "true");
    out.emplace_back("prometheus.io/port", std::to_string(settings.status_port));
    out.emplace_back("prometheus.io/path", "/stats/prometheus");
    if (annotation(workload, "prometheus.io/scheme") == "https") {
      out.emplace_back("prometheus.io/scheme", "http");
    }
  }
  // kubectl takes the first container, which the sidecar then is.
  if (settings.classic) {
    const auto names = container_names(workload);
    for (const auto* key : {"kubectl.kubernetes.io/default-container",
                            "kubectl.kubernetes.io/default-logs-container"}) {
      if (annotation(workload, key).empty()) {
        out.emplace_back(key, names.substr(0, names.find(',')));
      }
    }
  }
  return out;
}

Done inject_pod(const Stream& stream, Editor& editor, const Workload& workload,
                const Settings& options, const std::string& services,
                std::vector<std::string>& warnings) {
  const auto settings = settings_for(stream, workload, options);
  if (!settings) return std::unexpected(settings.error());
  PodEditor pod(stream, editor, workload);
  PodFacts facts;
  facts.workload = literal(workload.name);
  facts.owner = workload.owner();
  facts.containers = literal(container_names(workload));
  facts.ports = literal(container_ports(workload));
  facts.services = services;
  if (is_to_merge(workload, *settings)) facts.metrics = literal(app_metrics(workload));
  if (settings->rewrite_probes) {
    auto probes = rewrite_probes(pod, *settings);
    if (!probes) return std::unexpected(probes.error());
    if (!probes->originals.empty()) facts.probes = literal(compact_json(probes->originals));
    warnings.insert(warnings.end(), probes->warnings.begin(), probes->warnings.end());
  }
  // The app's init containers run before an ordinary sidecar does: then nothing may be redirected
  // to it yet, so the redirect comes last. Before a native one it comes first.
  const auto sidecar = sidecar_container(*settings, facts);
  const auto init = init_container(*settings);
  auto done = settings->classic ? pod.add_items("initContainers", {init}, Place::back)
                                : pod.add_items("initContainers", {init, sidecar}, Place::front);
  if (!done) return done;
  if (settings->classic) {
    done = pod.add_items("containers", {sidecar}, Place::front);
    if (!done) return done;
  }
  if (has_certificates(*settings)) {
    done = pod.add_items("volumes", {certificate_volume(*settings)}, Place::front);
    if (!done) return done;
  }
  return pod.annotate(annotations_to_write(workload, *settings));
}

}  // namespace

std::expected<Outcome, Problem> inject(std::string_view text, const Settings& options) {
  const auto stream = Stream::parse(text);
  if (!stream) return std::unexpected(stream.error());
  const auto objects = find_objects(*stream);
  if (!objects) return std::unexpected(objects.error());
  const KnownServices services(*objects, options);
  Outcome out;
  Editor editor(*stream);
  for (const auto& workload : objects->workloads) {
    if (const auto reason = reason_to_skip(workload); !reason.empty()) {
      out.skipped.push_back(fmt::format("{}: {}", shown(workload), reason));
      continue;
    }
    std::size_t left_out = 0;
    std::vector<std::string> warnings;
    const auto known = services.for_pod(workload, left_out);
    if (auto done = inject_pod(*stream, editor, workload, options, known, warnings); !done) {
      return std::unexpected(done.error());
    }
    if (left_out > 0) {
      warnings.push_back(fmt::format("{} Services do not fit into HOPLITE_SERVICES", left_out));
    }
    for (const auto& name : without_effect(workload)) {
      warnings.push_back(fmt::format("the annotation {} has no effect", name));
    }
    for (const auto& one : warnings) {
      out.warnings.push_back(fmt::format("{}: {}", shown(workload), one));
    }
    out.done.push_back(shown(workload));
  }
  out.text = editor.apply();
  if (out.done.empty()) return out;
  // YAML has more ways to write things than anybody can list. What cannot be undone is not done.
  const auto back = uninject(out.text);
  if (!back || back->text != text) {
    return std::unexpected(stream->problem(
        objects->workloads.front().pod->start,
        "this is laid out in a way that injection could not undo, so nothing was done; "
        "`kubectl create --dry-run=client -o yaml -f FILE` writes it in a plainer one"));
  }
  return out;
}

}  // namespace proxy::inject
