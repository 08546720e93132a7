// A configuration file's YAML into Config, with the position of every value.
// Not the reading of the file, nor flags and environment (sources.h), nor what only the whole can
// tell (validate.h).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "proxy/config/diagnostics.h"
#include "proxy/config/schema.h"

namespace proxy::config {

/// Longest file taken. More is refused unread.
inline constexpr std::size_t kMaxFileBytes = 1 << 20;

/// Values looked at, aliases counted each time: bounds what a file of aliases can unfold to.
inline constexpr std::size_t kMaxValues = 100'000;

/// Problems of one file that are told one by one; the rest is one line with their number.
inline constexpr std::size_t kMaxProblems = 100;

/// Sets what `text` gives in `config` and its position in `origins`; keeps the rest. All that is
/// wrong is appended to `diagnostics` in the order of the file; a wrong value leaves its field as
/// it was, its position is kept. Never throws on any input; any thread.
void parse(std::string_view text, const std::string& file, Config& config, Origins& origins,
           Diagnostics& diagnostics);

}  // namespace proxy::config
