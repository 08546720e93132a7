// Text into fields and fields into text, by the kind and bounds of their key.
// Not the table itself (keys.cc), nor the syntax of single values (values.cc).
#include <algorithm>
#include <expected>
#include <type_traits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "proxy/config/diagnostics.h"
#include "proxy/config/keys.h"
#include "proxy/config/values.h"

namespace proxy::config {
namespace {

using Problem = std::optional<std::string>;

constexpr std::string_view kListenForms =
    "ADDRESS:PORT such as \":8000\" (127.0.0.1 and ::1), \"*:8000\" (all addresses), "
    "\"10.0.0.1:8000\", \"[::1]:8000\"";
constexpr std::string_view kEndpointForms =
    "HOST:PORT such as \"127.0.0.1:9898\", \"[::1]:9898\", \"backend.local:80\"";

Problem refuse(const Key& key, std::string_view text, std::string_view why = {}) {
  if (why.empty()) return fmt::format("found {}; allowed: {}", quoted(text), allowed(key));
  const auto* stop = why.ends_with('?') ? "" : ";";
  return fmt::format("found {}: {}{} allowed: {}", quoted(text), why, stop, allowed(key));
}

// Seen often enough to deserve more than "not a duration".
std::string_view unit_hint(std::string_view text) {
  return parse_count(text) ? "the unit is missing" : "";
}

Problem in_bounds(const Key& key, std::uint64_t value, std::string_view text) {
  if (value == 0 && key.traits.zero_is_off) return std::nullopt;
  if (value < key.traits.min || value > key.traits.max) return refuse(key, text);
  return std::nullopt;
}

Problem assign_number(const Key& key, Slot slot, std::string_view text) {
  std::optional<std::uint64_t> value;
  std::string_view hint;
  if (key.kind == Kind::count) {
    value = parse_count(text);
  } else if (key.kind == Kind::size) {
    value = parse_size(text);
    hint = unit_hint(text);
  } else if (const auto duration = parse_duration(text)) {
    value = static_cast<std::uint64_t>(duration->count());
  } else {
    hint = unit_hint(text);
  }
  if (!value) return refuse(key, text, hint);
  if (auto problem = in_bounds(key, *value, text)) return problem;
  std::visit(
      [&](auto field) {
        using Field = std::remove_pointer_t<decltype(field)>;
        if constexpr (std::is_same_v<Field, Milliseconds>) {
          *field = Milliseconds{static_cast<std::int64_t>(*value)};
        } else if constexpr (std::is_unsigned_v<Field> && !std::is_same_v<Field, bool>) {
          *field = static_cast<Field>(*value);
        }
      },
      slot);
  return std::nullopt;
}

Problem assign_text(const Key& key, std::string& field, std::string_view text) {
  if (!is_plain_text(text)) {
    return refuse(key, text, "it holds control characters or invalid UTF-8");
  }
  if (text.size() < key.traits.min || text.size() > key.traits.max) return refuse(key, text);
  field = text;
  return std::nullopt;
}

Problem assign_choice(const Key& key, ChoiceSlot slot, std::string_view text) {
  const auto choices = choices_of(key);
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found == choices.end()) {
    const auto near = nearest_word(text, choices);
    if (near.empty()) return refuse(key, text);
    return refuse(key, text, fmt::format("did you mean \"{}\"?", near));
  }
  *slot.index = static_cast<unsigned char>(found - choices.begin());
  return std::nullopt;
}

template <class T, class Parsed>
Problem store(const Key& key, T& field, Parsed parsed, std::string_view text) {
  if (!parsed) return refuse(key, text, parsed.error());
  field = std::move(*parsed);
  return std::nullopt;
}

template <class T, class Parsed>
Problem push(const Key& key, std::vector<T>& field, Parsed parsed, std::string_view text) {
  if (!parsed) return refuse(key, text, parsed.error());
  field.push_back(std::move(*parsed));
  return std::nullopt;
}

std::string number_range(const Key& key, std::string_view what, auto&& show) {
  const auto* off = key.traits.zero_is_off ? ", or 0 for off" : "";
  return fmt::format("{} from {} to {}{}", what, show(key.traits.min), show(key.traits.max), off);
}

std::string duration_of_ms(std::uint64_t ms) {
  return duration_text(Milliseconds{static_cast<std::int64_t>(ms)});
}

}  // namespace

