// ClientHellos whole, cut at each byte, cut into records, and with every kind of lie in them.
// Not what OpenSSL makes of them (handshake_test.cc).
#include "tls/client_hello.h"

#include <algorithm>
#include <memory>

#include "tests/unit/tls/pair.h"

using tls::Peek;
using Kind = Peek::Kind;

namespace {

using Text = std::vector<std::uint8_t>;

void put(Text& text, std::size_t value, int width) {
  for (int i = width - 1; i >= 0; --i) text.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void put(Text& text, const Text& more) {
  text.insert(text.end(), more.begin(), more.end());
}

Text vector(const Text& content, int width) {
  Text text;
  put(text, content.size(), width);
  put(text, content);
  return text;
}

Text ascii(std::string_view text) {
  return {text.begin(), text.end()};
}

Text extension(std::size_t type, const Text& content) {
  Text text;
  put(text, type, 2);
  put(text, vector(content, 2));
  return text;
}

Text server_name(std::string_view name) {
  Text entry{0};
  put(entry, vector(ascii(name), 2));
  return extension(0, vector(entry, 2));
}

Text alpn(const std::vector<std::string>& names) {
  Text list;
  for (const std::string& name : names) put(list, vector(ascii(name), 1));
  return extension(16, vector(list, 2));
}

Text versions(const std::vector<std::uint16_t>& list) {
  Text content;
  for (const std::uint16_t version : list) put(content, version, 2);
  return extension(43, vector(content, 1));
}

// The handshake message; `extensions` may be null for none at all.
Text message(const Text* extensions, std::size_t session_id = 32) {
  Text body{3, 3};
  body.resize(34, 0xaa);
  put(body, vector(Text(session_id, 1), 1));
  put(body, vector({0x13, 0x01}, 2));
  put(body, vector({0}, 1));
  if (extensions != nullptr) put(body, vector(*extensions, 2));
  Text text{1};
  put(text, vector(body, 3));
  return text;
}

Text records(const Text& text, std::size_t fragment) {
  Text out;
  for (std::size_t at = 0; at < text.size(); at += fragment) {
    put(out, {22, 3, 1});
    const auto from = text.begin() + static_cast<std::ptrdiff_t>(at);
    const auto size = static_cast<std::ptrdiff_t>(std::min(fragment, text.size() - at));
    put(out, vector(Text(from, from + size), 2));
  }
  return out;
}

Text usual() {
  Text extensions;
  put(extensions, extension(10, {0, 2, 0, 29}));
  put(extensions, server_name("outbound_.80_._.web"));
  put(extensions, alpn({"istio-http/1.1", "istio", "http/1.1"}));
  put(extensions, versions({0x0304, 0x0303}));
  return message(&extensions);
}

// In memory of exactly that size, so that a sanitizer sees a read outside.
Peek peek(const Text& text, std::size_t size) {
  const auto exact = std::make_unique<std::byte[]>(size);
  std::transform(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size), exact.get(),
                 [](std::uint8_t b) { return std::byte{b}; });
  return tls::peek({exact.get(), size});
}

Peek peek(const Text& text) {
  return peek(text, text.size());
}

Kind kind_with(const Text& extensions) {
  return peek(records(message(&extensions), 16384)).kind;
}

void check_usual(const Peek& found) {
  REQUIRE(found.kind == Kind::hello);
  CHECK(found.hello.sni == "outbound_.80_._.web");
  CHECK(found.hello.alpn == std::vector<std::string>{"istio-http/1.1", "istio", "http/1.1"});
  CHECK(found.hello.versions == std::vector<std::uint16_t>{0x0304, 0x0303});
  CHECK(found.hello.offers_mesh_alpn());
}

}  // namespace

TEST_CASE("a ClientHello is read at any fragmentation and any cut") {
  const Text hello = usual();
  for (const std::size_t fragment : {1, 2, 3, 4, 5, 50, 100, 16384}) {
    const Text text = records(hello, fragment);
    for (std::size_t size = 0; size < text.size(); ++size) {
      const Peek found = peek(text, size);
      REQUIRE(found.kind == Kind::need_more);
      REQUIRE(found.wanted > size);
      REQUIRE(found.wanted <= text.size());
    }
    check_usual(peek(text));
  }
}

TEST_CASE("what follows the ClientHello does not matter") {
  Text text = records(usual(), 16384);
  put(text, {1, 2, 3, 4, 5, 6, 7, 8});
  check_usual(peek(text));
}

TEST_CASE("a short ClientHello in the longest record is read as soon as it is there") {
  Text text = usual();
  const std::size_t end = 5 + text.size();
  text.resize(16384);
  text = records(text, 16384);
  for (std::size_t size = 0; size < end; ++size) {
    const Peek found = peek(text, size);
    REQUIRE(found.kind == Kind::need_more);
    REQUIRE(found.wanted > size);
    REQUIRE(found.wanted <= end);
  }
  check_usual(peek(text, end));
}

TEST_CASE("a real ClientHello is read") {
  test::Mesh mesh;
  tls::ClientTarget target;
  target.sni = "web.default";
  target.alpn = tls::alpn::list(tls::alpn::kClientHttp2);
  test::End client(mesh.client_context(), target);
  client.session.start(client.out);
  const Peek found = tls::peek(client.out.bytes);
  REQUIRE(found.kind == Kind::hello);
  CHECK(found.hello.sni == "web.default");
  CHECK(found.hello.alpn == target.alpn);
  CHECK(found.hello.versions == std::vector<std::uint16_t>{0x0304, 0x0303});
}

