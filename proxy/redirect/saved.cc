// Reads iptables-save's text, compares rules by meaning, and writes the difference.
#include "proxy/redirect/saved.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace proxy::redirect {
namespace {

struct Word {
  std::string text;
  bool quoted = false;  // then it is a value, whatever it looks like
};

// As iptables-save quotes: double quotes around, a backslash before what would end or mislead them.
std::vector<Word> words_of(std::string_view line) {
  std::vector<Word> out;
  for (std::size_t at = 0; at < line.size();) {
    if (line[at] == ' ') {
      ++at;
      continue;
    }
    Word word;
    bool inside = false;
    for (; at < line.size() && (inside || line[at] != ' '); ++at) {
      if (line[at] == '"') {
        inside = !inside;
        word.quoted = true;
      } else if (line[at] == '\\' && at + 1 < line.size()) {
        word.text += line[++at];
      } else {
        word.text += line[at];
      }
    }
    out.push_back(std::move(word));
  }
  return out;
}

bool is_option(const Word& word) {
  return !word.quoted && word.text.starts_with('-') && word.text.size() > 1;
}

// One match or target with what follows it: "-d" {"127.0.0.1/32"}, perhaps negated.
struct Part {
  std::string option;
  std::vector<std::string> values;
  bool negated = false;
};

std::vector<Part> parts_of(std::string_view spec) {
  std::vector<Part> out;
  bool negated = false;
  for (const auto& word : words_of(spec)) {
    if (!word.quoted && word.text == "!") {
      negated = true;
    } else if (is_option(word)) {
      out.push_back({word.text, {}, std::exchange(negated, false)});
    } else if (!out.empty()) {
      out.back().values.push_back(word.text);
    }
  }
  return out;
}

bool is_ours(std::string_view table, const Rule& rule) {
  return std::ranges::any_of(parts_of(rule.spec), [&](const Part& part) {
    if (part.values.empty()) return false;
    if (part.option == "-j" || part.option == "-g") return is_our_chain(table, part.values[0]);
    return part.option == "--comment" && part.values[0] == kOwnerComment;
  });
}

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

std::string decimal(std::string_view text) {
  if (!text.starts_with("0x")) return std::string(text);
  unsigned long value = 0;
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + 2, end, value, 16);
  return error == std::errc() && rest == end ? std::to_string(value) : std::string(text);
}

// "0x539/0xffffffff" and "1337" are the same mark.
std::string mark_of(std::string_view text) {
  const auto slash = text.find('/');
  const auto mask =
      slash == std::string_view::npos ? "4294967295" : decimal(text.substr(slash + 1));
  return decimal(text.substr(0, slash)) + "/" + mask;
}

constexpr std::string_view kFullMask = "4294967295";

// What iptables-save writes out although it is the default, or leaves out because it is.
bool says_nothing(const Part& part) {
  if (part.option == "-m") return true;  // follows from the matches' own options
  const auto value = part.values.empty() ? std::string() : part.values[0];
  if (part.option == "-s" || part.option == "-d") {
    return !part.negated && (value == "0.0.0.0/0" || value == "::/0");
  }
  if (part.option == "--on-ip") return value == "0.0.0.0" || value == "::";
  if (part.option == "--nfmask" || part.option == "--ctmask") return decimal(value) == kFullMask;
  return false;
}

using Chains = std::map<std::string, std::vector<Rule>>;

// The rules of each chain in the order in which they end up.
Chains by_chain(const Table& table) {
  Chains out;
  for (const auto& chain : table.chains) out[chain];
  for (const auto& rule : table.rules) {
    auto& chain = out[rule.chain];
    chain.insert(rule.first ? chain.begin() : chain.end(), rule);
  }
  return out;
}

std::vector<std::string> normalized(const std::vector<Rule>& rules) {
  std::vector<std::string> out;
  out.reserve(rules.size());
  for (const auto& rule : rules) out.push_back(redirect::normalized(rule.spec));
  return out;
}

const Table* find(const Ruleset& rules, std::string_view name) {
  const auto found = std::ranges::find(rules, name, &Table::name);
  return found == rules.end() ? nullptr : &*found;
}

bool same(const Table& present, const Table& wanted) {
  const auto left = by_chain(present);
  const auto right = by_chain(wanted);
  return std::ranges::equal(left, right, [](const auto& a, const auto& b) {
    return a.first == b.first && normalized(a.second) == normalized(b.second);
  });
}

// Rules in front of all others' were inserted there; the first of them was inserted last.
Table ours_in(const SavedTable& saved) {
  Table out{saved.name, {}, {}};
  std::ranges::copy_if(saved.chains, std::back_inserter(out.chains),
                       [&](const auto& chain) { return is_our_chain(saved.name, chain); });
  for (const auto& chain : saved.built_in) {
    std::vector<Rule> leading, following;
    bool foreign_met = false;
    for (const auto& rule : saved.rules) {
      if (rule.chain != chain) continue;
      if (!is_ours(saved.name, rule)) {
        foreign_met = true;
      } else {
        (foreign_met ? following : leading).push_back(rule);
      }
    }
    if (foreign_met) {
      for (auto& rule : leading) rule.first = true;
      std::ranges::reverse(leading);
    }
    out.rules.insert(out.rules.end(), leading.begin(), leading.end());
    out.rules.insert(out.rules.end(), following.begin(), following.end());
  }
  std::ranges::copy_if(saved.rules, std::back_inserter(out.rules),
                       [&](const Rule& rule) { return contains(out.chains, rule.chain); });
  return out;
}

