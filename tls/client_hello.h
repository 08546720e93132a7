// Looks into the first bytes of a connection: is it a ClientHello, and what does it ask for?
// Not a TLS session: nothing is consumed, the same bytes are fed to a Session afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tls {

/// The most bytes, record headers included, that a ClientHello may take.
inline constexpr std::size_t kMaxClientHello = 16 * 1024;

struct ClientHello {
  std::string sni;                      // host_name of the server_name extension; empty when none
  std::vector<std::string> alpn;        // the offer, in order
  std::vector<std::uint16_t> versions;  // supported_versions, else the one legacy_version
  bool offers_mesh_alpn() const noexcept;  // any entry for which alpn::is_mesh()
};

struct Peek {
  enum class Kind : std::uint8_t {
    need_more,  // fine so far; `wanted` bytes in total are needed at least to say more
    not_tls,    // the first bytes are no TLS handshake record
    too_large,  // more than kMaxClientHello would be needed
    malformed,  // begins as TLS but its lengths or types contradict each other: refuse it; a
                // Session fed with the bytes writes the proper alert
    hello,      // `hello` is complete
  };
  Kind kind = Kind::need_more;
  std::size_t wanted = 0;  // need_more: > first_bytes.size(), <= kMaxClientHello
  ClientHello hello;
};

/// Pure function of the bytes from the very start of the connection (RFC 8446 4.1.2, 5.1; RFC 6066
/// 3; RFC 7301 3.1). Give it all of them again when more have come. A ClientHello may be cut over
/// several records. Never reads outside `first_bytes`; memory is bounded by kMaxClientHello.
Peek peek(std::span<const std::byte> first_bytes);

}  // namespace tls
