// How values are written: quotes where they are needed, and the layout of lines.
#include <string>

#include <yaml-cpp/yaml.h>

#include "proxy/inject/value.h"
#include "tests/support/catch.h"

using proxy::inject::json;
using proxy::inject::Layout;
using proxy::inject::List;
using proxy::inject::Map;
using proxy::inject::pretty_json;
using proxy::inject::Value;
using proxy::inject::yaml_entry;
using proxy::inject::yaml_item;
using proxy::inject::yaml_scalar;

TEST_CASE("a text is plain only when no version of YAML doubts it") {
  for (const auto* plain : {"podinfo", "NET_ADMIN", "/etc/hoplite/certs", "metadata.name",
                            "prometheus.io/scrape", "v1.2.3", "Infinity", "inf", "e1"}) {
    CHECK(yaml_scalar(plain) == plain);
  }
  CHECK(yaml_scalar("true") == "\"true\"");
  CHECK(yaml_scalar("9797") == "\"9797\"");
  CHECK(yaml_scalar("1.10") == "\"1.10\"");
  CHECK(yaml_scalar("No") == "\"No\"");
  CHECK(yaml_scalar("") == "\"\"");
  CHECK(yaml_scalar("a: b") == "\"a: b\"");
  CHECK(yaml_scalar("say \"it's\"") == "'say \"it''s\"'");
  CHECK(yaml_scalar("a\nb") == "\"a\\nb\"");
  CHECK(yaml_scalar("\x7f\u0085\u2028é\"\\") == "\"\\u007f\\u0085\\u2028é\\\"\\\\\"");
}

TEST_CASE("every byte of a text comes back") {
  for (int c = 1; c < 256; ++c) {
    auto text = std::string("a") + (c < 0x80 ? std::string(1, static_cast<char>(c))
                                             : std::string{static_cast<char>(0xc0 | (c >> 6)),
                                                           static_cast<char>(0x80 | (c & 0x3f))});
    INFO(c);
    CHECK(YAML::Load(yaml_scalar(text)).Scalar() == text);
    text.erase(0, 1);
    CHECK(YAML::Load("{" + json(Map{{text, text}}).substr(1))[text].Scalar() == text);
  }
}

TEST_CASE("lines are indented under what they belong to") {
  const Value value(Map{{"a", 1},
                        {"b", List{Map{{"c", true}, {"d", Map{{"e", "yes"}}}}, "f", List{2, "g"}}},
                        {"h", Map{}},
                        {"i", List{}}});
  Layout layout;
  layout.indent = "  ";
  CHECK(yaml_entry("k", value, layout) ==
        "k:\n    a: 1\n    b:\n      - c: true\n        d:\n          e: \"yes\"\n      - f\n"
        "      - - 2\n        - g\n    h: {}\n    i: []");
  layout.lists_indented = false;
  layout.line_end = "\r\n";
  CHECK(yaml_entry("k", List{1}, layout) == "k:\r\n  - 1");
  CHECK(yaml_item(Map{{"a", List{1}}, {"b", 2}}, layout) == "- a:\r\n    - 1\r\n    b: 2");
  CHECK(json(value) ==
        R"({"a": 1, "b": [{"c": true, "d": {"e": "yes"}}, "f", [2, "g"]], "h": {}, "i": []})");
  layout.indent = "\t";
  layout.step = "\t";
  layout.line_end = "\n";
  CHECK(pretty_json(Map{{"a", List{1, 2}}}, layout) ==
        "{\n\t\t\"a\": [\n\t\t\t1,\n\t\t\t2\n\t\t]\n\t}");
}
