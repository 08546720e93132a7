// Chooses the backend, changes what differs, and takes it back when a later step fails.
#include "proxy/redirect/apply.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

namespace proxy::redirect {
namespace {

constexpr std::string_view kUnchanged = "\n  Everything is as it was";

struct Candidate {
  Tables tables;
  std::array<std::size_t, 2> ours{};
  bool used_by_others = false;
  std::string error;  // it does not work here
};

Candidate examine(Tables tables) {
  Candidate out{std::move(tables), {}, false, {}};
  for (const auto family : kFamilies) {
    const auto saved = out.tables.read(family);
    if (!saved) {
      // Without IPv6 in the kernel its programs fail; that is no fault of the backend.
      if (family == Family::ipv4) out.error = saved.error();
      continue;
    }
    out.ours[static_cast<std::size_t>(family)] = count(ours(*saved));
    for (const auto& table : *saved) out.used_by_others |= !table.rules.empty();
  }
  return out;
}

bool has_ours(const Candidate& candidate) {
  return candidate.ours[0] + candidate.ours[1] > 0;
}

// A higher number is a better choice.
int merit(const Candidate& candidate) {
  return (has_ours(candidate) ? 4 : 0) + (candidate.used_by_others ? 2 : 0) +
         (candidate.tables.is_default() ? 1 : 0);
}

// What was there before, to be put back.
struct Undo {
  const Tables* tables;
  Family family;
  Ruleset before;
};

// In words, what could not be put back; empty = nothing.
std::string put_back(const Undo& undo) {
  const auto saved = undo.tables->read(undo.family);
  if (!saved) return saved.error();
  const auto text = change_text(*saved, undo.before);
  if (text.empty()) return {};
  const auto done = undo.tables->change(undo.family, text);
  return done ? std::string() : done.error();
}

// Leaves of ours exactly `wanted`. True when something was changed.
std::expected<bool, std::string> install(const Tables& tables, Family family, const Ruleset& wanted,
                                         bool even_if_same, std::vector<Undo>& undo) {
  const auto saved = tables.read(family);
  if (!saved) return std::unexpected(saved.error());
  const auto text = change_text(*saved, wanted, even_if_same);
  if (text.empty()) return false;
  undo.push_back({&tables, family, ours(*saved)});
  if (const auto done = tables.change(family, text); !done) return std::unexpected(done.error());
  return true;
}

std::size_t rule_count(const Ruleset& rules) {
  std::size_t out = 0;
  for (const auto& table : rules) out += table.rules.size();
  return out;
}

void say(const KernelChange& change) {
  for (const auto& line : change.done) fmt::print("{}\n", line);
}

// The address and the policy routing as they were, to go back to.
struct KernelBefore {
  bool address = has_our_address();
  std::array<std::optional<Policy>, 2> policy = {our_policy(Family::ipv4),
                                                 our_policy(Family::ipv6)};

