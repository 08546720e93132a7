// The parsers: a head is collected, scanned, then read as a whole; bodies pass by reference.
// Not lenient: what is refused, and with which code, is the table in
// tests/support/hostile_requests.def.
#include "proxy/http1/parser.h"

#include <algorithm>
#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http/framing.h"
#include "proxy/http/hop_headers.h"
#include "proxy/http/text.h"

namespace proxy::http1 {
namespace {

using http::Fault;

http::Text text_in(const http::HeaderMap& headers, std::string_view part) noexcept {
  return {static_cast<std::uint32_t>(part.data() - headers.block().data()),
          static_cast<std::uint32_t>(part.size())};
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// none for 1.0 and 1.1, unknown_version for another well-formed one.
Fault read_version(std::string_view text, http::Version& version) noexcept {
  constexpr std::string_view kPrefix = "HTTP/";
  if (!text.starts_with(kPrefix)) return Fault::invalid_version;
  text.remove_prefix(kPrefix.size());
  if (text == "1.1") {
    version = http::Version::http11;
    return Fault::none;
  }
  if (text == "1.0") {
    version = http::Version::http10;
    return Fault::none;
  }
  const bool major_only = text.size() == 1 && is_digit(text[0]);
  const bool both = text.size() == 3 && is_digit(text[0]) && text[1] == '.' && is_digit(text[2]);
  return major_only || both ? Fault::unknown_version : Fault::invalid_version;
}

// Of three words none is HTTP/1's: perhaps a broken preface of HTTP/2, whose sender would take an
// answer in HTTP/1 for frames (RFC 9113 3.4: the connection is closed, nothing need be said). What
// has at least a version, such as RTSP/1.0, or a path is refused in words.
bool is_foreign(std::string_view method, std::string_view target,
                std::string_view version) noexcept {
  return !http::is_known_method(method) && target.find('/') == std::string_view::npos &&
         target != "*" && version.find('/') == std::string_view::npos;
}

bool persists(http::Version version, const http::HopFacts& hop) noexcept {
  if (hop.close) return false;
  return version == http::Version::http11 || hop.keep_alive;
}

}  // namespace

// --- bodies ------------------------------------------------------------------------------------

void BodyReader::begin(Kind kind, std::uint64_t bytes) noexcept {
  kind_ = kind;
  left_ = bytes;
  owed_ = kind == Kind::none || (kind == Kind::length && bytes == 0) ? Step::end : Step::more;
  chunked_.reset();
  trailers_.clear();
}

Step BodyReader::next(Chain& in, MessageKind message, const Limits& limits) {
  if (owed_ != Step::more) return std::exchange(owed_, Step::more);
  if (in.empty()) return Step::more;
  switch (kind_) {
    case Kind::none:
      return Step::more;
    case Kind::until_close:
      body_.append(std::move(in));
      return Step::body;
    case Kind::length: {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size()));
      body_.append(in.take_front(n));
      left_ -= n;
      if (left_ == 0) owed_ = Step::end;
      return Step::body;
    }
    case Kind::chunked:
      break;
  }
  switch (chunked_.read(in, body_, trailers_, message, limits)) {
    case ChunkedReader::Result::more:
      break;
    case ChunkedReader::Result::complete:
      owed_ = Step::end;
      break;
    case ChunkedReader::Result::malformed:
      owed_ = Step::refused;
      break;
  }
  if (!body_.empty()) return Step::body;
  return std::exchange(owed_, Step::more);
}

// --- requests ----------------------------------------------------------------------------------

void RequestParser::reset() noexcept {
  state_ = State::start;
  fault_ = Fault::none;
  keep_alive_ = true;
  after_cr_ = skipped_line_ = false;
  scanner_.reset();
}

Step RequestParser::refuse(Fault fault) noexcept {
  fault_ = fault;
  state_ = State::over;
  return Step::refused;
}

