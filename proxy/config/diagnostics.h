// Where a configuration value came from, what is wrong with it, and how that reads as a line.
// Not the checks themselves (parse.h, sources.h, validate.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace proxy::config {

enum class Source : std::uint8_t { preset, derived, file, environment, flag };

/// Where one value came from.
struct Origin {
  Source source = Source::preset;
  std::string name;  ///< file path, variable, flag with dashes, or for `derived` the key it follows
  int line = 0;      ///< from 1; 0 = the file as a whole
  int column = 0;    ///< from 1
  bool operator==(const Origin&) const = default;
};

/// "default", "default, from workload.app", "hoplite.yaml:3:5", "HOPLITE_X", "--x".
std::string origin_text(const Origin& origin);

/// Origins by key path ("timeouts.header", "outbound.services[0].hosts[1]"). A key that is not in
/// here has its default. Value type, no threads.
class Origins {
 public:
  void set(std::string_view path, Origin origin);
  [[nodiscard]] bool has(std::string_view path) const;
  /// Where to point for this key: its own origin if somebody wrote it, else that of the nearest
  /// section or list around it, else of the file, else Source::preset.
  [[nodiscard]] Origin nearest(std::string_view path) const;
  /// The origin of exactly this key, else Source::preset.
  [[nodiscard]] Origin of(std::string_view path) const;

 private:
  std::map<std::string, Origin, std::less<>> map_;
};

enum class Severity : std::uint8_t { error, warning };

struct Diagnostic {
  Severity severity = Severity::error;
  Origin origin;
  std::string key;      ///< key path; may be empty (a YAML syntax error)
  std::string message;  ///< what was found, what is allowed, what to do
  bool operator==(const Diagnostic&) const = default;
};

using Diagnostics = std::vector<Diagnostic>;

/// One line without line end: "hoplite.yaml:12:3: inbound.lisen: unknown key; did you mean ...".
/// Control bytes of the input are shown escaped.
std::string render(const Diagnostic& diagnostic);

/// All of them, one a line, each ended by a line feed.
std::string render(const Diagnostics& diagnostics);

/// Those with a line first, in the order of the file; the others keep their order after them.
void sort_by_place(Diagnostics& diagnostics);

[[nodiscard]] bool has_errors(const Diagnostics& diagnostics);

/// Text in double quotes, cut at 80 bytes, control bytes escaped: for "found ..." in messages.
std::string quoted(std::string_view text);

/// The candidate nearest to `word` (optimal string alignment), if near enough to be a slip of the
/// hand: at most a third of its length, at least 1. Empty = none.
std::string_view nearest_word(std::string_view word,
                              const std::vector<std::string_view>& candidates);

}  // namespace proxy::config
