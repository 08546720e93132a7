// The one table of all configuration keys: path, kind, bounds, help, and the field it sets.
// Parser, flags, environment, suggestions, `check --print` and the reference all follow it.
// Not the reading of files or flags (parse.h, sources.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "proxy/config/schema.h"

namespace proxy::config {

enum class Kind : std::uint8_t {
  // Scalars; outside lists each also has a flag and a variable.
  text,
  path,
  boolean,
  choice,
  count,
  size,
  duration,
  listen,
  endpoint,
  // Lists and maps.
  texts,
  hosts,
  endpoints,
  text_map,
  networks,
  name_servers,
  services,
  rules,
  ports,
};

/// An enum field seen as its index into Traits::choices (all our enums are std::uint8_t from 0).
struct ChoiceSlot {
  unsigned char* index;
};

/// The field behind a key.
using Slot =
    std::variant<std::string*, bool*, std::size_t*, unsigned*, std::uint16_t*, Milliseconds*,
                 ListenAddress*, Endpoint*, ChoiceSlot, std::vector<std::string>*,
                 std::vector<Endpoint>*, std::map<std::string, std::string>*,
                 std::vector<AllowRule>*, std::vector<Service>*, std::vector<InboundPort>*>;

/// What a key's path starts in: the whole, one item of outbound.services, one of mtls.allow, one of
/// inbound.ports.
using Object = std::variant<Config*, Service*, AllowRule*, InboundPort*>;

using Accessor = std::variant<Slot (*)(Config&), Slot (*)(Service&), Slot (*)(AllowRule&),
                              Slot (*)(InboundPort&)>;

/// What most keys leave at its default.
struct Traits {
  std::uint64_t min = 0;          ///< of the number, or the length of text, or the items of a list
  std::uint64_t max = 256;        ///< likewise; durations in ms, sizes in bytes
  bool zero_is_off = false;       ///< 0 is allowed below min and means "off"
  std::string_view choices = {};  ///< "off|permissive|strict", in the order of the enum
  bool reloadable = true;         ///< false: a change takes a restart
  std::string_view default_note = {};  ///< for the reference, where the default is computed
};

struct Key {
  std::string_view path;  ///< "timeouts.header", "outbound.services[].port"
  Kind kind;
  Accessor at;
  std::string_view help;  ///< Markdown
  Traits traits = {};
};

/// All keys, in the order of the reference. Static lifetime.
std::span<const Key> keys();

/// By table path ("outbound.services[].port"); null = no such key.
const Key* find_key(std::string_view path);

/// By shown path ("outbound.services[3].port").
const Key* find_shown_key(std::string_view shown_path);

/// True for "inbound", "outbound.services[].tls": a map whose keys are in the table.
bool is_section(std::string_view path);

/// Names allowed directly below a section ("" = the top), in table order.
std::vector<std::string_view> names_in(std::string_view section);

bool is_scalar(Kind kind) noexcept;

/// A scalar outside lists and maps: has a flag and a variable.
bool has_flag(const Key& key) noexcept;

std::string flag_name(const Key& key);      ///< "--stats-listen"
std::string variable_name(const Key& key);  ///< "HOPLITE_STATS_LISTEN"

/// The choices one by one.
std::vector<std::string_view> choices_of(const Key& key);

/// "a duration with a unit (ms, s, m, h) from 1ms to 24h, or 0 for off".
std::string allowed(const Key& key);

/// The field of `key` in `object`, which must be of the kind the key's path starts in.
Slot slot_of(const Key& key, Object object);

/// Sets a scalar from its text. Returns what is wrong ("found ...; allowed: ..."), leaving the
/// field as it was; nothing when it was set.
std::optional<std::string> assign(const Key& key, Slot slot, std::string_view text);

/// Adds an item to a list of texts, hosts, endpoints, networks or name servers; likewise.
std::optional<std::string> append(const Key& key, Slot slot, std::string_view text);

/// A scalar as text that assign() takes; empty for a listener or endpoint that is not set.
std::string text_of(const Key& key, Slot slot);

/// Config{} with the defaults that depend on the machine (workers) and text (stats.listen).
Config default_config();

}  // namespace proxy::config
