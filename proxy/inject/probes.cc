// The handler's entry alone is replaced; periods and thresholds stay as they are written.
#include "proxy/inject/probes.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"

namespace proxy::inject {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kProbes{
    {{"livenessProbe", "livez"}, {"readinessProbe", "readyz"}, {"startupProbe", "startupz"}}};
constexpr std::array<std::pair<std::string_view, std::string_view>, 2> kHooks{
    {{"postStart", "poststartz"}, {"preStop", "prestopz"}}};
constexpr std::array<std::tuple<std::string_view>, 2> kLists{{{"initContainers"}, {"containers"}}};
constexpr std::array<std::string_view, 3> kHandlers{"httpGet", "tcpSocket", "grpc"};

std::optional<int> number_in(std::string_view text) {
  int out = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, out);
  if (error != std::errc() || rest != end) return std::nullopt;
  return out;
}

const Node* inner(const Node& map, std::string_view key) {
  const auto* child = find(map, key);
  return child == nullptr ? nullptr : &resolved(*child->value);
}

// An anchor in here that an alias elsewhere needs.
const Node* needed_anchor(const Node& node) {
  if (node.referenced) return &node;
  for (const auto& child : node.children) {
    if (child.key != nullptr && child.key->referenced) return child.key;
    if (const auto* found = needed_anchor(*child.value)) return found;
  }
  return nullptr;
}

// A call of another host does not pass by here.
bool is_here(const Node& handler) {
  return handler.kind == NodeKind::map && text_of(inner(handler, "host")).empty();
}

// Is there something to rewrite in this probe, hook or lifecycle?
bool has_handler(const Node& node) {
  const auto there = [&](std::string_view key) {
    const auto* handler = inner(node, key);
    return handler != nullptr && is_here(*handler);
  };
  const auto hooked = [&](const auto& hook) {
    const auto* handlers = inner(node, hook.first);
    return handlers != nullptr && has_handler(*handlers);
  };
  return std::any_of(kHandlers.begin(), kHandlers.end(), there) ||
         std::any_of(kHooks.begin(), kHooks.end(), hooked);
}

// As they stand in the text, where an anchor comes before its aliases.
template <class Keys>
Keys in_order(const Node& map, Keys keys) {
  const auto place = [&](const auto& one) {
    const auto* child = find(map, std::get<0>(one));
    return child == nullptr ? std::size_t{0} : child->start;
  };
  std::sort(keys.begin(), keys.end(),
            [&](const auto& a, const auto& b) { return place(a) < place(b); });
  return keys;
}

class Rewriter {
 public:
  Rewriter(PodEditor& pod, const Settings& settings) : pod_(pod), settings_(settings) {}

  Done container(std::string_view list, const Node& given) {
    if (given.kind == NodeKind::alias) return {};  // the one it stands for is done once
    const std::string name(text_of(inner(given, "name")));
    const auto base = pointer(pointer("/spec", list), name);
    // Without these the containers behind do not start, an ordinary sidecar among them.
    const bool before_sidecar = settings_.classic && list == "initContainers";
    for (const auto& [key, path] : in_order(given, kProbes)) {
      if (before_sidecar && key == "startupProbe") continue;
      const auto entry = own(given, key);
      if (!entry) return std::unexpected(entry.error());
      if (*entry == nullptr) continue;
      const auto url = fmt::format("/app-health/{}/{}", name, path);
      if (auto done = rewrite(base, given, **entry, url); !done) return done;
    }
    return lifecycle(given, base, name, before_sidecar);
  }

  Probes take() { return std::move(out_); }

 private:
  Done lifecycle(const Node& container, const std::string& base, const std::string& name,
                 bool before_sidecar) {
    const auto hooks = own(container, "lifecycle");
    if (!hooks) return std::unexpected(hooks.error());
    if (*hooks == nullptr || is_done(*(*hooks)->value)) return {};
    const auto& value = *(*hooks)->value;
    if (auto done = not_an_alias(value); !done) return done;
    for (const auto& [key, path] : in_order(value, kHooks)) {
      if (before_sidecar && key == "postStart") continue;
      const auto entry = own(value, key);
      if (!entry) return std::unexpected(entry.error());
      if (*entry == nullptr) continue;
      const auto url = fmt::format("/app-lifecycle/{}/{}", name, path);
      if (auto done = rewrite(pointer(base, "lifecycle"), container, **entry, url); !done) {
        return done;
      }
    }
    seen_.insert(&value);
    return {};
  }

  // The entry with something to rewrite; null when there is none. One that comes by a merge key is
  // a Problem.
  std::expected<const Child*, Problem> own(const Node& map, std::string_view key) const {
    const auto* child = find(map, key);
    const auto* value = child == nullptr ? find_merged(map, key) : child->value;
    if (value == nullptr || !has_handler(resolved(*value))) return nullptr;
    return find_own(pod_.stream(), map, key);
  }

  // It follows the one that was rewritten.
  bool is_done(const Node& value) const {
    return value.kind == NodeKind::alias && seen_.contains(value.target);
  }