std::string allowed(const Key& key) {
  switch (key.kind) {
    case Kind::text:
      return fmt::format("text of {} to {} bytes", key.traits.min, key.traits.max);
    case Kind::path:
      return "the path of a file";
    case Kind::boolean:
      return "true, false";
    case Kind::choice:
      return fmt::format("{}", fmt::join(choices_of(key), ", "));
    case Kind::count:
      return number_range(key, "a whole number", [](std::uint64_t v) { return v; });
    case Kind::size:
      return number_range(key, "a size with a unit (B, KiB, MiB, KB, MB)", size_text);
    case Kind::duration:
      return number_range(key, "a duration with a unit (ms, s, m, h)", duration_of_ms);
    case Kind::listen:
      return std::string(kListenForms);
    case Kind::endpoint:
      return std::string(kEndpointForms);
    case Kind::texts:
      return fmt::format("a list of {} to {} texts", key.traits.min, key.traits.max);
    case Kind::hosts:
      return fmt::format("a list of {} to {} host names, or *.suffix", key.traits.min,
                         key.traits.max);
    case Kind::endpoints:
      return fmt::format("a list of {} to {} of {}", key.traits.min, key.traits.max,
                         kEndpointForms);
    case Kind::networks:
      return fmt::format("a list of {} to {} IP addresses, or CIDRs such as \"10.0.0.0/8\"",
                         key.traits.min, key.traits.max);
    case Kind::name_servers:
      return fmt::format(
          "a list of {} to {} IP addresses, with a port or without, such as \"10.0.0.10:53\"",
          key.traits.min, key.traits.max);
    case Kind::ports:
      return fmt::format("a list of at most {} maps with the keys {}", key.traits.max,
                         fmt::join(names_in("inbound.ports[]"), ", "));
    case Kind::text_map:
      return fmt::format("a map of at most {} names to texts", key.traits.max);
    case Kind::services:
      return fmt::format("a list of at most {} maps with the keys {}", key.traits.max,
                         fmt::join(names_in("outbound.services[]"), ", "));
    case Kind::rules:
      break;
  }
  return fmt::format("a list of at most {} principals, or maps with the keys {}", key.traits.max,
                     fmt::join(names_in("mtls.allow[]"), ", "));
}

Problem assign(const Key& key, Slot slot, std::string_view text) {
  if (auto* const* field = std::get_if<std::string*>(&slot)) return assign_text(key, **field, text);
  if (const auto* choice = std::get_if<ChoiceSlot>(&slot)) return assign_choice(key, *choice, text);
  if (auto* const* field = std::get_if<bool*>(&slot)) {
    const auto value = parse_boolean(text);
    if (!value) return refuse(key, text);
    **field = *value;
    return std::nullopt;
  }
  if (auto* const* field = std::get_if<ListenAddress*>(&slot)) {
    return store(key, **field, parse_listen(text), text);
  }
  if (auto* const* field = std::get_if<Endpoint*>(&slot)) {
    return store(key, **field, parse_endpoint(text), text);
  }
  return assign_number(key, slot, text);
}

Problem append(const Key& key, Slot slot, std::string_view text) {
  if (auto* const* field = std::get_if<std::vector<Endpoint>*>(&slot)) {
    return push(key, **field, parse_endpoint(text), text);
  }
  if (auto* const* field = std::get_if<std::vector<std::string>*>(&slot)) {
    if (key.kind == Kind::hosts) return push(key, **field, parse_host_pattern(text), text);
    if (key.kind == Kind::networks) return push(key, **field, parse_network(text), text);
    if (key.kind == Kind::name_servers) return push(key, **field, parse_name_server(text), text);
    if (!is_plain_text(text) || text.empty() || text.size() > 2048) {
      return fmt::format("found {}; allowed: text of 1 to 2048 bytes", quoted(text));
    }
    (*field)->emplace_back(text);
  }
  return std::nullopt;
}

std::string text_of(const Key& key, Slot slot) {
  return std::visit(
      [&](auto field) -> std::string {
        using Field = decltype(field);
        if constexpr (std::is_same_v<Field, std::string*>) {
          return *field;
        } else if constexpr (std::is_same_v<Field, bool*>) {
          return *field ? "true" : "false";
        } else if constexpr (std::is_same_v<Field, ChoiceSlot>) {
          return std::string(choices_of(key).at(*field.index));
        } else if constexpr (std::is_same_v<Field, Milliseconds*>) {
          return duration_text(*field);
        } else if constexpr (std::is_same_v<Field, ListenAddress*> ||
                             std::is_same_v<Field, Endpoint*>) {
          return field->text;
        } else if constexpr (std::is_integral_v<std::remove_pointer_t<Field>>) {
          return key.kind == Kind::size ? size_text(*field) : fmt::format("{}", *field);
        } else {
          return {};
        }
      },
      slot);
}

}  // namespace proxy::config
