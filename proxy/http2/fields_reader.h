// FieldsReader: decoded header fields to a head that can be passed on, judged as strictly as an
// HTTP/1 head, by the rules of RFC 9113 8 and with the same code for what both have in common.
// Not HPACK: nghttp2 has decoded the fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "proxy/http/fault.h"
#include "proxy/http/header_map.h"
#include "proxy/http/message.h"
#include "proxy/http2/limits.h"

namespace proxy::http2 {

// One header block at a time: blocks of different streams never mix on a connection.
class FieldsReader {
 public:
  enum class Kind : std::uint8_t { request, response, trailers };

  explicit FieldsReader(const Limits& limits) noexcept : limits_(limits) {}

  // Fields go into `headers`, which is cleared.
  void begin(Kind kind, http::HeaderMap& headers);
  // False when the block is a bomb: so far past the limits that not even its decoding is worth it.
  bool take(std::string_view name, std::string_view value);

  // After the last field. `head.headers` is what begin() was given. Not none: the message is
  // refused. Content-Length stays what it said, also of a body that END_STREAM has ended.
  http::Fault finish_request(http::RequestHead& head, bool end_stream);
  http::Fault finish_response(http::ResponseHead& head, bool end_stream, bool to_head_request);
  http::Fault finish_trailers(bool end_stream);

 private:
  struct Pseudo {
    bool there = false;
    http::Text text;
  };
  Pseudo* pseudo_of(std::string_view name) noexcept;
  void take_pseudo(std::string_view name, std::string_view value);
  void take_field(std::string_view name, std::string_view value);
  std::string_view view(const Pseudo& pseudo) const noexcept;
  http::Fault read_method(http::RequestHead& head);
  http::Fault read_target(http::RequestHead& head);
  http::Fault read_authority(http::RequestHead& head);
  void join_cookies();

  const Limits& limits_;
  Kind kind_ = Kind::request;
  http::HeaderMap* headers_ = nullptr;
  http::Fault fault_ = http::Fault::none;
  std::size_t bytes_ = 0;
  std::size_t fields_ = 0;
  bool regular_seen_ = false;
  Pseudo method_;
  Pseudo scheme_;
  Pseudo path_;
  Pseudo authority_;
  Pseudo protocol_;
  Pseudo status_;
  unsigned crumbs_ = 0;
  std::string cookie_;
};

}  // namespace proxy::http2
