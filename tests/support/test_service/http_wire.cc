// Request heads and bodies for the test service.
// Not tolerant: a message it cannot read exactly one way is refused, so a proxy that lets one
// through is seen.
#include "tests/support/test_service/http_wire.h"

#include <algorithm>
#include <charconv>

namespace test_service {
namespace {

constexpr std::size_t kMaxLine = 16 * 1024;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return c > ' ' && c < 0x7f &&
           std::string_view("\"(),/:;<=>?@[\\]{}").find(c) == std::string_view::npos;
  });
}

bool has_element(std::string_view list, std::string_view wanted) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    if (equals_ignoring_case(trim(list.substr(0, comma)), wanted)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

// Takes a line without its CRLF off `in`. False when there is no CRLF yet.
bool take_line(std::string_view& in, std::string_view& line) {
  const std::size_t end = in.find("\r\n");
  if (end == std::string_view::npos) return false;
  line = in.substr(0, end);
  in.remove_prefix(end + 2);
  return true;
}

int parse_request_line(std::string_view line, Request& request) {
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return 400;
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, last - first - 1);
  request.version = line.substr(last + 1);
  if (!is_token(request.method) || request.target.find(' ') != std::string_view::npos) return 400;
  if (request.version != "HTTP/1.1" && request.version != "HTTP/1.0") return 505;
  request.keep_alive = request.version == "HTTP/1.1";
  return 0;
}

int note_framing(const Header& header, Request& request) {
  if (request.framing != Framing::none) return 400;
  if (header.name.size() == 14) {
    const char* const end = header.value.data() + header.value.size();
    const auto [stop, error] = std::from_chars(header.value.data(), end, request.length);
    if (error != std::errc() || stop != end) return 400;
    request.framing = Framing::length;
    return 0;
  }
  if (!equals_ignoring_case(header.value, "chunked")) return 501;
  request.framing = Framing::chunked;
  return 0;
}

// The headers that this service acts on. 0, or the status to refuse the request with.
int note(const Header& header, Request& request) {
  const auto is = [&](std::string_view name) { return equals_ignoring_case(header.name, name); };
  switch (header.name.size()) {
    case 6:
      if (is("Expect"))
        request.expects_continue = equals_ignoring_case(header.value, "100-continue");
      break;
    case 7:
      if (is("Upgrade")) request.wants_websocket = equals_ignoring_case(header.value, "websocket");
      if (is("Trailer")) request.trailer = header.value;
      break;
    case 10:
      if (is("Connection")) {
        if (has_element(header.value, "close")) request.keep_alive = false;
        if (has_element(header.value, "keep-alive")) request.keep_alive = true;
      }
      break;
    case 12:
      if (is("Content-Type")) request.content_type = header.value;
      break;
    case 14:
      if (is("Content-Length")) return note_framing(header, request);
      break;
    case 17:
      if (is("Transfer-Encoding")) return note_framing(header, request);
      if (is("Sec-WebSocket-Key")) request.websocket_key = header.value;
      break;
    default:
      break;
  }
  return 0;
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

int parse_head(std::string_view head, Request& request) {
  request.text.assign(head);
  request.headers.clear();
  request.framing = Framing::none;
  request.length = 0;
  request.expects_continue = request.wants_websocket = false;
  request.content_type = request.trailer = request.websocket_key = {};

  std::string_view rest = request.text;
  std::string_view line;
  if (!take_line(rest, line)) return 400;
  if (const int refused = parse_request_line(line, request)) return refused;
  while (take_line(rest, line) && !line.empty()) {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return 400;
    const Header header{line.substr(0, colon), trim(line.substr(colon + 1))};
    if (!is_token(header.name)) return 400;
    if (header.value.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos) {
      return 400;
    }
    request.headers.push_back(header);
    if (const int refused = note(header, request)) return refused;
  }
  return 0;
}

void BodyReader::start(const Request& request) {
  chunked_ = request.framing == Framing::chunked;
  left_ = request.length;
  trailers_.clear();
  if (chunked_) {
    state_ = State::size_line;
  } else {
    state_ = left_ > 0 ? State::data : State::end;
  }
}

BodyReader::Step BodyReader::size_line(std::string_view& in) {
  std::string_view line;
  if (!take_line(in, line)) return in.size() > kMaxLine ? Step::malformed : Step::more;
  const auto [stop, error] = std::from_chars(line.data(), line.data() + line.size(), left_, 16);
  if (error != std::errc() || stop == line.data()) return Step::malformed;
  if (stop != line.data() + line.size() && *stop != ';' && *stop != ' ') return Step::malformed;
  state_ = left_ > 0 ? State::data : State::trailer_lines;
  return Step::piece;
}

BodyReader::Step BodyReader::trailer_line(std::string_view& in) {
  std::string_view line;
  if (!take_line(in, line)) return in.size() > kMaxLine ? Step::malformed : Step::more;
  if (line.empty()) {
    state_ = State::end;
    return Step::end;
  }
  if (trailers_.size() + line.size() > kMaxLine) return Step::malformed;
  trailers_.append(line).append("\r\n");
  return Step::piece;
}

BodyReader::Step BodyReader::next(std::string_view& in, std::string_view& piece) {
  for (;;) {
    Step step = Step::piece;
    switch (state_) {
      case State::end:
        return Step::end;
      case State::data: {
        if (in.empty()) return Step::more;
        const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size()));
        piece = in.substr(0, size);
        in.remove_prefix(size);
        left_ -= size;
        if (left_ == 0) state_ = chunked_ ? State::data_end : State::end;
        return Step::piece;
      }
      case State::data_end:
        if (in.size() < 2) return Step::more;
        if (!in.starts_with("\r\n")) return Step::malformed;
        in.remove_prefix(2);
        state_ = State::size_line;
        break;
      case State::size_line:
        step = size_line(in);
        break;
      case State::trailer_lines:
        step = trailer_line(in);
        break;
    }
    if (step != Step::piece) return step;
  }
}

}  // namespace test_service
