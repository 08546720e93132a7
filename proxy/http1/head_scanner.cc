// HeadScanner: one pass, sixteen bytes at a time where the processor can.
// Not a tokenizer.
#include "proxy/http1/head_scanner.h"

#include <algorithm>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace proxy::http1 {
namespace {

bool is_control(std::byte byte) noexcept {
  const auto c = std::to_integer<unsigned char>(byte);
  return (c < 0x20 && c != '\t') || c == 0x7f;
}

// The position of the first control character (a tab is none); bytes.size() when there is none.
std::size_t find_control(std::span<const std::byte> bytes) noexcept {
  std::size_t i = 0;
#ifdef __SSE2__
  const __m128i highest = _mm_set1_epi8(0x1f);
  const __m128i tab = _mm_set1_epi8('\t');
  const __m128i del = _mm_set1_epi8(0x7f);
  for (; i + 16 <= bytes.size(); i += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data() + i));
    const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, highest), v);
    const __m128i hit =
        _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), low), _mm_cmpeq_epi8(v, del));
    const int mask = _mm_movemask_epi8(hit);
    if (mask != 0) return i + static_cast<std::size_t>(__builtin_ctz(static_cast<unsigned>(mask)));
  }
#endif
  while (i < bytes.size() && !is_control(bytes[i])) ++i;
  return i;
}

}  // namespace

HeadScanner::Result HeadScanner::take(Chain& in, std::string& block, std::size_t limit) {
  while (!in.empty()) {
    std::span<const std::byte> bytes = in.first();
    const std::size_t room = limit - std::min(limit, block.size());
    const bool cut = bytes.size() > room;
    bytes = bytes.first(std::min(bytes.size(), room));
    std::size_t taken = 0;
    const Result result = scan(bytes, taken);
    block.append(reinterpret_cast<const char*>(bytes.data()), taken);
    in.drop_front(taken);
    if (result != Result::more) return result;
    if (cut) return Result::too_large;
  }
  return Result::more;
}

http::Fault HeadScanner::fault(const Chain& in) const noexcept {
  if (after_cr_) return http::Fault::bare_cr;
  switch (std::to_integer<char>(in.first().front())) {
    case '\n':
      return http::Fault::bare_lf;
    case ' ':
    case '\t':
      return http::Fault::obs_fold;
    default:
      return http::Fault::control_character;
  }
}

HeadScanner::Result HeadScanner::scan(std::span<const std::byte> bytes,
                                      std::size_t& taken) noexcept {
  std::size_t i = 0;
  while (i < bytes.size()) {
    if (after_cr_) {
      if (bytes[i] != std::byte{'\n'}) {
        taken = i;
        return Result::malformed;
      }
      ++i;
      after_cr_ = false;
      if (at_line_start_) {
        taken = i;
        return Result::complete;
      }
      at_line_start_ = true;
      continue;
    }
    if (at_line_start_ && bytes[i] != std::byte{'\r'}) {
      // A line that begins with white space continues the one before (obs-fold).
      if (bytes[i] == std::byte{' '} || bytes[i] == std::byte{'\t'}) {
        taken = i;
        return Result::malformed;
      }
      at_line_start_ = false;
    }
    i += find_control(bytes.subspan(i));
    if (i == bytes.size()) break;
    if (bytes[i] != std::byte{'\r'}) {
      taken = i;
      return Result::malformed;
    }
    after_cr_ = true;
    ++i;
  }
  taken = i;
  return Result::more;
}

}  // namespace proxy::http1
