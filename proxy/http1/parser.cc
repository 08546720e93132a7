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

http::Text text_in(const http::HeaderMap& headers, std::string_view part) noexcept {
  return {static_cast<std::uint32_t>(part.data() - headers.block().data()),
          static_cast<std::uint32_t>(part.size())};
}

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// none for 1.0 and 1.1, bad_version for another well-formed one, bad_request for anything else.
Code read_version(std::string_view text, http::Version& version) noexcept {
  constexpr std::string_view kPrefix = "HTTP/";
  if (!text.starts_with(kPrefix)) return Code::bad_request;
  text.remove_prefix(kPrefix.size());
  if (text == "1.1") {
    version = http::Version::http11;
    return Code::none;
  }
  if (text == "1.0") {
    version = http::Version::http10;
    return Code::none;
  }
  const bool major_only = text.size() == 1 && is_digit(text[0]);
  const bool both = text.size() == 3 && is_digit(text[0]) && text[1] == '.' && is_digit(text[2]);
  return major_only || both ? Code::bad_version : Code::bad_request;
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
  code_ = Code::none;
  keep_alive_ = true;
  after_cr_ = skipped_line_ = false;
  scanner_.reset();
}

Step RequestParser::refuse(Code code) noexcept {
  code_ = code;
  state_ = State::over;
  return Step::refused;
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
      if (after_cr_) return refuse(Code::bad_request);
      switch (scanner_.take(in, head_.headers.block(), limits_.head_bytes)) {
        case HeadScanner::Result::more:
          return Step::more;
        case HeadScanner::Result::malformed:
          return refuse(Code::bad_request);
        case HeadScanner::Result::too_large:
          return refuse(Code::head_too_large);
        case HeadScanner::Result::complete:
          break;
      }
      const Code code = read_head();
      if (code != Code::none) return refuse(code);
      state_ = State::body;
      return Step::head;
    }
    case State::body: {
      const Step step = body_.next(in, MessageKind::request, limits_);
      if (step == Step::refused) return refuse(Code::bad_request);
      if (step == Step::end) state_ = State::over;
      return step;
    }
    case State::over:
      break;
  }
  return Step::more;
}

Code RequestParser::read_start_line(std::size_t& fields_offset) {
  const std::string_view block = head_.headers.block();
  const std::string_view line = block.substr(0, block.find('\r'));
  fields_offset = line.size() + 2;
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return Code::bad_request;
  const std::string_view method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  if (!http::is_token(method)) return Code::bad_request;
  for (const char c : target) {
    if (c < 0x21 || c > 0x7e) return Code::bad_request;
  }
  if (target.empty()) return Code::bad_request;
  const Code version = read_version(line.substr(last + 1), head_.version);
  if (version != Code::none) return version;
  if (method == "CONNECT") return Code::connect_method;
  if (!http::is_known_method(method)) return Code::unknown_method;
  head_.method = http::find_method(method);
  head_.method_text = text_in(head_.headers, method);
  head_.target = text_in(head_.headers, target);
  return Code::none;
}

Code RequestParser::place_authority(std::string_view host, bool has_host) {
  http::HeaderMap& headers = head_.headers;
  const http::Target target = http::read_target(head_.target_view(), head_.method_view());
  if (target.code != Code::none) return target.code;
  if (has_host && !http::is_authority(host)) return Code::bad_request;
  if (has_host) head_.authority = text_in(headers, host);
  if (!target.absolute) return Code::none;
  if (has_host && !http::same_authority(host, target.authority)) return Code::bad_request;
  head_.authority = text_in(headers, target.authority);
  const std::string_view before = headers.view(head_.target);
  const bool inside =
      target.path.data() >= before.data() && target.path.data() < before.data() + before.size();
  if (inside && !target.query_only) {
    head_.target = text_in(headers, target.path);
    return Code::none;
  }
  std::string path = target.query_only ? "/" : "";
  path += target.path;
  head_.target = headers.put(path);
  return Code::none;
}

