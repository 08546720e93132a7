// Merges the sources in the order of their precedence and runs all checks on the result.
// Not the checks (parse.cc, validate.cc).
#include "proxy/config/sources.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <expected>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "proxy/config/credentials.h"
#include "proxy/config/keys.h"
#include "proxy/config/parse.h"
#include "proxy/config/validate.h"

namespace proxy::config {
namespace {

constexpr std::string_view kPrefix = "HOPLITE_";

std::string system_text(int error) {
  return std::generic_category().message(error);
}

// One byte more than allowed at most, so that parse() can tell. Pipes are welcome (-c /dev/stdin).
std::expected<std::string, std::string> read_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::unexpected("cannot be opened: " + system_text(errno));
  std::string text;
  std::array<char, 16384> block{};
  int error = 0;
  while (text.size() <= kMaxFileBytes) {
    const auto count = ::read(file, block.data(), block.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) error = errno;
    if (count <= 0) break;
    text.append(block.data(), static_cast<std::size_t>(count));
  }
  ::close(file);
  if (error != 0) return std::unexpected("cannot be read: " + system_text(error));
  return text;
}

// Kubernetes gives every pod HOPLITE_SERVICE_HOST, HOPLITE_PORT_80_TCP... for a Service "hoplite".
bool is_service_link(std::string_view name) {
  name.remove_prefix(kPrefix.size());
  return name == "PORT" || name.starts_with("PORT_") || name.starts_with("SERVICE_");
}

void warn_of_unknown(const std::string& name, Diagnostics& diagnostics) {
  std::vector<std::string> names;
  for (const auto& key : keys()) {
    if (has_flag(key)) names.push_back(variable_name(key).substr(kPrefix.size()));
  }
  const std::vector<std::string_view> candidates(names.begin(), names.end());
  const auto near = nearest_word(std::string_view(name).substr(kPrefix.size()), candidates);
  std::string message = "unknown variable, ignored";
  if (!near.empty()) message += fmt::format("; did you mean {}{}?", kPrefix, near);
  diagnostics.push_back(
      {Severity::warning, {Source::environment, name, 0, 0}, {}, std::move(message)});
}

class Merger {
 public:
  explicit Merger(Loaded& out) : out_(out) {}

  void file(const std::string& path) {
    auto text = read_file(path);
    if (text) {
      parse(*text, path, out_.config, out_.origins, out_.diagnostics);
      out_.origins.set("", {Source::file, path, 0, 0});
    } else {
      out_.diagnostics.push_back(
          {Severity::error, {Source::file, path, 0, 0}, {}, std::move(text.error())});
    }
  }

  void text(const std::string& text, const std::string& name) {
    parse(text, name, out_.config, out_.origins, out_.diagnostics);
  }

  void environment(const Environment& environment) {
    for (const auto& [name, text] : environment) {
      if (!name.starts_with(kPrefix) || is_service_link(name)) continue;
      const auto* key = key_of_variable(name);
      if (key == nullptr) {
        warn_of_unknown(name, out_.diagnostics);
      } else if (!text.empty()) {  // empty is how many tools spell "not set"
        set(*key, text, {Source::environment, name, 0, 0});
      }
    }
  }

  void flags(const FlagValues& flags) {
    for (const auto& [path, value] : flags) {
      const auto* key = find_key(path);
      if (key != nullptr && has_flag(*key)) {
        set(*key, value.text, {Source::flag, value.flag, 0, 0});
      }
    }
  }

 private:
  static const Key* key_of_variable(std::string_view name) {
    for (const auto& key : keys()) {
      if (has_flag(key) && variable_name(key) == name) return &key;
    }
    return nullptr;
  }

  void set(const Key& key, std::string_view text, Origin origin) {
    if (auto problem = assign(key, slot_of(key, &out_.config), text)) {
      out_.diagnostics.push_back(
          {Severity::error, origin, std::string(key.path), std::move(*problem)});
    }
    out_.origins.set(key.path, std::move(origin));
  }

  Loaded& out_;
};

void follow(Origins& origins, std::string_view path, std::string_view from) {
  origins.set(path, {Source::derived, std::string(from), 0, 0});
}

void complete_workload(Workload& workload, Origins& origins) {
  if (workload.canonical_service.empty()) {
    const bool by_app = !workload.app.empty();
    workload.canonical_service = by_app ? workload.app : workload.name;
    if (!workload.canonical_service.empty()) {
      follow(origins, "workload.canonical_service", by_app ? "workload.app" : "workload.name");
    }
  }
  if (workload.canonical_revision.empty()) {
    workload.canonical_revision = workload.version.empty() ? "latest" : workload.version;
    if (!workload.version.empty()) {
      follow(origins, "workload.canonical_revision", "workload.version");
    }
  }
}

// The defaults that follow from other keys.
void complete(Config& config, Origins& origins) {
  complete_workload(config.workload, origins);
  for (std::size_t i = 0; i < config.outbound.services.size(); ++i) {
    auto& service = config.outbound.services[i];
    const auto path = fmt::format("outbound.services[{}].", i);
    if (service.name.empty() && !service.hosts.empty()) {
      const auto& host = service.hosts.front();
      const bool whole =
          host.starts_with("*.") || host.find_first_not_of("0123456789.[]:") == std::string::npos;
      service.name = whole ? host : host.substr(0, host.find('.'));
      follow(origins, path + "name", path + "hosts");
    }
    if (!origins.has(path + "tls.mode") && !config.mtls.cert.empty()) {
      service.tls.mode = ServiceTlsMode::mutual;
      follow(origins, path + "tls.mode", "mtls.cert");
    }
  }
  for (std::size_t i = 0; i < config.mtls.allow.size(); ++i) {
    auto& rule = config.mtls.allow[i];
    if (!rule.name.empty()) continue;
    rule.name = rule.principal.substr(0, 256);
    follow(origins, fmt::format("mtls.allow[{}].name", i), "the principal");
  }
}

}  // namespace

Loaded load(const LoadRequest& request) {
  Loaded out;
  out.config = default_config();
  Merger merger(out);
  if (request.file) merger.file(*request.file);
  if (request.text) merger.text(*request.text, request.text_name);
  merger.environment(request.environment);
  merger.flags(request.flags);
  complete(out.config, out.origins);
  validate(out.config, out.origins, out.diagnostics);
  if (request.touch_system) {
    check_credentials(out.config, out.origins, out.diagnostics);
  }
  sort_by_place(out.diagnostics);
  return out;
}

Environment environment_from(const char* const* variables) {
  Environment out;
  for (; variables != nullptr && *variables != nullptr; ++variables) {
    const std::string_view entry = *variables;
    const auto equals = entry.find('=');
    if (!entry.starts_with(kPrefix) || equals == std::string_view::npos) continue;
    out.emplace(entry.substr(0, equals), entry.substr(equals + 1));
  }
  return out;
}

}  // namespace proxy::config