// The byte that the scanner refused is the first of `in`; the head in front of it was collected.
Fault RequestParser::fault_of_bytes(const Chain& in) const noexcept {
  const Fault fault = scanner_.fault(in);
  const std::string_view block = head_.headers.block();
  constexpr std::byte kTlsHandshake{22};  // RFC 8446 5.1: the type of a ClientHello's record
  if (block.empty() && in.first().front() == kTlsHandshake) return Fault::tls_record;
  if (block.empty() && fault == Fault::obs_fold) return Fault::invalid_start_line;
  if (block.find("\r\n") != std::string_view::npos) return fault;
  switch (fault) {
    case Fault::bare_cr:
      return Fault::start_line_bare_cr;
    case Fault::bare_lf:
      return Fault::start_line_bare_lf;
    default:
      return Fault::start_line_control;
  }
}

// RFC 9112 2.2: one empty line before the request line is forgiven.
Step RequestParser::start(Chain& in) {
  while (!in.empty()) {
    const char c = std::to_integer<char>(in.first().front());
    if (after_cr_ && c != '\n') break;  // refused by the head's own rules
    if (!after_cr_ && (c != '\r' || skipped_line_)) break;
    skipped_line_ = after_cr_;
    after_cr_ = !after_cr_;
    in.drop_front(1);
  }
  if (in.empty()) return Step::more;
  state_ = State::head;
  head_.clear();
  return Step::started;
}

Step RequestParser::next(Chain& in) {
  switch (state_) {
    case State::start:
      return start(in);
    case State::head: {
      if (after_cr_) return refuse(Fault::start_line_bare_cr);
      switch (scanner_.take(in, head_.headers.block(), limits_.head_bytes)) {
        case HeadScanner::Result::more:
          return Step::more;
        case HeadScanner::Result::malformed:
          return refuse(fault_of_bytes(in));
        case HeadScanner::Result::too_large:
          return refuse(Fault::head_too_long);
        case HeadScanner::Result::complete:
          break;
      }
      const Fault fault = read_head();
      if (fault != Fault::none) return refuse(fault);
      state_ = State::body;
      return Step::head;
    }
    case State::body: {
      const Step step = body_.next(in, MessageKind::request, limits_);
      if (step == Step::refused) return refuse(body_.fault());
      if (step == Step::end) state_ = State::over;
      return step;
    }
    case State::over:
      break;
  }
  return Step::more;
}

Fault RequestParser::read_start_line(std::size_t& fields_offset) {
  const std::string_view block = head_.headers.block();
  const std::string_view line = block.substr(0, block.find('\r'));
  fields_offset = line.size() + 2;
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return Fault::invalid_start_line;
  }
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!http::is_token(method)) return Fault::invalid_method;
  for (const char c : target) {
    if (c < 0x21 || c > 0x7e) return Fault::target_character;
  }
  if (target.empty()) return Fault::invalid_start_line;
  const std::string_view version_text = line.substr(last + 1);
  if (is_foreign(method, target, version_text)) return Fault::not_http;
  const Fault version = read_version(version_text, head_.version);
  if (version != Fault::none) return version;
  if (method == "CONNECT") return Fault::connect_method;
  if (!http::is_known_method(method)) return Fault::unknown_method;
  head_.method = http::find_method(method);
  head_.method_text = text_in(head_.headers, method);
  head_.target = text_in(head_.headers, target);
  return Fault::none;
}

Fault RequestParser::place_authority(std::string_view host, bool has_host) {
  http::HeaderMap& headers = head_.headers;
  const http::Target target = http::read_target(head_.target_view(), head_.method_view());
  if (target.fault != Fault::none) return target.fault;
  if (has_host && !http::is_authority(host)) return Fault::invalid_host;
  if (has_host) head_.authority = text_in(headers, host);
  if (!target.absolute) return Fault::none;
  if (has_host && !http::same_authority(host, target.authority, target.default_port)) {
    return Fault::host_differs;
  }
  head_.authority = text_in(headers, target.authority);
  const std::string_view before = headers.view(head_.target);
  const bool inside =
      target.path.data() >= before.data() && target.path.data() < before.data() + before.size();
  if (inside && !target.query_only) {
    head_.target = text_in(headers, target.path);
    return Fault::none;
  }
  std::string path = target.query_only ? "/" : "";
  path += target.path;
  head_.target = headers.put(path);
  return Fault::none;
}

