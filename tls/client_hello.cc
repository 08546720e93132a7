// Looks into the first bytes of a connection: is it a ClientHello, and what does it ask for?
// Not a TLS session.
#include "tls/client_hello.h"

#include <algorithm>
#include <optional>

#include "tls/alpn.h"

namespace tls {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::size_t kRecordHeader = 5;
constexpr std::size_t kMaxFragment = 16 * 1024;  // RFC 8446 5.1
constexpr std::size_t kHandshakeHeader = 4;
constexpr unsigned kHandshakeRecord = 22;
constexpr unsigned kClientHelloType = 1;
constexpr unsigned kServerName = 0;
constexpr unsigned kAlpn = 16;
constexpr unsigned kSupportedVersions = 43;

// Takes big-endian numbers and length-prefixed vectors off the front; after the first lie it is
// bad and gives only zeros and empty vectors.
class Cursor {
 public:
  explicit Cursor(Bytes bytes) : rest_(bytes) {}

  bool good() const noexcept { return good_; }
  bool empty() const noexcept { return rest_.empty(); }

  std::size_t number(std::size_t width) noexcept {
    std::size_t value = 0;
    for (const std::byte b : take(width)) value = value << 8 | std::to_integer<std::size_t>(b);
    return value;
  }

  Bytes take(std::size_t n) noexcept {
    if (n > rest_.size()) {
      good_ = false;
      rest_ = {};
      return {};
    }
    const Bytes taken = rest_.first(n);
    rest_ = rest_.subspan(n);
    return taken;
  }

  Bytes vector(std::size_t width) noexcept { return take(number(width)); }

 private:
  Bytes rest_;
  bool good_ = true;
};

std::string text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// RFC 6066 3: one host_name, not empty, and we take printable ASCII only.
bool parse_server_name(Bytes extension, ClientHello& hello) {
  Cursor outer(extension);
  Cursor list(outer.vector(2));
  while (list.good() && !list.empty()) {
    const std::size_t type = list.number(1);
    const Bytes name = list.vector(2);
    if (type != 0) continue;
    if (!hello.sni.empty() || name.empty() || name.size() > 255) return false;
    const bool printable = std::all_of(name.begin(), name.end(), [](std::byte b) {
      return b > std::byte{0x20} && b < std::byte{0x7f};
    });
    if (!printable) return false;
    hello.sni = text_of(name);
  }
  return outer.good() && outer.empty() && list.good();
}

// RFC 7301 3.1.
bool parse_alpn(Bytes extension, ClientHello& hello) {
  Cursor outer(extension);
  Cursor list(outer.vector(2));
  while (list.good() && !list.empty()) {
    const Bytes name = list.vector(1);
    if (name.empty()) return false;
    hello.alpn.push_back(text_of(name));
  }
  return outer.good() && outer.empty() && list.good() && !hello.alpn.empty();
}

// RFC 8446 4.2.1.
bool parse_versions(Bytes extension, ClientHello& hello) {
  Cursor outer(extension);
  Cursor list(outer.vector(1));
  hello.versions.clear();
  while (list.good() && !list.empty())
    hello.versions.push_back(static_cast<std::uint16_t>(list.number(2)));
  return outer.good() && outer.empty() && list.good() && !hello.versions.empty();
}

bool parse_extensions(Bytes bytes, ClientHello& hello) {
  Cursor list(bytes);
  unsigned seen = 0;  // a bit for each extension we read: they come once (RFC 8446 4.2)
  while (list.good() && !list.empty()) {
    const std::size_t type = list.number(2);
    const Bytes extension = list.vector(2);
    if (!list.good()) return false;
    const unsigned bit = type == kServerName          ? 1
                         : type == kAlpn              ? 2
                         : type == kSupportedVersions ? 4
                                                      : 0;
    if ((seen & bit) != 0) return false;
    seen |= bit;
    if (bit == 1 && !parse_server_name(extension, hello)) return false;
    if (bit == 2 && !parse_alpn(extension, hello)) return false;
    if (bit == 4 && !parse_versions(extension, hello)) return false;
  }
  return list.good();
}

// RFC 8446 4.1.2, behind the handshake header.
bool parse_hello(Bytes body, ClientHello& hello) {
  Cursor at(body);
  const auto legacy_version = static_cast<std::uint16_t>(at.number(2));
  at.take(32);  // random
  const Bytes session_id = at.vector(1);
  const Bytes ciphers = at.vector(2);
  const Bytes compressions = at.vector(1);
  if (!at.good() || session_id.size() > 32 || ciphers.size() < 2 || ciphers.size() % 2 != 0 ||
      compressions.empty())
    return false;
  hello.versions.push_back(legacy_version);
  if (at.empty()) return true;  // TLS 1.2 without extensions
  const Bytes extensions = at.vector(2);
  return at.good() && at.empty() && parse_extensions(extensions, hello);
}

Peek need(std::size_t wanted) {
  Peek peek;
  peek.kind = wanted > kMaxClientHello ? Peek::Kind::too_large : Peek::Kind::need_more;
  peek.wanted = wanted;
  return peek;
}

Peek of_kind(Peek::Kind kind) {
  Peek peek;
  peek.kind = kind;
  return peek;
}

// What the first bytes say before a whole record header is there.
std::optional<Peek> check_record_header(Bytes at) {
  if (!at.empty() && std::to_integer<unsigned>(at[0]) != kHandshakeRecord)
    return of_kind(Peek::Kind::not_tls);
  if (at.size() > 1 && std::to_integer<unsigned>(at[1]) != 3) return of_kind(Peek::Kind::not_tls);
  return std::nullopt;
}

std::size_t length_at(Bytes bytes, std::size_t at, std::size_t width) {
  return Cursor(bytes.subspan(at)).number(width);
}

Peek finish(Bytes body) {
  Peek peek;
  peek.kind = parse_hello(body, peek.hello) ? Peek::Kind::hello : Peek::Kind::malformed;
  if (peek.kind == Peek::Kind::malformed) peek.hello = {};
  return peek;
}

}  // namespace

