// The rules of RFC 9113 8.2 and 8.3. The first fault wins.
// Not lenient for anybody: what is read differently by two servers is refused.
#include "proxy/http2/fields_reader.h"

#include "proxy/http/framing.h"
#include "proxy/http/hop_headers.h"
#include "proxy/http/text.h"

namespace proxy::http2 {
namespace {

using http::Fault;
using http::NameId;

// Decoded bytes beyond any head that was ever meant to be read.
constexpr std::size_t kBombFactor = 16;

Fault fault_of_name(std::string_view name) noexcept {
  if (name.empty()) return Fault::empty_header_name;
  for (const char c : name) {
    if (c >= 'A' && c <= 'Z') return Fault::uppercase_header_name;
    if (!http::is_token_char(c)) return Fault::invalid_header_name;
  }
  return Fault::none;
}

Fault fault_of_value(std::string_view value) noexcept {
  if (!http::is_field_value(value)) {
    if (value.find('\n') != std::string_view::npos) return Fault::bare_lf;
    if (value.find('\r') != std::string_view::npos) return Fault::bare_cr;
    return Fault::control_character;
  }
  return http::trim_ows(value).size() == value.size() ? Fault::none : Fault::space_around_value;
}

// RFC 9113 8.2.2
Fault fault_of_field(NameId id, std::string_view value) noexcept {
  switch (id) {
    case NameId::connection:
    case NameId::keep_alive:
    case NameId::proxy_connection:
    case NameId::transfer_encoding:
    case NameId::upgrade:
    case NameId::http2_settings:
      return Fault::connection_header;
    case NameId::te:
      return http::equals_ignore_case(value, "trailers") ? Fault::none : Fault::connection_header;
    default:
      return Fault::none;
  }
}

bool is_http_scheme(std::string_view scheme) noexcept {
  return http::equals_ignore_case(scheme, "http") || http::equals_ignore_case(scheme, "https");
}

}  // namespace

void FieldsReader::begin(Kind kind, http::HeaderMap& headers) {
  kind_ = kind;
  headers_ = &headers;
  headers.clear();
  fault_ = Fault::none;
  bytes_ = fields_ = 0;
  regular_seen_ = false;
  method_ = scheme_ = path_ = authority_ = protocol_ = status_ = {};
  crumbs_ = 0;
  cookie_.clear();
}

bool FieldsReader::take(std::string_view name, std::string_view value) {
  bytes_ += name.size() + value.size() + 4;
  const std::size_t limit = kind_ == Kind::trailers ? limits_.trailer_bytes : limits_.head_bytes;
  if (bytes_ > limit) {
    // Malformed stays malformed; else it is too long, and nothing more of it is kept.
    if (fault_ == Fault::none) {
      fault_ = kind_ == Kind::trailers ? Fault::trailers_too_long : Fault::head_too_long;
    }
    return bytes_ <= kBombFactor * limit;
  }
  if (fault_ != Fault::none) return true;
  if (name.starts_with(':')) {
    take_pseudo(name, value);
  } else {
    take_field(name, value);
  }
  return true;
}

FieldsReader::Pseudo* FieldsReader::pseudo_of(std::string_view name) noexcept {
  if (kind_ == Kind::response) return name == ":status" ? &status_ : nullptr;
  if (kind_ == Kind::trailers) return nullptr;
  if (name == ":method") return &method_;
  if (name == ":scheme") return &scheme_;
  if (name == ":path") return &path_;
  if (name == ":authority") return &authority_;
  return name == ":protocol" ? &protocol_ : nullptr;
}

// Each once, in front of all others, none that we do not know (8.3).
void FieldsReader::take_pseudo(std::string_view name, std::string_view value) {
  Pseudo* pseudo = pseudo_of(name);
  if (pseudo == nullptr || pseudo->there || regular_seen_) {
    fault_ = Fault::invalid_pseudo_header;
    return;
  }
  pseudo->there = true;
  pseudo->text = headers_->put(value);
}

void FieldsReader::take_field(std::string_view name, std::string_view value) {
  regular_seen_ = true;
  const NameId id = http::find_name(name);
  // Spelled as in the table it is a token, and in lower case.
  const bool known = id != NameId::other && name == http::name_text(id);
  if (fault_ = known ? Fault::none : fault_of_name(name); fault_ != Fault::none) return;
  if (fault_ = fault_of_value(value); fault_ != Fault::none) return;
  if (fault_ = fault_of_field(id, value); fault_ != Fault::none) return;
  // RFC 9113 8.2.3: the pieces of one Cookie become one again.
  if (id == NameId::cookie) {
    if (++crumbs_ > 1) {
      if (crumbs_ == 2) cookie_ = headers_->get(NameId::cookie).value_or(std::string_view());
      cookie_ += "; ";
      cookie_ += value;
      return;
    }
  }
  if (++fields_ > limits_.header_count) {
    fault_ = kind_ == Kind::trailers ? Fault::too_many_trailers : Fault::too_many_headers;
    return;
  }
  if (known) {
    headers_->add(id, value);
  } else {
    headers_->add(name, value);
  }
}

void FieldsReader::join_cookies() {
  if (crumbs_ > 1) headers_->set(NameId::cookie, cookie_);
}

std::string_view FieldsReader::view(const Pseudo& pseudo) const noexcept {
  return headers_->view(pseudo.text);
}

// An extended CONNECT (RFC 8441 4) is in other words a GET that asks for an upgrade.
Fault FieldsReader::read_method(http::RequestHead& head) {
  const std::string_view method = view(method_);
  if (!method_.there) return Fault::missing_pseudo_header;
  if (!http::is_token(method)) return Fault::invalid_method;
  if (protocol_.there) {
    const std::string_view protocol = view(protocol_);
    if (method != "CONNECT" || !http::is_token(protocol)) return Fault::invalid_pseudo_header;
    // Envoy and nghttpx know no other either; 501 is what RFC 9220 3 has for those. "h2c" would
    // even turn the tunnel into HTTP that nobody checks. The token is case-sensitive (RFC 8441 4),
    // HTTP/1's Upgrade is not (RFC 9110 7.8): here both are taken alike.
    if (!http::equals_ignore_case(protocol, "websocket")) return Fault::unknown_protocol;
    head.upgrade = protocol_.text;
    head.websocket = true;
    head.method = http::Method::get;
    head.method_text = headers_->put("GET");
    return Fault::none;
  }
  if (method == "CONNECT") {
    // RFC 9113 8.5: :scheme and :path must not be there.
    return scheme_.there || path_.there ? Fault::invalid_pseudo_header : Fault::connect_method;
  }
  if (!http::is_known_method(method)) {
    return scheme_.there && path_.there ? Fault::unknown_method : Fault::missing_pseudo_header;
  }
  head.method = http::find_method(method);
  head.method_text = method_.text;
  return Fault::none;
}

Fault FieldsReader::read_target(http::RequestHead& head) {
  if (!scheme_.there || !path_.there || path_.text.length == 0) {
    return Fault::missing_pseudo_header;
  }
  if (!is_http_scheme(view(scheme_))) return Fault::invalid_scheme;
  const std::string_view path = view(path_);
  for (const char c : path) {
    if (c < 0x21 || c > 0x7e) return Fault::target_character;
  }
  const http::Target target = http::read_target(path, headers_->view(head.method_text));
  if (target.fault != Fault::none) return target.fault;
  if (target.absolute) return Fault::target_form;
  head.target = path_.text;
  return Fault::none;
}

// RFC 9113 8.3.1: Host stands in for an absent :authority, and must not differ from it.
Fault FieldsReader::read_authority(http::RequestHead& head) {
  if (headers_->count(NameId::host) > 1) return Fault::repeated_host;
  const http::HeaderMap::Field* host = headers_->find(NameId::host);
  if (!authority_.there && host == nullptr) return Fault::missing_host;
  if (authority_.there && !http::is_authority(view(authority_))) return Fault::invalid_host;
  if (host != nullptr && !http::is_authority(headers_->value(*host))) return Fault::invalid_host;
  if (authority_.there && host != nullptr &&
      !http::same_authority(view(authority_), headers_->value(*host))) {
    return Fault::host_differs;
  }
  head.authority = authority_.there ? authority_.text : host->value;
  return Fault::none;
}

Fault FieldsReader::finish_request(http::RequestHead& head, bool end_stream) {
  // Heads are used again: what the last one had is not this one's.
  head.version = http::Version::http2;
  head.upgrade = {};
  head.websocket = head.expect_continue = false;
  head.body = {};
  if (fault_ != Fault::none) return fault_;
  if (const Fault fault = read_method(head); fault != Fault::none) return fault;
  if (const Fault fault = read_target(head); fault != Fault::none) return fault;
  if (const Fault fault = read_authority(head); fault != Fault::none) return fault;
  const http::Framing framing = http::read_framing(*headers_, http::Version::http11);
  if (framing.fault != Fault::none) return framing.fault;
  const bool tunnel = head.upgrade.length != 0;
  // RFC 8441 5: it means nothing here, and in HTTP/1 it would stand beside the one made there.
  if (head.websocket) headers_->remove("sec-websocket-key");
  if (framing.has_length) {
    if (tunnel) return Fault::invalid_content_length;
    if (end_stream && framing.body.bytes != 0) return Fault::length_differs;
    head.body = framing.body;
  } else if (!end_stream && !tunnel) {
    head.body.kind = http::BodyLength::Kind::unknown;
  }
  join_cookies();
  const http::HopFacts hop = http::take_hop_headers(*headers_);
  if (hop.fault != Fault::none) return hop.fault;
  const auto expect = headers_->get(NameId::expect);
  head.expect_continue = expect && http::equals_ignore_case(*expect, "100-continue");
  return Fault::none;
}

Fault FieldsReader::finish_response(http::ResponseHead& head, bool end_stream,
                                    bool to_head_request) {
  head.version = http::Version::http2;
  head.body = {};
  head.has_declared_length = false;
  head.declared_length = 0;
  head.reason = head.upgrade = {};
  if (fault_ != Fault::none) return fault_;
  if (!status_.there) return Fault::missing_pseudo_header;
  const std::string_view text = view(status_);
  unsigned status = 0;
  for (const char c : text) {
    if (c < '0' || c > '9' || text.size() != 3) return Fault::invalid_status_line;
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  // RFC 9113 8.6: there is no 101 here.
  if (status < 100 || status == 101) return Fault::invalid_status_line;
  head.status = static_cast<std::uint16_t>(status);
  const http::Framing framing = http::read_framing(*headers_, http::Version::http11);
  if (framing.fault != Fault::none) return framing.fault;
  if (const http::HopFacts hop = http::take_hop_headers(*headers_); hop.fault != Fault::none) {
    return hop.fault;
  }
  if (status < 200) return end_stream ? Fault::invalid_status_line : Fault::none;
  if (to_head_request || status == 204 || status == 304) {
    head.has_declared_length = framing.has_length && status != 204;
    head.declared_length = framing.body.bytes;
    return Fault::none;
  }
  if (framing.has_length) {
    if (end_stream && framing.body.bytes != 0) return Fault::length_differs;
    head.body = framing.body;
  } else if (!end_stream) {
    head.body.kind = http::BodyLength::Kind::unknown;
  }
  return Fault::none;
}

Fault FieldsReader::finish_trailers(bool end_stream) {
  if (fault_ != Fault::none) return fault_;
  if (!end_stream) return Fault::trailers_without_end;
  join_cookies();
  http::clean_trailers(*headers_);
  return Fault::none;
}

}  // namespace proxy::http2
