// HeadWriter: heads and trailers as the lists of fields that nghttp2 packs.
// Not a check of what it is given: heads come from a strict parser or from ourselves.
#pragma once

#include <nghttp2/nghttp2.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "proxy/http/message.h"

namespace proxy::http2 {

// One list at a time: each call ends the last one's. It points into the head, and into this.
// nghttp2 makes names lower-case when it copies them.
class HeadWriter {
 public:
  // With `upgrade` an extended CONNECT (RFC 8441 4). :scheme is "http": between the pods of a mesh
  // TLS is the sidecars' business, and the server's side never asks for it.
  HeadWriter& request(const http::RequestHead& head);
  // `date` is used when the head has none. A 101 becomes a 200, as RFC 8441 5 has it.
  HeadWriter& response(const http::ResponseHead& head, std::string_view date);
  HeadWriter& informational(const http::ResponseHead& head);
  HeadWriter& trailers(const http::HeaderMap& trailers);

  const nghttp2_nv* fields() const noexcept { return fields_.data(); }
  std::size_t size() const noexcept { return fields_.size(); }

 private:
  void add(std::string_view name, std::string_view value,
           std::uint8_t flags = NGHTTP2_NV_FLAG_NONE);
  void add_status(unsigned status);
  void add_length(std::uint64_t bytes);
  void add_fields(const http::HeaderMap& headers, std::string_view left_out);

  std::vector<nghttp2_nv> fields_;
  std::array<char, 20> length_{};
  std::array<char, 3> status_{};
};

}  // namespace proxy::http2