Code RequestParser::read_head() {
  http::HeaderMap& headers = head_.headers;
  std::size_t offset = 0;
  if (const Code code = read_start_line(offset); code != Code::none) return code;
  const Code read = read_fields(MessageKind::request, headers, offset, limits_.header_count);
  if (read != Code::none) return read;

  const http::Framing framing = http::read_framing(headers, head_.version);
  if (framing.code != Code::none) return framing.code;
  head_.body = framing.body;

  const std::size_t hosts = headers.count(http::NameId::host);
  if (hosts > 1 || (hosts == 0 && head_.version == http::Version::http11)) {
    return Code::bad_request;
  }
  const std::string_view host = headers.get(http::NameId::host).value_or(std::string_view());
  if (const Code code = place_authority(host, hosts == 1); code != Code::none) return code;

  const http::HopFacts hop = http::take_hop_headers(headers);
  if (hop.malformed) return Code::bad_request;
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
  return Code::none;
}

// --- responses ---------------------------------------------------------------------------------

void ResponseParser::expect(bool to_head_request, bool upgrade_asked) noexcept {
  to_head_request_ = to_head_request;
  upgrade_asked_ = upgrade_asked;
}

void ResponseParser::reset() noexcept {
  state_ = State::head;
  code_ = Code::none;
  keep_alive_ = true;
  tunnel_ = false;
  informational_ = 0;
  informational_told_ = false;
  scanner_.reset();
  head_.clear();
}

Step ResponseParser::refuse() noexcept {
  code_ = Code::bad_response;
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
      const HeadScanner::Result result =
          scanner_.take(in, head_.headers.block(), limits_.head_bytes);
      if (result == HeadScanner::Result::more) return Step::more;
      if (result != HeadScanner::Result::complete || !read_head()) return refuse();
      if (state_ == State::body) return Step::head;
      informational_told_ = true;
      return Step::informational;
    }
    case State::body: {
      const Step step = body_.next(in, MessageKind::response, limits_);
      if (step == Step::refused) return refuse();
      if (step == Step::end) state_ = State::over;
      return step;
    }
    case State::over:
      break;
  }
  return Step::more;
}

bool ResponseParser::read_status_line(std::size_t& fields_offset) {
  const std::string_view block = head_.headers.block();
  const std::string_view line = block.substr(0, block.find('\r'));
  fields_offset = line.size() + 2;
  constexpr std::size_t kStatus = 9;  // "HTTP/1.1 "
  if (line.size() < kStatus + 3 || line[kStatus - 1] != ' ') return false;
  if (read_version(line.substr(0, kStatus - 1), head_.version) != Code::none) return false;
  unsigned status = 0;
  for (const char c : line.substr(kStatus, 3)) {
    if (!is_digit(c)) return false;
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  if (status < 100) return false;
  head_.status = static_cast<std::uint16_t>(status);
  if (line.size() == kStatus + 3) return true;  // the space may be missing with the phrase
  if (line[kStatus + 3] != ' ') return false;
  head_.reason = text_in(head_.headers, line.substr(kStatus + 4));
  return true;
}

bool ResponseParser::read_head() {
  std::size_t offset = 0;
  if (!read_status_line(offset)) return false;
  http::HeaderMap& headers = head_.headers;
  if (read_fields(MessageKind::response, headers, offset, limits_.header_count) != Code::none) {
    return false;
  }
  return begin_body();
}

bool ResponseParser::begin_body() {
  const http::Framing framing = http::read_framing(head_.headers, head_.version);
  if (framing.code != Code::none) return false;
  const http::HopFacts hop = http::take_hop_headers(head_.headers);
  if (hop.malformed) return false;
  if (head_.status < 200 && head_.status != 101) {
    scanner_.reset();
    return ++informational_ <= limits_.informational;
  }
  keep_alive_ = persists(head_.version, hop);
  state_ = State::body;
  if (head_.status == 101) {
    if (!upgrade_asked_ || hop.upgrade.length == 0) return false;
    head_.upgrade = hop.upgrade;
    tunnel_ = true;
    body_.begin(BodyReader::Kind::until_close, 0);
    return true;
  }
  if (to_head_request_ || head_.status == 204 || head_.status == 304) {
    head_.has_declared_length = framing.has_length && head_.status != 204;
    head_.declared_length = framing.body.bytes;
    body_.begin(BodyReader::Kind::none, 0);
    return true;
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
  return true;
}

}  // namespace proxy::http1