TEST_CASE("extensions may be absent") {
  const Peek bare = peek(records(message(nullptr), 16384));
  REQUIRE(bare.kind == Kind::hello);
  CHECK(bare.hello.sni.empty());
  CHECK(bare.hello.alpn.empty());
  CHECK(bare.hello.versions == std::vector<std::uint16_t>{0x0303});
  CHECK_FALSE(bare.hello.offers_mesh_alpn());
  const Text none;
  CHECK(peek(records(message(&none), 16384)).kind == Kind::hello);
}

TEST_CASE("the mesh is known by its ALPN") {
  for (const auto& [name, mesh] :
       {std::pair("istio-http/1.0", true), std::pair("istio-http/1.1", true),
        std::pair("istio-h2", true), std::pair("istio-peer-exchange", true),
        std::pair("istio", true), std::pair("h2", false), std::pair("http/1.1", false),
        std::pair("istio-h", false), std::pair("istio-http/1.12", false)}) {
    const Text extensions = alpn({"http/0.9", name});
    CHECK(peek(records(message(&extensions), 16384)).hello.offers_mesh_alpn() == mesh);
  }
}

TEST_CASE("other first bytes are no TLS, as soon as they are seen") {
  for (const std::string_view text : {"G", "GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "SSH-2.0-",
                                      "\x16\x02", "\x15\x03\x01", "\x17", "\x80\x2e\x01"})
    CHECK(peek(ascii(text)).kind == Kind::not_tls);
  CHECK(peek(ascii("\x16")).kind == Kind::need_more);
  CHECK(peek({}).kind == Kind::need_more);
  CHECK(peek({}).wanted == 5);
}

TEST_CASE("a ClientHello larger than the bound is refused before it is there") {
  // By its own length, in the first bytes.
  CHECK(peek({22, 3, 1, 0, 4, 1, 0, 0x40, 0}).kind == Kind::too_large);
  CHECK(peek({22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff}).kind == Kind::too_large);
  // By the headers of many small records around it.
  Text extensions = extension(21, Text(8000, 0));
  const Text padded = message(&extensions);
  CHECK(peek(records(padded, 16384)).kind == Kind::hello);
  CHECK(peek(records(padded, 1)).kind == Kind::too_large);
  // One that just fits.
  extensions = extension(21, Text(16384 - 5 - 4 - 34 - 33 - 4 - 2 - 2 - 4, 0));
  const Text fits = records(message(&extensions), 16384);
  REQUIRE(fits.size() == tls::kMaxClientHello);
  CHECK(peek(fits).kind == Kind::hello);
  CHECK(peek(fits, fits.size() - 1).kind == Kind::need_more);
}

TEST_CASE("lengths that contradict each other are malformed") {
  CHECK(peek({22, 3, 1, 0, 0}).kind == Kind::malformed);              // an empty record
  CHECK(peek({22, 3, 1, 0x40, 1}).kind == Kind::malformed);           // a record of 16,385 bytes
  CHECK(peek({22, 3, 1, 0, 4, 2, 0, 0, 0}).kind == Kind::malformed);  // a ServerHello
  CHECK(peek({22, 3, 1, 0, 4, 1, 0, 0, 0}).kind == Kind::malformed);  // nothing in it
  Text second = records(usual(), 50);
  second[55] = 23;  // application data in the middle
  CHECK(peek(second).kind == Kind::malformed);
  CHECK(peek(records(message(nullptr, 33), 16384)).kind == Kind::malformed);  // session id
}

TEST_CASE("extensions that lie are malformed") {
  CHECK(kind_with({0}) == Kind::malformed);
  CHECK(kind_with({0, 0}) == Kind::malformed);
  CHECK(kind_with({0, 0, 0, 5, 0}) == Kind::malformed);
  CHECK(kind_with(extension(0, {})) == Kind::malformed);
  CHECK(kind_with(extension(0, {0, 9, 0})) == Kind::malformed);
  CHECK(kind_with(server_name("")) == Kind::malformed);
  CHECK(kind_with(server_name(std::string(256, 'a'))) == Kind::malformed);
  CHECK(kind_with(server_name("a b")) == Kind::malformed);
  CHECK(kind_with(server_name(std::string_view("a\0b", 3))) == Kind::malformed);
  CHECK(kind_with(server_name("a\nb")) == Kind::malformed);
  CHECK(kind_with(extension(16, {0, 0})) == Kind::malformed);
  CHECK(kind_with(alpn({"h2", ""})) == Kind::malformed);
  CHECK(kind_with(extension(16, {0, 3, 9, 'h', '2'})) == Kind::malformed);
  CHECK(kind_with(extension(16, {0, 3, 2, 'h', '2', 'x'})) == Kind::malformed);
  CHECK(kind_with(extension(43, {0})) == Kind::malformed);
  CHECK(kind_with(extension(43, {3, 3, 4, 3})) == Kind::malformed);
  Text twice = server_name("a");
  put(twice, server_name("b"));
  CHECK(kind_with(twice) == Kind::malformed);
}

TEST_CASE("no single changed byte leads outside or over the bound") {
  const Text good = records(usual(), 60);
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      Text text = good;
      text[at] = static_cast<std::uint8_t>(value);
      const Peek found = peek(text);
      if (found.kind == Kind::need_more) {
        REQUIRE(found.wanted > text.size());
        REQUIRE(found.wanted <= tls::kMaxClientHello);
      }
      if (found.kind != Kind::hello) REQUIRE(found.hello.sni.empty());
    }
  }
}
