// Writes the table of keys as a Markdown table.
// Not the words: those are in keys.cc.
#include "proxy/config/reference.h"

#include <string>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proxy/config/keys.h"

namespace proxy::config {
namespace {

std::string in_code(std::string_view text) {
  return fmt::format("`{}`", text);
}

std::string default_of(const Key& key, Config& config, Service& service, AllowRule& rule,
                       InboundPort& port) {
  if (!key.traits.default_note.empty()) return std::string(key.traits.default_note);
  if (!is_scalar(key.kind)) return key.traits.min > 0 ? "required" : "none";
  Object object = &config;
  if (key.path.starts_with("outbound.services[]")) object = &service;
  if (key.path.starts_with("mtls.allow[]")) object = &rule;
  if (key.path.starts_with("inbound.ports[]")) object = &port;
  const auto text = text_of(key, slot_of(key, object));
  if (text.empty()) return key.traits.min > 0 ? "required" : "none";
  return text == "0" && key.traits.zero_is_off ? "`0` (off)" : in_code(text);
}

// Shorter than the phrase of a diagnostic: the forms stand once below the table.
std::string values_of(const Key& key) {
  switch (key.kind) {
    case Kind::choice: {
      std::string out;
      for (const auto choice : choices_of(key)) {
        out += (out.empty() ? "" : ", ") + in_code(choice);
      }
      return out;
    }
    case Kind::boolean:
      return "`true`, `false`";
    case Kind::listen:
      return "listen address";
    case Kind::endpoint:
      return "endpoint";
    case Kind::endpoints:
      return fmt::format("list of {} to {} endpoints", key.traits.min, key.traits.max);
    case Kind::services:
    case Kind::ports:
      return fmt::format("list of at most {} maps, keys below", key.traits.max);
    case Kind::rules:
      return fmt::format("list of at most {}", key.traits.max);
    case Kind::duration:
    case Kind::size: {
      // "a duration with a unit (ms, s, m, h) from ...": the units stand below as well.
      const auto phrase = allowed(key);
      const auto open = phrase.find(" with a unit");
      return phrase.substr(2, open - 2) + phrase.substr(phrase.find(')') + 1);
    }
    default:
      return allowed(key);
  }
}

constexpr std::string_view kForms =
    "\n"
    "- A **listen address** is `:8000` (127.0.0.1 and ::1), `*:8000` (all addresses),\n"
    "  `10.0.0.1:8000` or `[::1]:8000`. In YAML, put those that begin with `*` or `[` in quotes.\n"
    "- An **endpoint** is `127.0.0.1:9898`, `[::1]:9898` or `backend.local:80`. A name's\n"
    "  addresses are followed by DNS, each of them an endpoint: IPv4 ones, and where it has none\n"
    "  IPv6.\n"
    "- **Durations** need a unit: `ms`, `s`, `m` or `h`; **sizes** too: `B`, `KiB`, `MiB`, `KB`\n"
    "  or `MB`. Only `0` needs none.\n"
    "- A key marked * keeps its value until a restart; a reload that changes it is refused.\n"
    "- Every key outside lists and maps has a flag, its path with dashes (`--stats-listen`), and\n"
    "  an environment variable (`HOPLITE_STATS_LISTEN`). A flag outweighs the environment, the\n"
    "  environment the file, the file the default. `--from` and `--to` are short for\n"
    "  `--inbound-listen` and `--inbound-app`.\n";

}  // namespace

std::string config_reference_markdown() {
  auto config = default_config();
  Service service;
  AllowRule rule;
  InboundPort port;
  std::string out = "| key | default | values | meaning |\n|---|---|---|---|\n";
  for (const auto& key : keys()) {
    out += fmt::format("| `{}`{} | {} | {} | {} |\n", key.path, key.traits.reloadable ? "" : " *",
                       default_of(key, config, service, rule, port), values_of(key), key.help);
  }
  out += kForms;
  return out;
}

}  // namespace proxy::config
