// Where nodes begin and end, in every style of YAML.
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/inject/layout.h"
#include "proxy/inject/record.h"
#include "tests/support/catch.h"

using proxy::inject::find;
using proxy::inject::Node;
using proxy::inject::NodeKind;
using proxy::inject::Record;
using proxy::inject::Stream;

namespace {

// The text of the entry `key` of the first document, with its key.
std::string entry(std::string_view text, std::string_view key) {
  const auto stream = Stream::parse(text);
  REQUIRE(stream);
  const auto* child = find(*stream->documents().front(), key);
  REQUIRE(child != nullptr);
  return std::string(text.substr(child->start, child->end - child->start));
}

}  // namespace

TEST_CASE("an entry ends where its text does") {
  const std::vector<std::pair<std::string, std::string>> cases{
      {"a: b # c\nz: 1\n", "a: b"},
      {"a:\nz: 1\n", "a:"},
      {"a:   # none\nz: 1\n", "a:"},
      {"a: ~ # c\n", "a: ~"},
      {"a: null\nz:", "a: null"},
      {"a:\nnull: 1\n", "a:"},
      {"a: &x\nz: 1\n", "a: &x"},
      {"a: !!str\nz: 1\n", "a: !!str"},
      {"a: 'it''s # no'  \nz: 1", "a: 'it''s # no'"},
      {"a: \"\\\" # no\"\nz: 1", "a: \"\\\" # no\""},
      {"a: one\n two\n\n three # c\nz: 1", "a: one\n two\n\n three"},
      {"a: |\n  one\n\n  # two\n\n# c\nz: 1", "a: |\n  one\n\n  # two"},
      {"a: >-\r\n  one\r\nz: 1", "a: >-\r\n  one"},
      {"a: |2-\n   one\n  two\nz: 1", "a: |2-\n   one\n  two"},
      {"a: |\nz: 1", "a: |"},
      {"a: {b: 1, c, }  # d\nz: 1", "a: {b: 1, c, }"},
      {"a: [\n  1, # ]\n  ']'\n]\nz: 1", "a: [\n  1, # ]\n  ']'\n]"},
      {"a: []", "a: []"},
      {"a:\n- b\n- c: d\n  e:\n# f\nz: 1", "a:\n- b\n- c: d\n  e:"},
      {"x: &y 1\na: *y # c\n", "a: *y"},
      {"a: !!map &m\n  b: c\nz: 1", "a: !!map &m\n  b: c"},
      {"\xEF\xBB\xBF"
       "a: é\nz: 1",
       "a: é"},
      {"\"a\" : b\nz: 1", "\"a\" : b"},
      {"{\"a\":{\"b\":[]},\"z\":1}", "\"a\":{\"b\":[]}"},
  };
  for (const auto& [text, wanted] : cases) {
    INFO(text);
    CHECK(entry(text, "a") == wanted);
  }
}

TEST_CASE("what is no YAML has a place") {
  const auto alias = Stream::parse("a: &x {b: *x2}\n");
  REQUIRE(!alias);
  CHECK(alias.error().line == 1);
  CHECK(alias.error().column == 11);
  CHECK(Stream::parse("a: b\n\tc: d\n").error().line == 2);
  CHECK(Stream::parse(std::string_view("a\0b", 3)).error().column == 2);
  CHECK(Stream::parse(std::string(100'000, '[')).error().message.starts_with("this is not YAML"));
  CHECK(Stream::parse("").value().documents().empty());
  const auto comma = Stream::parse("a: b\n---\n, c\n");
  REQUIRE(!comma);
  CHECK(comma.error().line == 3);
  CHECK(comma.error().message == "this is not YAML: no value can begin here");
}

TEST_CASE("every document of a stream has its root") {
  const auto stream = Stream::parse("--- {a: 1}\n---\n# none\n---\n- b\n...\n");
  REQUIRE(stream);
  REQUIRE(stream->documents().size() == 3);
  CHECK(stream->documents()[0]->kind == NodeKind::map);
  CHECK(stream->documents()[1]->kind == NodeKind::null);
  CHECK(stream->documents()[2]->kind == NodeKind::list);
}

TEST_CASE("a record is read as it was written") {
  const Record record{{"/spec/volumes", "/metadata/annotations/a~1b~0c"},
                      {{"/spec/x", "x:\r\n\t\"é\" 'y' \\ # z"}, {"/y", ""}}};
  CHECK(proxy::inject::record_from(proxy::inject::to_json(record)) == record);
  CHECK(proxy::inject::record_from(proxy::inject::to_json(Record{})) == Record{});
  CHECK(proxy::inject::pointer("/a", "b/c~d") == "/a/b~1c~0d");
  CHECK(proxy::inject::split_pointer("/a/b~1c~0d") == std::vector<std::string>{"a", "b/c~d"});
  CHECK(!proxy::inject::split_pointer("a"));
  for (const auto* text :
       {"", "x", "{}", "[]", "{\"added\":1}", "{\"added\":[[]]}", "{\"added\":[],\"replaced\":[]}",
        "{\"added\":[],\"replaced\":{\"a\":[]}}"}) {
    CHECK(!proxy::inject::record_from(text));
  }
}
