// The grammar of prometheus/model/textparse/promlex.l, line by line. In doubt no: an app whose
// lines nobody else writes is left out, and the scrape stands.
#include "telemetry/text_format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "telemetry/utf8.h"

namespace telemetry {
namespace {

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// Takes tokens from the front of one line.
class Line {
 public:
  explicit Line(std::string_view rest) : rest_(rest) {}

  bool is_fine() {
    const auto before = rest_.size();
    skip_blanks();
    if (rest_.empty()) return true;
    if (take('#')) return comment();
    return rest_.size() == before && sample();  // Prometheus takes a blank for part of the name
  }

 private:
  void skip_blanks() {
    rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t"), rest_.size()));
  }

  bool take(char wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::string_view take_word() {
    const auto word = rest_.substr(0, std::min(rest_.find_first_of(" \t"), rest_.size()));
    rest_.remove_prefix(word.size());
    return word;
  }

  // Of a metric, which may have colons, or of a label.
  bool name(bool colons) {
    const auto fits = [&](char c) { return is_letter(c) || (colons && c == ':'); };
    std::size_t length = 0;
    while (length < rest_.size() &&
           (fits(rest_[length]) || (length > 0 && is_digit(rest_[length])))) {
      ++length;
    }
    rest_.remove_prefix(length);
    return length > 0;
  }

  // Only HELP and TYPE have a form; every other comment is one.
  bool comment() {
    const auto before = rest_.size();
    skip_blanks();
    if (rest_.size() == before) return true;
    const auto word = take_word();
    const bool help = word == "HELP";
    if (!help && word != "TYPE") return true;
    skip_blanks();
    if (!name(true)) return false;
    if (help) return is_utf8(rest_);
    if (!take(' ') && !take('\t')) return false;  // one, and no more
    static constexpr std::array<std::string_view, 5> kTypes{"counter", "gauge", "histogram",
                                                            "summary", "untyped"};
    return std::find(kTypes.begin(), kTypes.end(), rest_) != kTypes.end();
  }

  bool sample() {
    if (!name(true)) return false;
    skip_blanks();
    if (take('{') && !labels()) return false;
    skip_blanks();
    if (!is_number(take_word())) return false;
    if (rest_.empty()) return true;
    skip_blanks();
    const auto timestamp = take_word();
    return rest_.empty() && !timestamp.empty() &&
           std::all_of(timestamp.begin(), timestamp.end(), is_digit);
  }

  bool labels() {
    for (;;) {
      skip_blanks();
      if (take('}')) return true;
      if (!name(false)) return false;
      skip_blanks();
      if (!take('=')) return false;
      skip_blanks();
      if (!take('"') || !value()) return false;
      skip_blanks();
      if (!take(',') && !rest_.starts_with('}')) return false;
    }
  }

  // Behind its opening quote, to behind its closing one.
  bool value() {
    for (std::size_t at = 0; at < rest_.size(); ++at) {
      if (rest_[at] == '\\') {
        ++at;
      } else if (rest_[at] == '"') {
        const bool fine = is_utf8(rest_.substr(0, at));
        rest_.remove_prefix(at + 1);
        return fine;
      }
    }
    return false;
  }

  // As Go's ParseFloat: NaN has no sign.
  static bool is_number(std::string_view word) {
    if (word.starts_with('+')) {
      word.remove_prefix(1);
      if (word.starts_with('-') || word.starts_with('n') || word.starts_with('N')) return false;
    }
    double number = 0;
    const auto* end = word.data() + word.size();
    const auto [stop, error] = std::from_chars(word.data(), end, number);
    if (stop != end || error != std::errc()) return false;
    return !std::isnan(number) || word.size() == 3;
  }

  std::string_view rest_;
};

}  // namespace

bool is_text_format(std::string_view text) noexcept {
  while (!text.empty()) {
    const auto line = text.substr(0, std::min(text.find('\n'), text.size()));
    if (!Line(line).is_fine()) return false;
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return true;
}

}  // namespace telemetry