  Done not_an_alias(const Node& value) const {
    if (value.kind != NodeKind::alias) return {};
    return std::unexpected(pod_.stream().problem(
        value.start,
        "this is an alias of something that is no probe or hook above; write it out, "
        "or set the annotation sidecar.istio.io/rewriteAppHTTPProbers: \"false\""));
  }

  Done rewrite(const std::string& base, const Node& container, const Child& entry,
               const std::string& url) {
    const auto& value = *entry.value;
    if (is_done(value)) return {};
    if (auto done = not_an_alias(value); !done) return done;
    const bool hook = url.starts_with("/app-lifecycle/");
    for (const auto key : kHandlers) {
      if (hook && key == "grpc") continue;
      const auto handler = own_handler(value, key);
      if (!handler) return std::unexpected(handler.error());
      if (*handler == nullptr) continue;
      const auto& given = resolved(*(*handler)->value);
      if (hook && text_of(inner(given, "scheme")) == "HTTPS") {
        out_.warnings.push_back(fmt::format(
            "{}: the hook's scheme is HTTPS, so kubelet calls the app itself; except its port by "
            "traffic.sidecar.istio.io/excludeInboundPorts",
            pointer(base, entry.key->text)));
        continue;
      }
      auto original = describe(key, container, given);
      if (!original) return std::unexpected(original.error());
      if (const auto* anchor = needed_anchor(*(*handler)->value)) {
        return std::unexpected(pod_.stream().problem(
            anchor->start,
            "an alias elsewhere needs this anchor, and injection would rewrite the "
            "probe it is in; write it out there"));
      }
      Map all{{std::string(key), std::move(*original)}};
      // Kubelet gives a hook the whole of the pod's grace period.
      if (!hook) {
        const auto* timeout = inner(value, "timeoutSeconds");
        all.emplace_back("timeoutSeconds", number_in(text_of(timeout)).value_or(1));
      }
      out_.originals.emplace_back(url, std::move(all));
      seen_.insert(&value);
      pod_.replace(pointer(base, entry.key->text), value, **handler, "httpGet",
                   Map{{"path", url}, {"port", settings_.status_port}});
    }
    return {};
  }

  std::expected<const Child*, Problem> own_handler(const Node& probe, std::string_view key) const {
    const auto* child = find(probe, key);
    const auto* value = child == nullptr ? find_merged(probe, key) : child->value;
    if (value == nullptr || !is_here(resolved(*value))) return nullptr;
    return find_own(pod_.stream(), probe, key);
  }

  std::expected<Map, Problem> describe(std::string_view kind, const Node& container,
                                       const Node& handler) {
    const auto port = port_of(container, handler);
    if (!port) return std::unexpected(port.error());
    Map out;
    if (kind == "httpGet") {
      const auto path = text_of(inner(handler, "path"));
      out.emplace_back("path", path.empty() ? std::string_view("/") : path);
    }
    out.emplace_back("port", *port);
    if (kind == "grpc") {
      const auto service = text_of(inner(handler, "service"));
      if (!service.empty()) out.emplace_back("service", service);
    }
    if (kind != "httpGet") return out;
    const auto scheme = text_of(inner(handler, "scheme"));
    out.emplace_back("scheme", scheme.empty() ? std::string_view("HTTP") : scheme);
    const auto* headers = inner(handler, "httpHeaders");
    if (headers == nullptr || headers->kind != NodeKind::list) return out;
    List written;
    for (const auto& item : headers->children) {
      const auto& header = resolved(*item.value);
      written.emplace_back(Map{{"name", text_of(inner(header, "name"))},
                               {"value", text_of(inner(header, "value"))}});
    }
    out.emplace_back("httpHeaders", std::move(written));
    return out;
  }

  std::expected<int, Problem> port_of(const Node& container, const Node& handler) {
    const auto* port = inner(handler, "port");
    const auto text = text_of(port);
    if (const auto number = number_in(text)) return *number;
    const auto* ports = inner(container, "ports");
    for (std::size_t i = 0; ports != nullptr && i < ports->children.size(); ++i) {
      const auto& one = resolved(*ports->children[i].value);
      if (text.empty() || text_of(inner(one, "name")) != text) continue;
      if (const auto number = number_in(text_of(inner(one, "containerPort")))) return *number;
    }
    return std::unexpected(pod_.stream().problem(
        port == nullptr ? handler.start : port->start,
        fmt::format("the port {} is no port of this container", config::quoted(text))));
  }

  PodEditor& pod_;
  const Settings& settings_;
  Probes out_;
  std::set<const Node*> seen_;
};

}  // namespace

std::expected<Probes, Problem> rewrite_probes(PodEditor& pod, const Settings& settings) {
  Rewriter rewriter(pod, settings);
  const auto& spec = *pod.workload().spec;
  for (const auto& [list] : in_order(spec, kLists)) {
    const auto* containers = find(spec, list);
    if (containers == nullptr) continue;
    for (const auto& item : resolved(*containers->value).children) {
      if (auto done = rewriter.container(list, *item.value); !done) {
        return std::unexpected(done.error());
      }
    }
  }
  return rewriter.take();
}

}  // namespace proxy::inject
