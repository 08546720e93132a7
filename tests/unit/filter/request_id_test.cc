// RequestIds and RequestId: form, spread, bounds.
// Not the header: sidecar_headers_test.cc.
#include <set>
#include <string>

#include "proxy/filter/scope.h"
#include "tests/support/catch.h"

namespace proxy::filter {

TEST_CASE("request ids are UUIDs of version 4, and all different", "[filter]") {
  RequestIds ids(1);
  RequestIds other(2);
  std::set<std::string> seen;
  for (int i = 0; i < 20'000; ++i) {
    char text[36];
    (i % 2 == 0 ? ids : other).make(text);
    const std::string id(text, sizeof(text));
    CAPTURE(id);
    for (std::size_t at = 0; at < id.size(); ++at) {
      const bool dash = at == 8 || at == 13 || at == 18 || at == 23;
      const bool right =
          dash ? id[at] == '-' : std::string_view("0123456789abcdef").find(id[at]) != id.npos;
      if (!right) FAIL("bad character");
    }
    if (id[14] != '4') FAIL("not version 4");
    if (std::string_view("89ab").find(id[19]) == std::string_view::npos) FAIL("not RFC 9562");
    if (!seen.insert(id).second) FAIL("seen before");
  }
}

TEST_CASE("the same seed gives the same ids", "[filter]") {
  RequestId a;
  RequestId b;
  RequestIds first(7);
  RequestIds second(7);
  a.make(first);
  b.make(second);
  CHECK(a.view() == b.view());
  a.make(first);
  CHECK_FALSE(a.view() == b.view());
}

TEST_CASE("an id of a client is kept if it is sane", "[filter]") {
  RequestId id;
  CHECK(id.empty());
  for (const std::string& bad :
       {std::string(), std::string(129, 'a'), std::string("a b"), std::string("a\tb"),
        std::string("\x7f"), std::string("\xc3\xa9"), std::string("a\0b", 3)}) {
    CHECK_FALSE(id.keep(bad));
    CHECK(id.empty());
  }
  for (const std::string& good : {std::string("a"), std::string(128, 'a'), std::string("!{req}~/1"),
                                  std::string("1-67891233-abcdef")}) {
    CHECK(id.keep(good));
    CHECK(id.view() == good);
  }
}

}  // namespace proxy::filter
