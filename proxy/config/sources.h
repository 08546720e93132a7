// Flags over environment over file over defaults: one effective configuration, and every origin.
// Not the declaration of flags on a command line (flags.h).
#pragma once

#include <map>
#include <optional>
#include <string>

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

struct FlagValue {
  std::string flag;  ///< as the user knows it: "--from"
  std::string text;
};

/// By key path ("inbound.listen").
using FlagValues = std::map<std::string, FlagValue, std::less<>>;

using Environment = std::map<std::string, std::string, std::less<>>;

struct LoadRequest {
  std::optional<std::string> file;  ///< none: flags, environment and defaults alone
  FlagValues flags;
  Environment environment;
  /// Reads the credential files. Tests of the rest turn it off.
  bool touch_system = true;
  /// A configuration that is in no file, and what to call it in messages; read after the file.
  std::optional<std::string> text = {};
  std::string text_name = {};
};

struct Loaded {
  Config config;  ///< complete; to be used only when there are no errors
  Origins origins;
  Diagnostics diagnostics;  ///< errors and warnings of all sources and checks together
  [[nodiscard]] bool ok() const { return !has_errors(diagnostics); }
};

/// Reads, merges, completes and checks: start, reload and `hoplite check` all call this. Opens no
/// socket of ours and asks no name server. Never throws; any thread, but not a worker.
Loaded load(const LoadRequest& request);

/// The HOPLITE_ variables of a null-ended "NAME=VALUE" array such as `environ`.
Environment environment_from(const char* const* variables);

}  // namespace proxy::config
