// HeaderMap: names, order, removal, storage.
#include "proxy/http/header_map.h"

#include <string>
#include <utility>

#include "proxy/http/message.h"
#include "tests/support/catch.h"

namespace proxy::http {
namespace {

std::string text(const HeaderMap& headers) {
  std::string all;
  for (const auto& field : headers.fields()) {
    if (field.removed) continue;
    all += std::string(headers.name(field)) + "=" + std::string(headers.value(field)) + ";";
  }
  return all;
}

}  // namespace

TEST_CASE("every known name is found in any case, and nothing else", "[unit]") {
#define HOPLITE_HEADER(id, name)               \
  CHECK(find_name(name) == NameId::id);        \
  CHECK(name_text(NameId::id) == name);        \
  CHECK(find_name(name "x") == NameId::other); \
  CHECK(find_name(std::string_view(name).substr(1)) == NameId::other);
#include "proxy/http/header_names.def"
#undef HOPLITE_HEADER
  CHECK(find_name("HOST") == NameId::host);
  CHECK(find_name("Content-LENGTH") == NameId::content_length);
  CHECK(find_name("content_length") == NameId::other);
  CHECK(find_name("content\rlength") == NameId::other);  // '\r' | 0x20 is '-'
  CHECK(find_name("") == NameId::other);
  CHECK(find_name("x") == NameId::other);
  CHECK(find_name(std::string(1000, 'x')) == NameId::other);
}

TEST_CASE("order, case and repetition are kept", "[unit]") {
  HeaderMap headers;
  headers.add("X-B", "1");
  headers.add("x-a", "2");
  headers.add("X-b", "3");
  headers.add(NameId::server, "hoplite");
  CHECK(text(headers) == "X-B=1;x-a=2;X-b=3;server=hoplite;");
  CHECK(headers.get("X-b") == "1");
  CHECK(headers.get(NameId::server) == "hoplite");
  CHECK_FALSE(headers.get("nothing"));
  CHECK(headers.remove("x-B") == 2);
  CHECK(headers.size() == 2);
  CHECK(text(headers) == "x-a=2;server=hoplite;");
}

TEST_CASE("set replaces in place, or adds", "[unit]") {
  HeaderMap headers;
  headers.add("Server", "a");
  headers.add("x", "1");
  headers.add("server", "b");
  headers.set(NameId::server, "c");
  CHECK(text(headers) == "server=c;x=1;");
  // The value may be a view of the map's own text.
  headers.set(NameId::date, *headers.get(NameId::server));
  CHECK(text(headers) == "server=c;x=1;date=c;");
  for (int i = 0; i < 100; ++i) headers.set(NameId::date, *headers.get(NameId::date));
  CHECK(headers.get(NameId::date) == "c");
}

TEST_CASE("texts survive growth, moves swap storage", "[unit]") {
  HeaderMap headers;
  const Text target = headers.put("/path");
  for (int i = 0; i < 100; ++i) headers.add("name", std::string(100, 'x'));
  CHECK(headers.view(target) == "/path");
  HeaderMap other;
  other = std::move(headers);
  CHECK(other.size() == 100);
  CHECK(headers.empty());  // NOLINT: a move is a swap here
  other.clear();
  CHECK(other.empty());
  CHECK(other.block().capacity() > 1000);
  other.block().reserve(100'000);
  other.clear();
  CHECK(other.block().capacity() < 1000);  // what one huge head took is given back
}

TEST_CASE("methods", "[unit]") {
  CHECK(find_method("GET") == Method::get);
  CHECK(find_method("get") == Method::other);
  CHECK(is_known_method("PROPFIND"));
  CHECK(is_known_method("GET"));
  for (const char* refused : {"CONNECT", "PRI", "SOURCE", "DESCRIBE", "FROB", "get", ""}) {
    CHECK_FALSE(is_known_method(refused));
  }
  CHECK(is_idempotent(Method::del));
  CHECK_FALSE(is_idempotent(Method::post));
  CHECK_FALSE(is_idempotent(Method::other));
}

}  // namespace proxy::http
