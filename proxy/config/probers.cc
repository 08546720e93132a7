// JSON is YAML, so yaml-cpp reads it. Its exceptions stay in this file.
#include "proxy/config/probers.h"

#include <algorithm>

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include "proxy/config/values.h"

namespace proxy::config {
namespace {

constexpr std::size_t kMaxProbers = 256;
constexpr long kMaxTimeout = 3600;
constexpr std::string_view kHooks = "/app-lifecycle/";

std::string text_or(const YAML::Node& node, const char* name, const char* otherwise) {
  const YAML::Node found = node[name];
  return found && found.IsScalar() ? found.Scalar() : std::string(otherwise);
}

std::expected<Prober, std::string> read(const std::string& path, const YAML::Node& node) {
  const auto wrong = [&](std::string_view what) {
    return std::unexpected(fmt::format("{}: {}", path, what));
  };
  const bool hook = path.starts_with(kHooks);
  if ((!hook && !path.starts_with("/app-health/")) || !is_plain_text(path)) {
    return wrong("paths begin with /app-health/ or /app-lifecycle/");
  }
  if (!node.IsMap()) return wrong("a probe is a map");
  Prober prober;
  prober.path = path;
  YAML::Node how;
  for (const auto& [name, kind] : {std::pair{"httpGet", ProbeKind::http},
                                   {"tcpSocket", ProbeKind::tcp},
                                   {"grpc", ProbeKind::grpc}}) {
    if (!node[name]) continue;
    how.reset(node[name]);
    prober.kind = kind;
  }
  if (!how.IsMap()) return wrong("one of httpGet, tcpSocket, grpc is missing");
  const auto port = parse_count(text_or(how, "port", ""));
  if (!port || *port == 0 || *port > 65535) return wrong("port is no number from 1 to 65535");
  prober.port = static_cast<std::uint16_t>(*port);
  prober.target = text_or(how, "path", "/");
  if (!prober.target.starts_with('/')) prober.target.insert(0, 1, '/');
  const bool printable = std::all_of(prober.target.begin(), prober.target.end(),
                                     [](char c) { return c > ' ' && c < 0x7f; });
  if (!printable) return wrong("path has characters that no path has");
  prober.host = text_or(how, "host", "");
  prober.https = text_or(how, "scheme", "HTTP") == "HTTPS";
  prober.service = text_or(how, "service", "");
  if (how["httpHeaders"] && how["httpHeaders"].IsSequence()) {
    for (const auto& header : how["httpHeaders"]) {
      std::string name = text_or(header, "name", "");
      std::string value = text_or(header, "value", "");
      if (name.empty() || !is_plain_text(name) || !is_plain_text(value)) {
        return wrong("a header has no name, or control characters");
      }
      if (name == "Host" || name == "host") {
        prober.host = std::move(value);
      } else {
        prober.headers.emplace_back(std::move(name), std::move(value));
      }
    }
  }
  // Kubelet waits for a hook as long as the pod may take to end, and hangs up by itself.
  const long usual = hook ? kMaxTimeout : 1;
  const auto seconds = parse_count(text_or(node, "timeoutSeconds", ""));
  prober.timeout = std::chrono::seconds(
      std::clamp(seconds ? static_cast<long>(*seconds) : usual, 1L, kMaxTimeout));
  return prober;
}

}  // namespace

std::expected<std::vector<Prober>, std::string> parse_probers(std::string_view json) {
  std::vector<Prober> probers;
  if (json.empty()) return probers;
  try {
    const YAML::Node root = YAML::Load(std::string(json));
    if (!root.IsMap() || root.size() > kMaxProbers) {
      return std::unexpected(fmt::format("not a JSON map of at most {} probes", kMaxProbers));
    }
    for (const auto& pair : root) {
      auto prober = read(pair.first.Scalar(), pair.second);
      if (!prober) return std::unexpected(prober.error());
      probers.push_back(std::move(*prober));
    }
  } catch (const YAML::Exception& problem) {
    return std::unexpected(fmt::format("not JSON: {}", problem.msg));
  }
  return probers;
}

}  // namespace proxy::config
