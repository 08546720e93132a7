// Walks the documents to the pods in them. Reads through aliases, as Kubernetes does.
#include "proxy/inject/workload.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"

namespace proxy::inject {
namespace {

struct Kind {
  std::string_view name;
  std::string_view group;
  std::string_view api;  // as in an owner reference
  std::string_view plural;
};

constexpr std::array kKinds{
    Kind{"Pod", "", "v1", "pods"},
    Kind{"Deployment", "apps", "apps/v1", "deployments"},
    Kind{"StatefulSet", "apps", "apps/v1", "statefulsets"},
    Kind{"DaemonSet", "apps", "apps/v1", "daemonsets"},
    Kind{"ReplicaSet", "apps", "apps/v1", "replicasets"},
    Kind{"ReplicationController", "", "v1", "replicationcontrollers"},
    Kind{"Job", "batch", "batch/v1", "jobs"},
    Kind{"CronJob", "batch", "batch/v1", "cronjobs"},
};

const Kind* find_kind(std::string_view name) {
  const auto found = std::find_if(kKinds.begin(), kKinds.end(),
                                  [&](const Kind& kind) { return kind.name == name; });
  return found == kKinds.end() ? nullptr : &*found;
}

// Others have kinds of these names too, with another inside: Volcano a Job, Knative a Service.
std::string_view group_of(std::string_view api_version) {
  const auto slash = api_version.find('/');
  return slash == std::string_view::npos ? std::string_view{} : api_version.substr(0, slash);
}

bool is_workload(std::string_view kind, std::string_view api_version) {
  const auto* known = find_kind(kind);
  return known != nullptr && known->group == group_of(api_version);
}

// Lists in lists: as deep as this, and no deeper.
constexpr int kMaxDepth = 8;

using Done = std::expected<void, Problem>;

const Node* value_of(const Node& map, std::string_view key) {
  const auto* child = find(map, key);
  return child == nullptr ? nullptr : &resolved(*child->value);
}

// The maps that a merge key of this one brings in.
std::vector<const Node*> merged(const Node& map) {
  const auto* child = find(map, "<<");
  if (child == nullptr) return {};
  const auto& value = resolved(*child->value);
  if (value.kind == NodeKind::map) return {&value};
  std::vector<const Node*> out;
  out.reserve(value.children.size());
  for (const auto& item : value.children) out.push_back(&resolved(*item.value));
  return out;
}

// `seen` keeps a map that is merged many times over from being searched as often.
const Node* find_merged(const Node& map, std::string_view key, std::set<const Node*>& seen) {
  for (const auto* other : merged(map)) {
    if (!seen.insert(other).second) continue;
    if (const auto* found = value_of(*other, key)) return found;
    if (const auto* found = find_merged(*other, key, seen)) return found;
  }
  return nullptr;
}

class Finder {
 public:
  Finder(const Stream& stream, Objects& out) : stream_(stream), out_(out) {}

  // `kind` and `api` are those of the List around it, whose items need not say theirs.
  Done object(const Node& given, int depth, std::string_view kind = {}, std::string_view api = {}) {
    const auto& node = resolved(given);
    if (node.kind == NodeKind::null) return {};
    if (node.kind != NodeKind::map) {
      return wrong(given, "this is no Kubernetes object: a map with apiVersion and kind is one");
    }
    if (const auto* own = value_of(node, "kind")) kind = text_of(own);
    if (const auto* own = value_of(node, "apiVersion")) api = text_of(own);
    if (kind.empty() || api.empty()) {
      return wrong(given, fmt::format("this is no Kubernetes object: {} is missing",
                                      kind.empty() ? "kind" : "apiVersion"));
    }
    const auto* items = value_of(node, "items");
    if (kind.ends_with("List") && items != nullptr && items->kind == NodeKind::list) {
      if (depth >= kMaxDepth) return wrong(given, "Lists in Lists, deeper than 8");
      const auto inner = kind.substr(0, kind.size() - std::string_view("List").size());
      for (const auto& item : items->children) {
        if (auto done = object(*item.value, depth + 1, inner, api); !done) return done;
      }
      return {};
    }
    if (kind == "Service" && group_of(api).empty()) service(node);
    if (!is_workload(kind, api)) return {};
    if (auto done = no_key_twice(node); !done) return done;
    return workload(node, std::string(kind));
  }