std::string change_table(const Table& present, const Table& wanted) {
  std::string out = fmt::format("*{}\n", wanted.name);
  std::string gone;
  for (const auto& chain : present.chains) {
    out += fmt::format("-F {}\n", chain);
    if (!contains(wanted.chains, chain)) gone += fmt::format("-X {}\n", chain);
  }
  for (const auto& chain : wanted.chains) {
    if (!contains(present.chains, chain)) out += fmt::format("-N {}\n", chain);
  }
  for (const auto& rule : present.rules) {
    if (contains(present.chains, rule.chain)) continue;
    out += fmt::format("-D {} {}\n", rule.chain, rule.spec);
  }
  out += gone;
  for (const auto& rule : wanted.rules) out += command(rule) + "\n";
  return out + "COMMIT\n";
}

// Those of `rules` that have no like in the chain of the same name of `other`.
void list_lacking(const std::vector<Rule>& rules, const Chains& other, std::string_view what,
                  std::string_view table, std::vector<std::string>& out) {
  for (const auto& rule : rules) {
    const auto chain = other.find(rule.chain);
    if (chain != other.end() &&
        contains(normalized(chain->second), redirect::normalized(rule.spec))) {
      continue;
    }
    out.push_back(fmt::format("table {}: {}: -A {} {}", table, what, rule.chain, rule.spec));
  }
}

// A table of each name that either side has; an empty one where a side lacks it.
template <class Visit>
void for_each_pair(const Ruleset& present, const Ruleset& wanted, Visit visit) {
  for (const auto& table : wanted) {
    const auto* there = find(present, table.name);
    visit(there != nullptr ? *there : Table{table.name, {}, {}}, table);
  }
  for (const auto& table : present) {
    if (find(wanted, table.name) == nullptr) visit(table, Table{table.name, {}, {}});
  }
}

}  // namespace

std::string normalized(std::string_view spec) {
  std::vector<std::string> out;
  for (auto& part : parts_of(spec)) {
    if (says_nothing(part)) continue;
    auto value = fmt::format("{}", fmt::join(part.values, " "));
    if (part.option == "--to-port") part.option = "--to-ports";
    if (part.option == "--set-mark") part.option = "--set-xmark";
    if (part.option == "--set-xmark" || part.option == "--mark" || part.option == "--tproxy-mark") {
      value = mark_of(value);
    }
    out.push_back(fmt::format("{}{} {}", part.negated ? "! " : "", part.option, value));
  }
  std::ranges::sort(out);
  return fmt::format("{}", fmt::join(out, " "));
}

Saved parse_saved(std::string_view text) {
  Saved out;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (line.starts_with('*')) {
      out.push_back({std::string(line.substr(1)), {}, {}, {}});
    } else if (!out.empty() && line.starts_with(':')) {
      const auto words = words_of(line.substr(1));
      if (words.size() < 2) continue;
      auto& list = words[1].text == "-" ? out.back().chains : out.back().built_in;
      list.push_back(words[0].text);
    } else if (!out.empty() && line.starts_with("-A ")) {
      const auto rest = line.substr(3);
      const auto space = rest.find(' ');
      if (space == std::string_view::npos) continue;  // no match and no target: nothing of ours
      out.back().rules.push_back(
          {std::string(rest.substr(0, space)), std::string(rest.substr(space + 1))});
    }
  }
  return out;
}

Ruleset ours(const Saved& saved) {
  Ruleset out;
  for (const auto& table : saved) {
    auto found = ours_in(table);
    if (!found.chains.empty() || !found.rules.empty()) out.push_back(std::move(found));
  }
  return out;
}

std::size_t count(const Ruleset& rules) noexcept {
  std::size_t out = 0;
  for (const auto& table : rules) out += table.rules.size() + table.chains.size();
  return out;
}

std::string change_text(const Saved& saved, const Ruleset& wanted, bool even_if_same) {
  std::string out;
  for_each_pair(ours(saved), wanted, [&](const Table& present, const Table& table) {
    if (even_if_same || !same(present, table)) out += change_table(present, table);
  });
  return out;
}

std::vector<std::string> differences(const Saved& saved, const Ruleset& wanted) {
  std::vector<std::string> out;
  for_each_pair(ours(saved), wanted, [&](const Table& present, const Table& table) {
    if (same(present, table)) return;
    const auto before = out.size();
    const auto left = by_chain(present);
    const auto right = by_chain(table);
    for (const auto& [chain, rules] : right) {
      if (contains(table.chains, chain) && !left.contains(chain)) {
        out.push_back(fmt::format("table {}: the chain {} is missing", table.name, chain));
      } else {
        list_lacking(rules, left, "the rule is missing", table.name, out);
      }
    }
    for (const auto& [chain, rules] : left) {
      list_lacking(rules, right, "a rule is there that does not belong", table.name, out);
    }
    if (out.size() == before) {
      out.push_back(fmt::format("table {}: the rules are in another order, or there more than once",
                                table.name));
    }
  });
  return out;
}

}  // namespace proxy::redirect
