// Glob: a pattern in which `*` stands for any run of bytes, none included. Linear time.
// Not a path glob: `/` is a byte like any other, and there is no `?` and no escape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace proxy::filter {

class Glob {
 public:
  explicit Glob(std::string_view pattern);

  // Each byte of `text` is looked at at most three times, whatever the pattern. No allocation.
  bool matches(std::string_view text) const noexcept;

 private:
  // A run of bytes between two stars, with its Knuth-Morris-Pratt table.
  struct Piece {
    explicit Piece(std::string_view text);
    // The position after the first occurrence in `within`, npos when there is none.
    std::size_t find_end(std::string_view within) const noexcept;
    std::string text;
    std::vector<std::uint32_t> fallback;
  };

  bool has_star_ = false;
  std::string front_;  // before the first star
  std::string back_;   // after the last one
  std::vector<Piece> pieces_;
};

}  // namespace proxy::filter