bool ClientHello::offers_mesh_alpn() const noexcept {
  return std::any_of(alpn.begin(), alpn.end(),
                     [](const std::string& protocol) { return alpn::is_mesh(protocol); });
}

Peek peek(std::span<const std::byte> bytes) {
  std::vector<std::byte> joined;  // used only when the hello is cut over several records
  std::size_t at = 0;             // start of the current record
  while (true) {
    const Bytes record = bytes.subspan(at);
    if (const auto early = check_record_header(record))
      return at == 0 ? *early : of_kind(Peek::Kind::malformed);
    if (record.size() < kRecordHeader) return need(at + kRecordHeader);
    const std::size_t length = length_at(record, 3, 2);
    if (length == 0 || length > kMaxFragment) return of_kind(Peek::Kind::malformed);
    const Bytes fragment =
        record.subspan(kRecordHeader, std::min(length, record.size() - kRecordHeader));
    const bool whole = fragment.size() == length;
    const std::size_t have = joined.size() + fragment.size();
    if (joined.empty() && !fragment.empty() &&
        std::to_integer<unsigned>(fragment[0]) != kClientHelloType)
      return of_kind(Peek::Kind::malformed);
    if (joined.empty() && fragment.size() >= kHandshakeHeader) {
      // The usual case: everything that matters is in this one record.
      const std::size_t size = kHandshakeHeader + length_at(fragment, 1, 3);
      if (kRecordHeader + size > kMaxClientHello) return of_kind(Peek::Kind::too_large);
      if (have >= size) return finish(fragment.subspan(kHandshakeHeader, size - kHandshakeHeader));
      if (!whole) return need(kRecordHeader + std::min(length, size));
    }
    if (joined.empty() && !whole) return need(kRecordHeader + std::min(length, kHandshakeHeader));
    if (!whole) return need(at + kRecordHeader + length);
    at += kRecordHeader + length;
    if (at > kMaxClientHello) return of_kind(Peek::Kind::too_large);
    joined.insert(joined.end(), fragment.begin(), fragment.end());
    if (have >= kHandshakeHeader) {
      const std::size_t size = kHandshakeHeader + length_at(joined, 1, 3);
      if (size > kMaxClientHello) return of_kind(Peek::Kind::too_large);
      if (have >= size)
        return finish(Bytes(joined).subspan(kHandshakeHeader, size - kHandshakeHeader));
    }
    if (at == bytes.size()) return need(at + kRecordHeader);
  }
}

}  // namespace tls
