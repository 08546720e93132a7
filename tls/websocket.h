// The handshake values of RFC 6455 4: they need SHA-1 and random bytes, and only this folder knows
// OpenSSL. A WebSocket over HTTP/2 has neither key nor accept (RFC 8441 5), so whoever crosses to
// or from HTTP/1 makes them.
// Not a security feature: the protocol uses the digest to prove that the peer has read the key.
#pragma once

#include <array>
#include <string_view>

namespace tls {

using WebsocketKey = std::array<char, 24>;
using WebsocketAccept = std::array<char, 28>;

// 16 random bytes in base64; all zero bytes if the system has no random ones.
WebsocketKey make_websocket_key() noexcept;
// What a server answers to `key` (Sec-WebSocket-Key as it came).
WebsocketAccept websocket_accept(std::string_view key);

}  // namespace tls