 private:
  Done wrong(const Node& node, std::string message) const {
    return std::unexpected(stream_.problem(node.start, std::move(message)));
  }

  // Some readers take the first of two, some the last, Kubernetes neither.
  Done no_key_twice(const Node& node) const {
    std::set<std::string_view> keys;
    for (const auto& [key, value, start, end] : node.children) {
      if (key != nullptr && key->kind == NodeKind::scalar && !keys.insert(key->text).second) {
        return std::unexpected(stream_.problem(
            start, fmt::format("the key {} is here twice", config::quoted(key->text))));
      }
      if (auto done = no_key_twice(*value); !done) return done;
    }
    return {};
  }

  // Injection finds containers by their names, as Kubernetes does.
  Done named(const Node& spec) const {
    std::set<std::string_view> names;
    for (const auto* list : {"initContainers", "containers"}) {
      const auto* containers = value_of(spec, list);
      if (containers == nullptr) continue;
      for (const auto& item : containers->children) {
        const auto name = text_of(value_of(*item.value, "name"));
        if (name.empty() || !names.insert(name).second) {
          return std::unexpected(stream_.problem(
              item.start, name.empty() ? std::string("a container without a name")
                                       : fmt::format("another container is named {} already",
                                                     config::quoted(name))));
        }
      }
    }
    return {};
  }

  // A map that must be there, and be written out, because it is edited.
  std::expected<const Node*, Problem> required(const Node& map, std::string_view key,
                                               std::string_view path) const {
    const auto child = find_own(stream_, map, key);
    if (!child) return std::unexpected(child.error());
    if (*child == nullptr) {
      return std::unexpected(stream_.problem(map.start, fmt::format("{} is missing", path)));
    }
    const auto& value = *(*child)->value;
    if (value.kind == NodeKind::map) return &value;
    const auto* what = value.kind == NodeKind::alias ? "is an alias, and only what is written out "
                                                       "can be injected"
                                                     : "is not a map";
    return std::unexpected(stream_.problem(value.start, fmt::format("{} {}", path, what)));
  }

  Done workload(const Node& node, std::string kind) {
    Workload out;
    out.kind = std::move(kind);
    if (const auto* metadata = value_of(node, "metadata")) {
      out.name = text_of(value_of(*metadata, "name"));
      if (out.name.empty()) {
        out.name = text_of(value_of(*metadata, "generateName"));
        if (out.name.ends_with('-')) out.name.pop_back();
      }
      out.namespace_name = text_of(value_of(*metadata, "namespace"));
    }
    std::vector<std::string_view> way;
    if (out.kind == "CronJob")
      way = {"spec", "jobTemplate", "spec", "template"};
    else if (out.kind != "Pod")
      way = {"spec", "template"};
    const Node* pod = &node;
    std::string path;
    for (const auto step : way) {
      path += path.empty() ? "" : ".";
      path += step;
      const auto next = required(*pod, step, path);
      if (!next) return std::unexpected(next.error());
      pod = *next;
    }
    out.pod = pod;
    path += path.empty() ? "spec" : ".spec";
    const auto spec = required(*pod, "spec", path);
    if (!spec) return std::unexpected(spec.error());
    out.spec = *spec;
    const auto containers = find_own(stream_, **spec, "containers");
    if (!containers) return std::unexpected(containers.error());
    if (*containers == nullptr || resolved(*(*containers)->value).kind != NodeKind::list ||
        resolved(*(*containers)->value).children.empty()) {
      return wrong(*containers == nullptr ? **spec : *(*containers)->value,
                   fmt::format("{}.containers is missing, or not a list of containers", path));
    }
    if ((*containers)->value->kind == NodeKind::alias) {
      return wrong(*(*containers)->value,
                   fmt::format("{}.containers is an alias, and only what is written out can be "
                               "injected",
                               path));
    }
    if (auto done = named(**spec); !done) return done;
    if (const auto* metadata = value_of(*pod, "metadata")) {
      out.labels = labels_of(value_of(*metadata, "labels"));
      out.annotations = labels_of(value_of(*metadata, "annotations"));
    }
    const bool twice = std::any_of(out_.workloads.begin(), out_.workloads.end(),
                                   [&](const Workload& other) { return other.pod == out.pod; });
    if (!twice) out_.workloads.push_back(std::move(out));
    return {};
  }

