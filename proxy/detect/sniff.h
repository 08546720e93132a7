// What a connection speaks, by the first bytes of its client, and of its server.
// Not a parser: what is taken for HTTP is judged by the codec, TLS by tls/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace proxy::detect {

enum class Protocol : std::uint8_t {
  unclear,  // all of them may still be; more bytes are needed
  tls,      // begins like a handshake record (RFC 8446 5.1)
  http2,    // the preface of a client with prior knowledge (RFC 9113 3.4)
  http1,    // a request line
  tcp,      // none of these
};

// A request line that is longer than this and still has no end is HTTP: whoever sent "GET /" and
// so much more surely meant it.
inline constexpr std::size_t kMaxSniffed = 4096;

// `bytes`: all that came since the beginning, of which the first kMaxSniffed are looked at. Takes
// "METHOD SP target SP HTTP/" for HTTP/1, with the methods that llhttp knows and empty lines before
// it (RFC 9112 2.2), so that text protocols which also begin with a word in capitals ("PUB x 5",
// "EHLO x", "CONNECT {}") are TCP as soon as they are no request line.
Protocol sniff(std::span<const std::byte> bytes) noexcept;

// Of bytes that are known to be HTTP: http2 for its preface (RFC 9113 3.4), unclear for a part of
// it, http1 for all else, whose codec says what is wrong with it. kPrefaceSize bytes tell.
Protocol http_version(std::span<const std::byte> bytes) noexcept;
inline constexpr std::size_t kPrefaceSize = 24;

// Whether a server's first bytes are the head of the frame with which servers of HTTP/2 begin
// (RFC 9113 3.4, 4.1, 6.5): SETTINGS that acknowledge nothing, on stream 0, in whole settings.
inline constexpr std::size_t kFrameHeadSize = 9;
bool is_settings(std::span<const std::byte, kFrameHeadSize> head) noexcept;

}  // namespace proxy::detect
