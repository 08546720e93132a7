// SHA-1 and base64 by OpenSSL.
// Not a WebSocket implementation: frames pass through the proxy unread.
#include "tls/websocket.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <string>

namespace tls {
namespace {

template <std::size_t Size, std::size_t Bytes>
std::array<char, Size> base64(const std::array<unsigned char, Bytes>& bytes) noexcept {
  std::array<unsigned char, Size + 1> text{};  // EVP_EncodeBlock ends it with a 0
  EVP_EncodeBlock(text.data(), bytes.data(), static_cast<int>(Bytes));
  std::array<char, Size> made;
  std::copy_n(text.begin(), Size, made.begin());
  return made;
}

}  // namespace

WebsocketKey make_websocket_key() noexcept {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) bytes.fill(0);
  return base64<24>(bytes);
}

WebsocketAccept websocket_accept(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return base64<28>(digest);
}

}  // namespace tls
