// The handler's entry alone is replaced; periods and thresholds stay as they are written.
#include "proxy/inject/probes.h"

#include <array>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"

namespace proxy::inject {
namespace {

constexpr int kAgentPort = 15020;
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kProbes{
    {{"livenessProbe", "livez"}, {"readinessProbe", "readyz"}, {"startupProbe", "startupz"}}};
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

class Rewriter {
 public:
  explicit Rewriter(PodEditor& pod) : pod_(pod) {}

  Done container(std::string_view list, const Node& given) {
    if (given.kind == NodeKind::alias) return {};  // the one it stands for is done once
    const auto* name = inner(given, "name");
    const auto base = pointer(pointer("/spec", list), text_of(name));
    for (const auto& [key, path] : kProbes) {
      const auto entry = find_own(pod_.stream(), given, key);
      if (!entry) return std::unexpected(entry.error());
      if (*entry == nullptr) continue;
      const auto url = fmt::format("/app-health/{}/{}", text_of(name), path);
      if (auto done = probe(base, given, **entry, url); !done) return done;
    }
    return {};
  }

  Map take() { return std::move(originals_); }

 private:
  Done probe(const std::string& base, const Node& container, const Child& entry,
             const std::string& url) {
    const auto& value = *entry.value;
    if (value.kind == NodeKind::alias) {
      if (seen_.contains(value.target)) return {};  // it follows the one that was rewritten
      return std::unexpected(pod_.stream().problem(
          value.start,
          "this probe is an alias of something that is no probe above; write it out, "
          "or set the annotation sidecar.istio.io/rewriteAppHTTPProbers: \"false\""));
    }
    if (value.kind != NodeKind::map) return {};
    for (const auto key : kHandlers) {
      const auto handler = find_own(pod_.stream(), value, key);
      if (!handler) return std::unexpected(handler.error());
      if (*handler == nullptr || !is_here(resolved(*(*handler)->value))) continue;
      auto original = describe(key, container, resolved(*(*handler)->value));
      if (!original) return std::unexpected(original.error());
      if (const auto* anchor = needed_anchor(*(*handler)->value)) {
        return std::unexpected(pod_.stream().problem(
            anchor->start,
            "an alias elsewhere needs this anchor, and injection would rewrite the "
            "probe it is in; write it out there"));
      }
      Map all{{std::string(key), std::move(*original)}};
      const auto* timeout = inner(value, "timeoutSeconds");
      all.emplace_back("timeoutSeconds", number_in(text_of(timeout)).value_or(1));
      originals_.emplace_back(url, std::move(all));
      seen_.insert(&value);
      pod_.replace(pointer(base, entry.key->text), value, **handler, "httpGet",
                   Map{{"path", url}, {"port", kAgentPort}});
    }
    return {};
  }

  // A probe of another host does not pass by here.
  static bool is_here(const Node& handler) {
    return handler.kind == NodeKind::map && text_of(inner(handler, "host")).empty();
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
        fmt::format("the probe's port {} is no port of this container", config::quoted(text))));
  }

  PodEditor& pod_;
  Map originals_;
  std::set<const Node*> seen_;
};

}  // namespace

std::expected<Map, Problem> rewrite_probes(PodEditor& pod) {
  Rewriter rewriter(pod);
  for (const auto* list : {"initContainers", "containers"}) {
    const auto* containers = find(*pod.workload().spec, list);
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
