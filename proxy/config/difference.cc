// Compares the keys that the table marks as not reloadable.
// Not a comparison of everything.
#include "proxy/config/difference.h"

#include <string>

#include <fmt/format.h>

#include "proxy/config/keys.h"

namespace proxy::config {

Diagnostics not_reloadable(const Config& running, const Config& wanted,
                           const Origins& wanted_origins) {
  Config before = running;
  Config after = wanted;
  const auto shown = [](const std::string& text) {
    return text.empty() ? std::string("not set") : quoted(text);
  };
  Diagnostics out;
  for (const auto& key : keys()) {
    if (key.traits.reloadable) continue;
    const auto old_text = text_of(key, slot_of(key, &before));
    const auto new_text = text_of(key, slot_of(key, &after));
    if (old_text == new_text) continue;
    out.push_back(
        {Severity::error, wanted_origins.nearest(key.path), std::string(key.path),
         fmt::format("was {}, now {}: this takes a restart", shown(old_text), shown(new_text))});
  }
  return out;
}

}  // namespace proxy::config