  void service(const Node& node) {
    const auto* metadata = value_of(node, "metadata");
    const auto* spec = value_of(node, "spec");
    if (metadata == nullptr || spec == nullptr) return;
    Service out;
    out.name = text_of(value_of(*metadata, "name"));
    out.namespace_name = text_of(value_of(*metadata, "namespace"));
    const auto address = text_of(value_of(*spec, "clusterIP"));
    if (address != "None") out.address = address;
    out.selector = labels_of(value_of(*spec, "selector"));
    const auto* ports = value_of(*spec, "ports");
    if (out.name.empty() || out.selector.empty() || ports == nullptr) return;
    for (const auto& item : ports->children) {
      const auto& port = resolved(*item.value);
      const auto protocol = text_of(value_of(port, "protocol"));
      if (!protocol.empty() && protocol != "TCP") continue;
      ServicePort one;
      one.protocol = text_of(value_of(port, "appProtocol"));
      if (one.protocol.empty()) {
        const auto name = text_of(value_of(port, "name"));
        one.protocol = name.substr(0, name.find('-'));
      }
      const auto number = text_of(value_of(port, "port"));
      std::from_chars(number.data(), number.data() + number.size(), one.port);
      if (one.port > 0 && one.port <= 65535) out.ports.push_back(std::move(one));
    }
    out_.services.push_back(std::move(out));
  }

  const Stream& stream_;
  Objects& out_;
};

void collect_labels(const Node& map, Labels& out, std::set<const Node*>& seen) {
  if (!seen.insert(&map).second) return;
  for (const auto& child : map.children) {
    if (child.key == nullptr || child.key->kind != NodeKind::scalar) continue;
    const auto& value = resolved(*child.value);
    if (value.kind == NodeKind::scalar) out.emplace(child.key->text, value.text);
  }
  for (const auto* other : merged(map)) collect_labels(*other, out, seen);
}

}  // namespace

std::string Workload::owner() const {
  const auto* known = find_kind(kind);
  if (known == nullptr) return {};
  return fmt::format("kubernetes://apis/{}/namespaces/{}/{}/{}", known->api,
                     namespace_name.empty() ? "$(POD_NAMESPACE)" : namespace_name, known->plural,
                     name);
}

std::string Workload::service_account() const {
  for (const auto* key : {"serviceAccountName", "serviceAccount"}) {
    const auto account = text_of(value_of(*spec, key));
    if (!account.empty()) return std::string(account);
  }
  return "default";
}

std::expected<Objects, Problem> find_objects(const Stream& stream) {
  Objects out;
  Finder finder(stream, out);
  for (const auto* document : stream.documents()) {
    if (auto done = finder.object(*document, 0); !done) return std::unexpected(done.error());
  }
  return out;
}

std::expected<const Child*, Problem> find_own(const Stream& stream, const Node& map,
                                              std::string_view key) {
  if (const auto* child = find(map, key)) return child;
  if (find_merged(map, key) == nullptr) return nullptr;
  return std::unexpected(stream.problem(
      find(map, "<<")->start,
      fmt::format("{} comes in by a merge key (<<), and only what is written out can be injected",
                  config::quoted(key))));
}

const Node* find_merged(const Node& map, std::string_view key) {
  std::set<const Node*> seen;
  return find_merged(resolved(map), key, seen);
}

Labels labels_of(const Node* map) {
  Labels out;
  std::set<const Node*> seen;
  if (map != nullptr) collect_labels(*map, out, seen);
  return out;
}

}  // namespace proxy::inject
