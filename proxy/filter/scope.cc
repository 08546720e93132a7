// Request ids (xoshiro256**, https://prng.di.unimi.it) and the interning of a bare peer.
// Not the reading of peer metadata: peer_metadata.cc.
#include "proxy/filter/scope.h"

#include <algorithm>
#include <bit>

namespace proxy::filter {
namespace {

// Spreads one seed over the whole state, as the generator's authors advise.
std::uint64_t splitmix(std::uint64_t& state) noexcept {
  std::uint64_t z = (state += 0x9E3779B97F4A7C15U);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

// "00" to "ff".
constexpr auto kHexPairs = [] {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::array<std::array<char, 2>, 256> pairs{};
  for (std::size_t i = 0; i < pairs.size(); ++i) pairs[i] = {kDigits[i / 16], kDigits[i % 16]};
  return pairs;
}();

}  // namespace

telemetry::PartyRef base_peer(PeerMemo& memo, telemetry::Shard& shard) {
  if (!shard.alive(memo.base_ref)) memo.base_ref = shard.intern_peer(memo.base);
  return memo.base_ref;
}

RequestIds::RequestIds(std::uint64_t seed) noexcept {
  for (std::uint64_t& word : state_) word = splitmix(seed);
}

std::uint64_t RequestIds::next() noexcept {
  const std::uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
  const std::uint64_t shifted = state_[1] << 17;
  state_[2] ^= state_[0];
  state_[3] ^= state_[1];
  state_[1] ^= state_[2];
  state_[0] ^= state_[3];
  state_[2] ^= shifted;
  state_[3] = std::rotl(state_[3], 45);
  return result;
}

void RequestIds::make(char (&out)[36]) noexcept {
  const std::uint64_t high = (next() & ~std::uint64_t{0xF000}) | 0x4000;  // version 4
  const std::uint64_t low = (next() & ~(std::uint64_t{3} << 62)) | (std::uint64_t{2} << 62);
  char* at = out;
  for (unsigned byte = 0; byte < 16; ++byte) {
    if (byte == 4 || byte == 6 || byte == 8 || byte == 10) *at++ = '-';
    const std::uint64_t word = byte < 8 ? high : low;
    at = std::ranges::copy(kHexPairs[(word >> (56 - 8 * (byte % 8))) & 0xFF], at).out;
  }
}

bool RequestId::keep(std::string_view id) noexcept {
  const auto visible = [](char c) { return c > ' ' && c <= '~'; };
  if (id.empty() || id.size() > kMaxBytes || !std::all_of(id.begin(), id.end(), visible)) {
    return false;
  }
  std::copy(id.begin(), id.end(), text_.begin());
  length_ = id.size();
  return true;
}

void RequestId::make(RequestIds& ids) noexcept {
  char made[36];
  ids.make(made);
  std::copy(std::begin(made), std::end(made), text_.begin());
  length_ = sizeof(made);
}

}  // namespace proxy::filter
