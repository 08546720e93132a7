// What iptables-save printed: which rules are ours, and the text that turns them into others. Pure.
// Not the rules wanted (rules.h), and not the running of iptables-save (tables.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proxy/redirect/rules.h"

namespace proxy::redirect {

struct SavedTable {
  std::string name;
  std::vector<std::string> chains;    // made by somebody
  std::vector<std::string> built_in;  // the kernel's
  std::vector<Rule> rules;            // in the order of the text; `first` is not used
};

using Saved = std::vector<SavedTable>;

// Lines it does not know are passed over: comments, counters, other tables' things.
Saved parse_saved(std::string_view text);

// Ours: all in chains of ours, and in the kernel's chains the jumps to them and what bears the
// owner's comment. Nothing of others, however alike it is.
Ruleset ours(const Saved& saved);

// How many rules and chains that is.
std::size_t count(const Ruleset& rules) noexcept;

// The text for iptables-restore --noflush that leaves of ours exactly `wanted` and everything else
// as it is. Empty when that is so already, unless it shall be done `even_if_same`.
std::string change_text(const Saved& saved, const Ruleset& wanted, bool even_if_same = false);

// In words, line by line: what of `wanted` is not there, not in its place, or too much.
std::vector<std::string> differences(const Saved& saved, const Ruleset& wanted);

// A rule's spec in one form, whether we wrote it or iptables-save printed it.
std::string normalized(std::string_view spec);

}  // namespace proxy::redirect
