// Installs and removes redirection in this network namespace.
// Not what the rules are (rules.h), not whether they work (check.h).
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <vector>

#include "proxy/redirect/kernel.h"
#include "proxy/redirect/options.h"
#include "proxy/redirect/tables.h"

namespace proxy::redirect {

// How to go about it, whatever the rules are.
struct Manner {
  std::optional<Backend> backend;  // none: found out
  bool own_lock = false;           // see Tables::find
  bool even_if_same = false;       // install the rules again although they are there
};

// Which programs to use, and the rules of ours that are there in any of the backends.
struct Present {
  Tables tables;                // the ones to use
  std::optional<Tables> other;  // of the other backend, when it has rules of ours
};

// Prefers the backend that has rules of ours, then the one that is in use, then plain `iptables`.
std::expected<Present, std::string> look(const Manner& manner);

// IPv6 is left out, in words, where a pod has no use for it.
struct Families {
  std::vector<Family> used;
  std::string left_out;  // why; empty = nothing is
};
Families families_here();

// What `apply` wants of a family's policy routing.
std::optional<Policy> policy_of(const Options& options);

// Both print what they did to stdout, line by line, and notes to stderr. The error is in words, and
// then everything is as it was before, as far as the kernel lets it.
std::expected<void, std::string> apply(const Options& options, const Manner& manner);
// `pretend`: print the text for iptables-restore that would remove them, and change nothing.
std::expected<void, std::string> clean(const Manner& manner, bool pretend);

}  // namespace proxy::redirect
