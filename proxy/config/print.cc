// Writes the configuration along the table of keys.
// Not a general YAML writer: text is always in double quotes.
#include "proxy/config/print.h"

#include <string_view>

#include <fmt/format.h>

#include "proxy/config/keys.h"

namespace proxy::config {
namespace {

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string joined(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

class Printer {
 public:
  explicit Printer(const Origins& origins) : origins_(origins) {}

  std::string section(std::string_view table, std::string_view shown, Object object,
                      std::size_t indent) {
    std::string out;
    for (const auto name : names_in(table)) {
      const auto table_path = joined(table, name);
      const auto shown_path = joined(shown, name);
      if (const auto* key = find_key(table_path)) {
        out += value(*key, name, shown_path, object, indent);
      } else {
        out += fmt::format("{:{}}{}:\n", "", indent, name);
        out += section(table_path, shown_path, object, indent + 2);
      }
    }
    return out;
  }

 private:
  std::string line(std::string_view start, std::string_view shown, std::size_t indent) const {
    return fmt::format("{:{}}{}  # {}\n", "", indent, start, origin_text(origins_.of(shown)));
  }

  std::string value(const Key& key, std::string_view name, const std::string& shown, Object object,
                    std::size_t indent) {
    const auto slot = slot_of(key, object);
    if (!is_scalar(key.kind)) {
      const auto items = list(slot, shown, indent + 2);
      const auto* empty = key.kind == Kind::text_map ? " {}" : " []";
      return line(fmt::format("{}:{}", name, items.empty() ? empty : ""), shown, indent) + items;
    }
    auto text = text_of(key, slot);
    if (key.kind == Kind::listen || key.kind == Kind::endpoint) {
      if (text.empty()) return fmt::format("{:{}}# {} is not set\n", "", indent, name);
      text = in_quotes(text);
    } else if (key.kind == Kind::text || key.kind == Kind::path) {
      text = in_quotes(text);
    }
    return line(fmt::format("{}: {}", name, text), shown, indent);
  }

  std::string list(Slot slot, const std::string& shown, std::size_t indent) {
    std::string out;
    const auto each = [&](auto& items, auto write) {
      std::size_t index = 0;
      for (auto& item : items) out += write(item, fmt::format("{}[{}]", shown, index++));
    };
    if (auto* const* texts = std::get_if<std::vector<std::string>*>(&slot)) {
      each(**texts, [&](const std::string& text, const std::string& path) {
        return line("- " + in_quotes(text), path, indent);
      });
    } else if (auto* const* endpoints = std::get_if<std::vector<Endpoint>*>(&slot)) {
      each(**endpoints, [&](const Endpoint& endpoint, const std::string& path) {
        return line("- " + in_quotes(endpoint.text), path, indent);
      });
    } else if (auto* const* map = std::get_if<std::map<std::string, std::string>*>(&slot)) {
      for (const auto& [name, text] : **map) {
        out += line(fmt::format("{}: {}", in_quotes(name), in_quotes(text)),
                    fmt::format("{}.{}", shown, name), indent);
      }
    } else if (auto* const* rules = std::get_if<std::vector<AllowRule>*>(&slot)) {
      each(**rules, [&](AllowRule& rule, const std::string& path) {
        return item("mtls.allow[]", path, &rule, indent);
      });
    } else if (auto* const* services = std::get_if<std::vector<Service>*>(&slot)) {
      each(**services, [&](Service& service, const std::string& path) {
        return item("outbound.services[]", path, &service, indent);
      });
    } else if (auto* const* ports = std::get_if<std::vector<InboundPort>*>(&slot)) {
      each(**ports, [&](InboundPort& port, const std::string& path) {
        return item("inbound.ports[]", path, &port, indent);
      });
    }
    return out;
  }

  // A map as an item: its first line starts with the dash.
  std::string item(std::string_view table, const std::string& shown, Object object,
                   std::size_t indent) {
    auto text = section(table, shown, object, indent + 2);
    text[indent] = '-';
    return text;
  }

  const Origins& origins_;
};

}  // namespace

std::string print(const Config& config, const Origins& origins) {
  Config copy = config;  // the table hands out fields to write; a copy keeps the promise of const
  return Printer(origins).section("", "", &copy, 0);
}

}  // namespace proxy::config
