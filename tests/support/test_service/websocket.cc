// WebSocket handshake and frame echo.
// Not fast at hashing: SHA-1 is here only because the handshake is defined by it.
#include "tests/support/test_service/websocket.h"

#include <algorithm>
#include <array>
#include <bit>

namespace test_service {
namespace {

constexpr unsigned kClose = 8;
constexpr unsigned kPing = 9;
constexpr unsigned kPong = 10;

using Digest = std::array<std::uint32_t, 5>;

void sha1_block(std::string_view block, Digest& digest) {
  std::array<std::uint32_t, 80> w{};
  for (std::size_t i = 0; i < 64; ++i) {
    w[i / 4] = (w[i / 4] << 8) | static_cast<unsigned char>(block[i]);
  }
  for (std::size_t i = 16; i < 80; ++i) {
    w[i] = std::rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  }
  auto [a, b, c, d, e] = digest;
  for (std::size_t i = 0; i < 80; ++i) {
    std::uint32_t f = 0;
    if (i < 20) {
      f = ((b & c) | (~b & d)) + 0x5a827999;
    } else if (i < 40) {
      f = (b ^ c ^ d) + 0x6ed9eba1;
    } else if (i < 60) {
      f = ((b & c) | (b & d) | (c & d)) + 0x8f1bbcdc;
    } else {
      f = (b ^ c ^ d) + 0xca62c1d6;
    }
    const std::uint32_t next = std::rotl(a, 5) + f + e + w[i];
    e = d;
    d = c;
    c = std::rotl(b, 30);
    b = a;
    a = next;
  }
  digest = {digest[0] + a, digest[1] + b, digest[2] + c, digest[3] + d, digest[4] + e};
}

std::string sha1(std::string text) {
  const std::uint64_t bits = text.size() * 8;
  text.push_back('\x80');
  while (text.size() % 64 != 56) text.push_back('\0');
  for (int shift = 56; shift >= 0; shift -= 8) {
    text.push_back(static_cast<char>((bits >> shift) & 0xff));
  }
  Digest digest{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  for (std::size_t at = 0; at < text.size(); at += 64) {
    sha1_block(std::string_view(text).substr(at, 64), digest);
  }
  std::string raw;
  for (const std::uint32_t word : digest) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      raw.push_back(static_cast<char>((word >> shift) & 0xff));
    }
  }
  return raw;
}

std::string base64(std::string_view raw) {
  constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < raw.size(); at += 3) {
    std::uint32_t word = 0;
    for (std::size_t i = at; i < at + 3; ++i) {
      word = (word << 8) | (i < raw.size() ? static_cast<unsigned char>(raw[i]) : 0U);
    }
    const std::size_t letters = std::min<std::size_t>(raw.size() - at, 3) + 1;
    for (std::size_t i = 0; i < 4; ++i) {
      text.push_back(i < letters ? kAlphabet[(word >> (18 - 6 * i)) & 63] : '=');
    }
  }
  return text;
}

}  // namespace

std::string websocket_accept(std::string_view key) {
  return base64(sha1(std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
}

bool FrameEcho::take_header(std::string_view& in, std::string& out) {
  if (in.size() < 2) return false;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(in[i]); };
  const unsigned short_length = byte(1) & 0x7fU;
  std::size_t extra = 0;
  if (short_length == 126) extra = 2;
  if (short_length == 127) extra = 8;
  if ((byte(1) & 0x80U) == 0) {  // a client's frames are masked: 5.1
    bad_ = true;
    return false;
  }
  if (in.size() < 2 + extra + 4) return false;
  opcode_ = byte(0) & 0x0fU;
  left_ = short_length;
  if (extra > 0) {
    left_ = 0;
    for (std::size_t i = 0; i < extra; ++i) left_ = (left_ << 8) | byte(2 + i);
  }
  for (std::size_t i = 0; i < 4; ++i) mask_[i] = byte(2 + extra + i);
  masked_ = 0;
  const unsigned reply = opcode_ == kPing ? kPong : opcode_;
  out.push_back(static_cast<char>((byte(0) & 0x80U) | reply));
  out.push_back(static_cast<char>(short_length));
  out.append(in.substr(2, extra));
  in.remove_prefix(2 + extra + 4);
  in_frame_ = true;
  return true;
}

FrameEcho::Step FrameEcho::next(std::string_view& in, std::string& out) {
  for (;;) {
    if (!in_frame_ && !take_header(in, out)) return bad_ ? Step::malformed : Step::more;
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size()));
    for (std::size_t i = 0; i < size; ++i) {
      out.push_back(static_cast<char>(static_cast<unsigned char>(in[i]) ^ mask_[masked_++ % 4]));
    }
    in.remove_prefix(size);
    left_ -= size;
    if (left_ > 0) return Step::more;
    in_frame_ = false;
    if (opcode_ == kClose) return Step::closed;
  }
}

}  // namespace test_service