Fault RequestParser::read_head() {
  http::HeaderMap& headers = head_.headers;
  std::size_t offset = 0;
  if (const Fault fault = read_start_line(offset); fault != Fault::none) return fault;
  const Fault read = read_fields(MessageKind::request, headers, offset, limits_.header_count);
  if (read != Fault::none) return read;

  const http::Framing framing = http::read_framing(headers, head_.version);
  if (framing.fault != Fault::none) return framing.fault;
  head_.body = framing.body;

  const std::size_t hosts = headers.count(http::NameId::host);
  if (hosts > 1) return Fault::repeated_host;
  if (hosts == 0 && head_.version == http::Version::http11) return Fault::missing_host;
  const std::string_view host = headers.get(http::NameId::host).value_or(std::string_view());
  if (const Fault fault = place_authority(host, hosts == 1); fault != Fault::none) return fault;

  const http::HopFacts hop = http::take_hop_headers(headers);
  if (hop.fault != Fault::none) return hop.fault;
  keep_alive_ = persists(head_.version, hop);
  upgrade_ = false;
  if (head_.version == http::Version::http11) {
    // An upgrade with a body is legal and never seen: it is answered like an ordinary request.
    if (head_.body.kind == http::BodyLength::Kind::none) head_.upgrade = hop.upgrade;
    upgrade_ = head_.upgrade.length != 0;
    head_.websocket = http::equals_ignore_case(head_.upgrade_view(), "websocket");
    const auto expect = headers.get(http::NameId::expect);
    head_.expect_continue = expect && http::equals_ignore_case(*expect, "100-continue");
  }
  switch (head_.body.kind) {
    case http::BodyLength::Kind::none:
      body_.begin(BodyReader::Kind::none, 0);
      break;
    case http::BodyLength::Kind::known:
      body_.begin(BodyReader::Kind::length, head_.body.bytes);
      break;
    case http::BodyLength::Kind::unknown:
      body_.begin(BodyReader::Kind::chunked, 0);
      break;
  }
  return Fault::none;
}

// --- responses ---------------------------------------------------------------------------------

void ResponseParser::expect(bool to_head_request, std::string_view upgrade) {
  to_head_request_ = to_head_request;
  upgrade_asked_.assign(upgrade);
}

void ResponseParser::reset() noexcept {
  state_ = State::head;
  code_ = Code::none;
  fault_ = Fault::none;
  keep_alive_ = true;
  tunnel_ = false;
  informational_ = 0;
  informational_told_ = false;
  scanner_.reset();
  head_.clear();
}

Step ResponseParser::refuse(Fault fault) noexcept {
  code_ = Code::bad_response;
  fault_ = fault;
  state_ = State::over;
  return Step::refused;
}

Step ResponseParser::on_eof() noexcept {
  const bool complete = state_ == State::body && body_.kind() == BodyReader::Kind::until_close;
  state_ = State::over;
  if (complete) return Step::end;
  code_ = Code::upstream_truncated;
  return Step::refused;
}

Step ResponseParser::next(Chain& in) {
  switch (state_) {
    case State::head: {
      if (in.empty()) return Step::more;
      if (informational_told_) {
        informational_told_ = false;
        head_.clear();
      }
      switch (scanner_.take(in, head_.headers.block(), limits_.head_bytes)) {
        case HeadScanner::Result::more:
          return Step::more;
        case HeadScanner::Result::malformed:
          return refuse(scanner_.fault(in));
        case HeadScanner::Result::too_large:
          return refuse(Fault::head_too_long);
        case HeadScanner::Result::complete:
          break;
      }
      if (const Fault fault = read_head(); fault != Fault::none) return refuse(fault);
      if (state_ == State::body) return Step::head;
      informational_told_ = true;
      return Step::informational;
    }
    case State::body: {
      const Step step = body_.next(in, MessageKind::response, limits_);
      if (step == Step::refused) return refuse(body_.fault());
      if (step == Step::end) state_ = State::over;
      return step;
    }
    case State::over:
      break;
  }
  return Step::more;
}

