// Renders diagnostics and origins, and finds the nearest right word.
// Not the checks that make diagnostics.
#include "proxy/config/diagnostics.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include <fmt/format.h>

namespace proxy::config {
namespace {

constexpr std::size_t kShownBytes = 80;
constexpr std::size_t kLongestWord = 64;

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

// Optimal string alignment: insert, delete, replace, swap two neighbours, each at cost 1.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + cost});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string origin_text(const Origin& origin) {
  switch (origin.source) {
    case Source::preset:
      return "default";
    case Source::derived:
      return fmt::format("default, from {}", origin.name);
    case Source::file:
      if (origin.line == 0) return escaped(origin.name);
      return fmt::format("{}:{}:{}", escaped(origin.name), origin.line, origin.column);
    case Source::environment:
    case Source::flag:
      break;
  }
  return escaped(origin.name);
}

void Origins::set(std::string_view path, Origin origin) {
  map_.insert_or_assign(std::string(path), std::move(origin));
}

bool Origins::has(std::string_view path) const {
  return map_.find(path) != map_.end();
}

Origin Origins::of(std::string_view path) const {
  const auto found = map_.find(path);
  return found == map_.end() ? Origin{} : found->second;
}

Origin Origins::nearest(std::string_view path) const {
  for (;;) {
    const auto found = map_.find(path);
    if (found != map_.end() && found->second.source != Source::derived) return found->second;
    if (path.empty()) return {};
    const auto cut = path.find_last_of(".[");
    path = cut == std::string_view::npos ? std::string_view{} : path.substr(0, cut);
  }
}

std::string render(const Diagnostic& diagnostic) {
  std::string line;
  if (diagnostic.origin.source != Source::preset && diagnostic.origin.source != Source::derived) {
    line += origin_text(diagnostic.origin) + ": ";
  }
  if (diagnostic.severity == Severity::warning) line += "warning: ";
  if (!diagnostic.key.empty()) line += escaped(diagnostic.key) + ": ";
  return line + escaped(diagnostic.message);
}

std::string render(const Diagnostics& diagnostics) {
  std::string lines;
  for (const auto& diagnostic : diagnostics) lines += render(diagnostic) + '\n';
  return lines;
}

void sort_by_place(Diagnostics& diagnostics) {
  const auto place = [](const Diagnostic& d) {
    const bool positioned = d.origin.source == Source::file && d.origin.line > 0;
    return std::tuple(!positioned, positioned ? d.origin.line : 0,
                      positioned ? d.origin.column : 0);
  };
  std::stable_sort(diagnostics.begin(), diagnostics.end(),
                   [&](const Diagnostic& a, const Diagnostic& b) { return place(a) < place(b); });
}

bool has_errors(const Diagnostics& diagnostics) {
  return std::any_of(diagnostics.begin(), diagnostics.end(),
                     [](const Diagnostic& d) { return d.severity == Severity::error; });
}

std::string quoted(std::string_view text) {
  if (text.size() <= kShownBytes) return fmt::format("\"{}\"", escaped(text));
  return fmt::format("\"{}...\" ({} bytes)", escaped(text.substr(0, kShownBytes)), text.size());
}

std::string_view nearest_word(std::string_view word,
                              const std::vector<std::string_view>& candidates) {
  if (word.empty() || word.size() > kLongestWord) return {};
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
  for (const auto candidate : candidates) {
    if (const auto d = distance(word, candidate); d < best_distance) {
      best = candidate;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace proxy::config
