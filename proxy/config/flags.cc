// Declares the flags from the table of keys.
// Not what a value means (assign.cc): a flag's text is taken as it stands.
#include "proxy/config/flags.h"

#include <string>

#include "proxy/config/keys.h"

namespace proxy::config {
namespace {

constexpr std::string_view kGroup = "Configuration keys";

// Help texts are Markdown for the reference; a terminal shows them without the backticks.
std::string plain(std::string_view help) {
  std::string out;
  for (const char c : help) {
    if (c != '`') out += c;
  }
  return out;
}

CLI::Option* add(CLI::App& app, FlagValues& values, const Key& key, const std::string& name) {
  const auto keep = [&values, name, path = std::string(key.path)](const std::string& text) {
    values.insert_or_assign(path, FlagValue{name, text});
  };
  auto help = plain(key.help);
  if (key.kind == Kind::choice) help += " One of: " + allowed(key) + ".";
  auto* option = app.add_option_function<std::string>(name, keep, help)
                     ->group(std::string(kGroup))
                     ->type_name(key.kind == Kind::boolean ? "true|false" : "VALUE");
  return option;
}

}  // namespace

void register_flags(CLI::App& app, FlagValues& values) {
  const auto* listen = find_key("inbound.listen");
  const auto* to = find_key("inbound.app");
  auto* short_listen = add(app, values, *listen, "--from")->group("Options");
  auto* short_to = add(app, values, *to, "--to")->group("Options");
  for (const auto& key : keys()) {
    if (!has_flag(key)) continue;
    auto* option = add(app, values, key, flag_name(key));
    if (&key == listen) option->excludes(short_listen);
    if (&key == to) option->excludes(short_to);
  }
}

}  // namespace proxy::config
