// Fields by reference; nghttp2 copies them when they are submitted.
// Not a packer: HPACK is nghttp2's.
#include "proxy/http2/head_writer.h"

#include <charconv>

#include "proxy/http/text.h"

namespace proxy::http2 {

namespace {

// What is new with every request would only push out of HPACK's table what repeats. Envoy's and our
// own metadata headers are the longest there, and always the same.
std::uint8_t indexing(http::NameId id) noexcept {
  const bool unique = id == http::NameId::x_request_id || id == http::NameId::traceparent;
  return unique ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
}

}  // namespace

void HeadWriter::add(std::string_view name, std::string_view value, std::uint8_t flags) {
  const auto bytes = [](std::string_view text) {
    return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
  };
  fields_.push_back({bytes(name), bytes(value), name.size(), value.size(), flags});
}

void HeadWriter::add_status(unsigned status) {
  status_ = {static_cast<char>('0' + status / 100 % 10), static_cast<char>('0' + status / 10 % 10),
             static_cast<char>('0' + status % 10)};
  add(":status", {status_.data(), status_.size()});
}

void HeadWriter::add_length(std::uint64_t bytes) {
  const auto end = std::to_chars(length_.data(), length_.data() + length_.size(), bytes).ptr;
  add("content-length", {length_.data(), static_cast<std::size_t>(end - length_.data())});
}

void HeadWriter::add_fields(const http::HeaderMap& headers, std::string_view left_out) {
  for (const http::HeaderMap::Field& field : headers.fields()) {
    if (field.removed) continue;
    const std::string_view name = headers.name(field);
    if (!left_out.empty() && http::equals_ignore_case(name, left_out)) continue;
    add(name, headers.value(field), indexing(field.id));
  }
}

HeadWriter& HeadWriter::request(const http::RequestHead& head) {
  fields_.clear();
  const bool tunnel = head.upgrade.length != 0;
  add(":method", tunnel ? "CONNECT" : head.method_view());
  add(":scheme", "http");
  if (!head.authority_view().empty()) add(":authority", head.authority_view());
  add(":path", head.target_view());
  if (tunnel) add(":protocol", head.upgrade_view());
  if (head.body.kind == http::BodyLength::Kind::known) add_length(head.body.bytes);
  // RFC 8441 5: the handshake's key has no place here.
  add_fields(head.headers, tunnel ? "sec-websocket-key" : std::string_view());
  return *this;
}

HeadWriter& HeadWriter::response(const http::ResponseHead& head, std::string_view date) {
  fields_.clear();
  const bool tunnel = head.status == 101;
  add_status(tunnel ? 200 : head.status);
  // RFC 9110 8.6: none with a 204.
  if (head.status == 204 || tunnel) {
  } else if (head.body.kind == http::BodyLength::Kind::known) {
    add_length(head.body.bytes);
  } else if (head.has_declared_length) {
    add_length(head.declared_length);
  }
  add_fields(head.headers, tunnel ? "sec-websocket-accept" : std::string_view());
  if (head.headers.find(http::NameId::date) == nullptr) add("date", date);
  return *this;
}

HeadWriter& HeadWriter::informational(const http::ResponseHead& head) {
  fields_.clear();
  add_status(head.status);
  add_fields(head.headers, {});
  return *this;
}

HeadWriter& HeadWriter::trailers(const http::HeaderMap& trailers) {
  fields_.clear();
  add_fields(trailers, {});
  return *this;
}

}  // namespace proxy::http2
