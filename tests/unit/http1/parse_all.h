// Feeds a parser in pieces and writes down what it told, for comparison.
// Not a test by itself.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/chain.h"
#include "proxy/http1/parser.h"

namespace proxy::test {

struct Told {
  unsigned started = 0;
  std::vector<std::string> heads;  // "GET /x a | X: y | ..." one line a head
  std::string body;                // of all messages
  std::string trailers;
  unsigned ends = 0;
  Code code = Code::none;
  http::Fault fault = http::Fault::none;
  bool leaked_framing = false;  // a head still had a field that the codec must take out
  bool operator==(const Told&) const = default;
};

inline std::string fields_of(const http::HeaderMap& headers) {
  std::string text;
  for (const auto& field : headers.fields()) {
    if (field.removed) continue;
    text += " | ";
    text += headers.name(field);
    text += ": ";
    text += headers.value(field);
  }
  return text;
}

inline std::string describe(const http::RequestHead& head) {
  std::string text(head.method_view());
  text += ' ';
  text += head.target_view();
  text += ' ';
  text += head.authority_view();
  if (head.version == http::Version::http10) text += " 1.0";
  if (head.body.kind == http::BodyLength::Kind::known)
    text += " " + std::to_string(head.body.bytes);
  if (head.body.kind == http::BodyLength::Kind::unknown) text += " chunked";
  if (head.upgrade.length != 0) text += " upgrade=" + std::string(head.upgrade_view());
  return text + fields_of(head.headers);
}

inline std::string describe(const http::ResponseHead& head) {
  std::string text = std::to_string(head.status);
  text += ' ';
  text += head.reason_view();
  if (head.body.kind == http::BodyLength::Kind::known)
    text += " " + std::to_string(head.body.bytes);
  if (head.body.kind == http::BodyLength::Kind::unknown) text += " unknown";
  if (head.has_declared_length) text += " declared " + std::to_string(head.declared_length);
  return text + fields_of(head.headers);
}

inline bool carries_framing(const http::HeaderMap& headers) {
  for (const http::NameId id :
       {http::NameId::content_length, http::NameId::transfer_encoding, http::NameId::host,
        http::NameId::connection, http::NameId::upgrade, http::NameId::keep_alive}) {
    if (headers.count(id) != 0) return true;
  }
  return false;
}

// Pulls everything out of `in`; one message after another.
template <class Parser>
void pull(Parser& parser, Chain& in, Told& told) {
  while (true) {
    switch (parser.next(in)) {
      case http1::Step::more:
        return;
      case http1::Step::started:
        ++told.started;
        break;
      case http1::Step::informational:
      case http1::Step::head:
        told.heads.push_back(describe(parser.head()));
        told.leaked_framing |= carries_framing(parser.head().headers);
        break;
      case http1::Step::body: {
        const Chain body = parser.take_body();
        const std::size_t before = told.body.size();
        told.body.resize(before + body.size());
        body.copy_to(std::as_writable_bytes(std::span(told.body).subspan(before)));
        break;
      }
      case http1::Step::end:
        told.trailers += fields_of(parser.trailers());
        ++told.ends;
        parser.reset();
        break;
      case http1::Step::refused:
        told.code = parser.code();
        told.fault = parser.fault();
        return;
    }
  }
}

// `cuts`: where `raw` is split. Stops early once it was refused.
inline Told parse_requests(std::string_view raw, const std::vector<std::size_t>& cuts,
                           const http1::Limits& limits = {}) {
  ChunkPool pool;
  Told told;
  {
    http1::RequestParser parser(limits);
    std::size_t from = 0;
    for (std::size_t i = 0; i <= cuts.size() && told.code == Code::none; ++i) {
      const std::size_t to = i < cuts.size() ? cuts[i] : raw.size();
      Chain in;
      in.append_copy(pool, raw.substr(from, to - from));
      pull(parser, in, told);
      from = to;
    }
  }
  if (pool.outstanding() != 0) told.body = "LEAK";
  return told;
}

struct ResponseSetting {
  bool head = false;
  std::string_view upgrade = {};
  bool eof = false;  // the connection ends after the last byte
};

inline Told parse_responses(std::string_view raw, const std::vector<std::size_t>& cuts,
                            ResponseSetting setting = {}, const http1::Limits& limits = {}) {
  ChunkPool pool;
  Told told;
  {
    http1::ResponseParser parser(limits);
    parser.expect(setting.head, setting.upgrade);
    std::size_t from = 0;
    for (std::size_t i = 0; i <= cuts.size() && told.code == Code::none; ++i) {
      const std::size_t to = i < cuts.size() ? cuts[i] : raw.size();
      Chain in;
      in.append_copy(pool, raw.substr(from, to - from));
      pull(parser, in, told);
      from = to;
    }
    if (setting.eof && told.code == Code::none) {
      if (parser.on_eof() == http1::Step::end) {
        ++told.ends;
      } else {
        told.code = parser.code();
        told.fault = parser.fault();
      }
    }
  }
  if (pool.outstanding() != 0) told.body = "LEAK";
  return told;
}

inline std::vector<std::size_t> every_byte(std::string_view raw) {
  std::vector<std::size_t> cuts;
  for (std::size_t i = 1; i < raw.size(); ++i) cuts.push_back(i);
  return cuts;
}

}  // namespace proxy::test