  void put_back() const {
    set_address(address);
    for (const auto family : kFamilies)
      set_policy(family, policy[static_cast<std::size_t>(family)]);
  }
};

std::string change_kernel(const Options& options, const Families& families) {
  for (const auto family : families.used) {
    const auto change = set_policy(family, policy_of(options));
    say(change);
    if (!change.error.empty()) return change.error;
    if (family == Family::ipv4) continue;
    const auto address = set_address(true);
    say(address);
    if (!address.error.empty()) return address.error;
  }
  return {};
}

std::string change_rules(const Options& options, const Manner& manner, const Present& present,
                         const Families& families) {
  std::vector<Undo> undo;
  const auto fail = [&](const std::string& why) {
    std::string left;
    for (const auto& step : undo) {
      if (const auto what = put_back(step); !what.empty()) {
        left += fmt::format("\n  {}: what was there could not be put back: {}",
                            name_of(step.family), what);
      }
    }
    return why + (left.empty() ? std::string(kUnchanged) : left);
  };
  for (const auto family : families.used) {
    const auto wanted = rules_for(options, family);
    const auto done = install(present.tables, family, wanted, manner.even_if_same, undo);
    if (!done && family == Family::ipv6 && ipv6_here() == Ipv6::link_only) {
      // A kernel may have IPv6 but no NAT for it; without an address nothing leaks past the proxy.
      fmt::print(stderr, "IPv6: left out: {}, and {}\n", describe(Ipv6::link_only), done.error());
      if (!undo.empty() && undo.back().family == family) put_back(undo.back());
      continue;
    }
    if (!done) return fail(done.error());
    fmt::print("{}: {} rules {} (iptables-{})\n", name_of(family), rule_count(wanted),
               *done ? "installed" : "are there already, nothing changed",
               name_of(present.tables.backend()));
  }
  if (!present.other) return {};
  for (const auto family : families.used) {
    const auto done = install(*present.other, family, {}, false, undo);
    if (!done) return fail(done.error());
    if (*done) {
      fmt::print("{}: removed older rules of ours from iptables-{}\n", name_of(family),
                 name_of(present.other->backend()));
    }
  }
  return {};
}

}  // namespace

std::optional<Policy> policy_of(const Options& options) {
  if (options.mode != Mode::tproxy || options.inbound_ports.empty()) return std::nullopt;
  return Policy{options.tproxy_mark, options.tproxy_table};
}

Families families_here() {
  const auto state = ipv6_here();
  if (state == Ipv6::absent || state == Ipv6::disabled) return {{Family::ipv4}, describe(state)};
  return {{Family::ipv4, Family::ipv6}, {}};
}

std::expected<Present, std::string> look(const Manner& manner) {
  std::vector<Candidate> found;
  for (const auto backend : {Backend::nft, Backend::legacy}) {
    auto tables = Tables::find(backend, manner.own_lock);
    if (!tables) continue;
    if (auto missing = missing_capabilities(backend); !missing.empty()) {
      found.push_back({std::move(*tables), {}, false, std::move(missing)});
    } else {
      found.push_back(examine(std::move(*tables)));
    }
  }
  const auto usable = [&](const Candidate& candidate) {
    return candidate.error.empty() &&
           (!manner.backend || *manner.backend == candidate.tables.backend());
  };
  const Candidate* best = nullptr;
  for (const auto& candidate : found) {
    if (usable(candidate) && (best == nullptr || merit(candidate) > merit(*best))) {
      best = &candidate;
    }
  }
  if (best == nullptr) {
    for (const auto& candidate : found) {
      if (manner.backend && *manner.backend != candidate.tables.backend()) continue;
      return std::unexpected(candidate.error);
    }
    return std::unexpected(no_programs(manner.backend));
  }
  Present out{best->tables, std::nullopt};
  for (const auto& candidate : found) {
    if (&candidate != best && has_ours(candidate)) out.other = candidate.tables;
  }
  return out;
}

std::expected<void, std::string> apply(const Options& options, const Manner& manner) {
  const auto present = look(manner);
  if (!present) return std::unexpected(present.error());
  const auto families = families_here();
  if (!families.left_out.empty()) fmt::print(stderr, "IPv6: left out: {}\n", families.left_out);
  const KernelBefore before;
  auto error = change_kernel(options, families);
  if (!error.empty()) {
    error += kUnchanged;
  } else {
    error = change_rules(options, manner, *present, families);
  }
  if (error.empty()) return {};
  before.put_back();
  return std::unexpected(std::move(error));
}

std::expected<void, std::string> clean(const Manner& manner, bool pretend) {
  const auto present = look(manner);
  if (!present) return std::unexpected(present.error());
  std::size_t removed = 0;
  for (const auto* tables : {&present->tables, present->other ? &*present->other : nullptr}) {
    for (const auto family : kFamilies) {
      const auto saved = tables != nullptr ? tables->read(family) : Saved();
      if (!saved) {
        if (family == Family::ipv4 || families_here().left_out.empty()) {
          return std::unexpected(saved.error());
        }
        continue;  // no IPv6, hence no rules of it
      }
      const auto text = change_text(*saved, {});
      if (text.empty()) continue;
      ++removed;
      if (pretend) {
        fmt::print("# {}: iptables-{}\n{}", name_of(family), name_of(tables->backend()), text);
        continue;
      }
      if (const auto done = tables->change(family, text); !done) {
        return std::unexpected(done.error());
      }
      fmt::print("{}: removed {} rules (iptables-{})\n", name_of(family), rule_count(ours(*saved)),
                 name_of(tables->backend()));
    }
  }
  if (pretend) return {};
  for (const auto& change : {set_policy(Family::ipv4, std::nullopt),
                             set_policy(Family::ipv6, std::nullopt), set_address(false)}) {
    say(change);
    if (!change.error.empty()) return std::unexpected(change.error);
    removed += change.done.size();
  }
  if (removed == 0) fmt::print("nothing of ours is here\n");
  return {};
}

}  // namespace proxy::redirect