Fault ResponseParser::read_status_line(std::size_t& fields_offset) {
  const std::string_view block = head_.headers.block();
  const std::string_view line = block.substr(0, block.find('\r'));
  fields_offset = line.size() + 2;
  constexpr std::size_t kStatus = 9;  // "HTTP/1.1 "
  if (line.size() < kStatus + 3 || line[kStatus - 1] != ' ') return Fault::invalid_status_line;
  const Fault version = read_version(line.substr(0, kStatus - 1), head_.version);
  if (version != Fault::none) return version;
  unsigned status = 0;
  for (const char c : line.substr(kStatus, 3)) {
    if (!is_digit(c)) return Fault::invalid_status_line;
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  if (status < 100) return Fault::invalid_status_line;
  head_.status = static_cast<std::uint16_t>(status);
  // The space may be missing with the phrase.
  if (line.size() == kStatus + 3) return Fault::none;
  if (line[kStatus + 3] != ' ') return Fault::invalid_status_line;
  head_.reason = text_in(head_.headers, line.substr(kStatus + 4));
  return Fault::none;
}

Fault ResponseParser::read_head() {
  std::size_t offset = 0;
  if (const Fault fault = read_status_line(offset); fault != Fault::none) return fault;
  http::HeaderMap& headers = head_.headers;
  const Fault read = read_fields(MessageKind::response, headers, offset, limits_.header_count);
  return read != Fault::none ? read : begin_body();
}

namespace {
// Is the protocol one of the list that the request's Upgrade was?
bool offers(std::string_view asked, std::string_view protocol) noexcept {
  while (!asked.empty()) {
    const std::size_t comma = std::min(asked.find(','), asked.size());
    if (http::equals_ignore_case(http::trim_ows(asked.substr(0, comma)), protocol)) return true;
    asked.remove_prefix(std::min(comma + 1, asked.size()));
  }
  return false;
}
}  // namespace

Fault ResponseParser::begin_tunnel(const http::HopFacts& hop) {
  // RFC 9110 7.8: only to what the client offered.
  if (hop.upgrade.length == 0 || !offers(upgrade_asked_, head_.headers.view(hop.upgrade))) {
    return Fault::unexpected_upgrade;
  }
  head_.upgrade = hop.upgrade;
  tunnel_ = true;
  body_.begin(BodyReader::Kind::until_close, 0);
  return Fault::none;
}

Fault ResponseParser::begin_body() {
  const http::Framing framing = http::read_framing(head_.headers, head_.version);
  if (framing.fault != Fault::none) return framing.fault;
  const http::HopFacts hop = http::take_hop_headers(head_.headers);
  if (hop.fault != Fault::none) return hop.fault;
  if (head_.status < 200 && head_.status != 101) {
    scanner_.reset();
    return ++informational_ <= limits_.informational ? Fault::none : Fault::too_many_informational;
  }
  keep_alive_ = persists(head_.version, hop);
  state_ = State::body;
  if (head_.status == 101) return begin_tunnel(hop);
  if (to_head_request_ || head_.status == 204 || head_.status == 304) {
    head_.has_declared_length = framing.has_length && head_.status != 204;
    head_.declared_length = framing.body.bytes;
    body_.begin(BodyReader::Kind::none, 0);
    return Fault::none;
  }
  head_.body = framing.body;
  if (framing.body.kind == http::BodyLength::Kind::unknown) {
    body_.begin(BodyReader::Kind::chunked, 0);
  } else if (framing.has_length) {
    body_.begin(BodyReader::Kind::length, framing.body.bytes);
  } else {
    head_.body.kind = http::BodyLength::Kind::unknown;
    body_.begin(BodyReader::Kind::until_close, 0);
    keep_alive_ = false;
  }
  return Fault::none;
}

}  // namespace proxy::http1
