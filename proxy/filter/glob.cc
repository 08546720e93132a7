// Matching by anchored ends and the leftmost occurrence of every piece between, in order. With
// plain stars only, taking the leftmost one is never wrong, so nothing is ever tried again.
#include "proxy/filter/glob.h"

namespace proxy::filter {

Glob::Piece::Piece(std::string_view piece) : text(piece), fallback(piece.size(), 0) {
  std::uint32_t matched = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    while (matched > 0 && text[i] != text[matched]) matched = fallback[matched - 1];
    if (text[i] == text[matched]) ++matched;
    fallback[i] = matched;
  }
}

std::size_t Glob::Piece::find_end(std::string_view within) const noexcept {
  std::uint32_t matched = 0;
  for (std::size_t i = 0; i < within.size(); ++i) {
    while (matched > 0 && within[i] != text[matched]) matched = fallback[matched - 1];
    if (within[i] == text[matched]) ++matched;
    if (matched == text.size()) return i + 1;
  }
  return std::string_view::npos;
}

Glob::Glob(std::string_view pattern) {
  const std::size_t first = pattern.find('*');
  front_ = pattern.substr(0, first);
  if (first == std::string_view::npos) return;
  has_star_ = true;
  const std::size_t last = pattern.rfind('*');
  back_ = pattern.substr(last + 1);
  std::size_t start = first + 1;
  while (start <= last) {
    const std::size_t star = pattern.find('*', start);
    if (star > start) pieces_.emplace_back(pattern.substr(start, star - start));
    start = star + 1;
  }
}

bool Glob::matches(std::string_view text) const noexcept {
  if (!has_star_) return text == front_;
  if (text.size() < front_.size() + back_.size()) return false;
  if (!text.starts_with(front_) || !text.ends_with(back_)) return false;
  text.remove_prefix(front_.size());
  text.remove_suffix(back_.size());
  for (const Piece& piece : pieces_) {
    const std::size_t end = piece.find_end(text);
    if (end == std::string_view::npos) return false;
    text.remove_prefix(end);
  }
  return true;
}

}  // namespace proxy::filter
