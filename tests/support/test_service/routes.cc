// What each path of the test service answers, in the manner of podinfo.
// Not the connection's life: reading, ordering and closing are in connection.cc.
#include <algorithm>
#include <charconv>
#include <cstdio>

#include "tests/support/test_service/connection.h"

namespace test_service {
namespace {

constexpr std::uint64_t kTicks = 10;  // chunks of /chunked/S
constexpr std::size_t kPattern = 64 * 1024;
constexpr std::size_t kProduceUpTo = 256 * 1024;

std::string_view reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    default:
      return "Status";
  }
}

// The path behind `prefix`, when it is a number; in thousandths when `scale` is 1000.
bool number_after(std::string_view path, std::string_view prefix, double scale,
                  std::uint64_t& number) {
  if (!path.starts_with(prefix)) return false;
  path.remove_prefix(prefix.size());
  double value = 0;
  const auto [stop, error] = std::from_chars(path.data(), path.data() + path.size(), value);
  if (error != std::errc() || stop != path.data() + path.size() || value < 0 || value > 1e12) {
    return false;
  }
  number = static_cast<std::uint64_t>(value * scale);
  return true;
}

// Bytes that are no UTF-8 text by themselves are shown as the code point of the same number.
void append_json(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f || c == '"' || c == '\\') {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", byte);
      out.append(escaped);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

const std::string& pattern() {
  static const std::string text = [] {
    std::string bytes;
    while (bytes.size() < kPattern) bytes.append("0123456789abcdef");
    return bytes;
  }();
  return text;
}

}  // namespace

void Connection::choose_route() {
  const std::string_view path = request_.target.substr(0, request_.target.find('?'));
  status_ = 200;
  amount_ = 0;
  route_ = Route::fixed;
  if (path == "/echo") {
    route_ = Route::echo;
  } else if (number_after(path, "/delay/", 1000, amount_)) {
    route_ = Route::delay;
  } else if (number_after(path, "/bytes/", 1, amount_)) {
    route_ = Route::bytes;
  } else if (number_after(path, "/chunked/", 1000, amount_)) {
    route_ = Route::chunked;
  } else if (path == "/ws/echo") {
    route_ = Route::websocket;
  } else if (number_after(path, "/status/", 1, amount_)) {
    status_ = amount_ >= 200 && amount_ <= 999 ? static_cast<int>(amount_) : 400;
  } else if (path != "/" && path != "/version" && path != "/headers" && path != "/healthz" &&
             path != "/readyz") {
    status_ = 404;
  }
}

bool Connection::take_body(std::uint64_t now_ms) {
  std::string_view in = std::string_view(in_).substr(in_at_);
  std::string_view piece;
  const BodyReader::Step step = body_.next(in, piece);
  in_at_ = in_.size() - in.size();
  const bool chunked = route_ == Route::echo && request_.framing == Framing::chunked;
  switch (step) {
    case BodyReader::Step::more:
      return false;
    case BodyReader::Step::malformed:
      if (route_ != Route::echo) {
        refuse(400, now_ms);
      } else {
        close_gently(now_ms);  // the echo is cut, which its framing shows
      }
      return true;
    case BodyReader::Step::piece:
      if (chunked && chunks_allowed()) {
        char size[24];
        const int length = std::snprintf(size, sizeof size, "%zx\r\n", piece.size());
        out_.append(size, static_cast<std::size_t>(length)).append(piece).append("\r\n");
      } else if (route_ == Route::echo) {
        out_.append(piece);
      }
      return true;
    case BodyReader::Step::end:
      if (route_ != Route::echo) {
        respond(now_ms);
      } else {
        if (chunked && chunks_allowed())
          out_.append("0\r\n").append(body_.trailers()).append("\r\n");
        end_response();
      }
      return true;
  }
  return false;
}

void Connection::begin_head(int status, std::string_view type) {
  char line[64];
  const std::string_view text = reason(status);
  const int length = std::snprintf(line, sizeof line, "HTTP/1.1 %d %.*s\r\n", status,
                                   static_cast<int>(text.size()), text.data());
  out_.append(line, static_cast<std::size_t>(length));
  if (!type.empty()) out_.append("Content-Type: ").append(type).append("\r\n");
}

void Connection::end_head() {
  if (!keep_alive_) {
    out_.append("Connection: close\r\n\r\n");
  } else if (request_.version == "HTTP/1.0") {
    out_.append("Connection: keep-alive\r\n\r\n");
  } else {
    out_.append("\r\n");
  }
}

void Connection::respond_fixed(int status, std::string_view type, std::string_view body) {
  const bool bodiless = status == 204 || status == 304;
  begin_head(status, bodiless ? std::string_view() : type);
  if (!bodiless) {
    char line[48];
    const int length = std::snprintf(line, sizeof line, "Content-Length: %zu\r\n", body.size());
    out_.append(line, static_cast<std::size_t>(length));
  }
  end_head();
  if (!bodiless && request_.method != "HEAD") out_.append(body);
  end_response();
}

void Connection::start_echo() {
  const bool chunked = request_.framing == Framing::chunked;
  if (chunked && !chunks_allowed()) keep_alive_ = false;
  begin_head(200, request_.content_type);
  if (!chunked) {
    out_.append("Content-Length: ").append(std::to_string(request_.length)).append("\r\n");
  } else if (chunks_allowed()) {
    out_.append("Transfer-Encoding: chunked\r\n");
    if (!request_.trailer.empty()) {
      out_.append("Trailer: ").append(request_.trailer).append("\r\n");
    }
  }
  end_head();
  if (request_.method == "HEAD") route_ = Route::fixed;  // only the head is owed
}

void Connection::accept_websocket() {
  if (!request_.wants_websocket || request_.websocket_key.empty()) {
    respond_fixed(400, "text/plain", "a WebSocket handshake is expected here\n");
    return;
  }
  out_.append("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
      .append("Sec-WebSocket-Accept: ")
      .append(websocket_accept(request_.websocket_key))
      .append("\r\n\r\n");
  frames_ = FrameEcho();
  phase_ = Phase::websocket;
}

void Connection::respond(std::uint64_t now_ms) {
  const bool head_only = request_.method == "HEAD";
  switch (route_) {
    case Route::delay:
      deadline_ms_ = now_ms + amount_;
      phase_ = Phase::waiting;
      return;
    case Route::websocket:
      accept_websocket();
      return;
    case Route::bytes:
      begin_head(200, "application/octet-stream");
      out_.append("Content-Length: ").append(std::to_string(amount_)).append("\r\n");
      end_head();
      left_ = head_only ? 0 : amount_;
      phase_ = Phase::producing;
      return;
    case Route::chunked:
      if (!chunks_allowed()) keep_alive_ = false;
      begin_head(200, "text/plain");
      if (chunks_allowed()) out_.append("Transfer-Encoding: chunked\r\n");
      end_head();
      left_ = kTicks;
      if (head_only) {
        end_response();
      } else {
        phase_ = Phase::ticking;
        tick(now_ms);
      }
      return;
    case Route::fixed:
    case Route::echo:
      break;
  }
  if (request_.target.starts_with("/headers")) {
    respond_fixed(status_, "application/json", headers_as_json());
  } else if (request_.target.starts_with("/status/")) {
    respond_fixed(status_, "application/json", "{\"status\":" + std::to_string(status_) + "}\n");
  } else if (status_ == 404) {
    respond_fixed(404, "text/plain", "no such path\n");
  } else if (request_.target.ends_with("z")) {
    respond_fixed(200, "application/json", "{\"status\":\"OK\"}\n");
  } else {
    respond_fixed(200, "application/json",
                  "{\"name\":\"" + settings_.name + "\",\"version\":\"1.0.0\"}\n");
  }
}

bool Connection::produce() {
  while (left_ > 0 && unsent() < kProduceUpTo) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, kPattern));
    out_.append(pattern(), 0, size);
    left_ -= size;
  }
  if (left_ > 0) {
    stalled_ = true;
    return false;
  }
  end_response();
  return true;
}

void Connection::tick(std::uint64_t now_ms) {
  const std::string line = "chunk " + std::to_string(kTicks - left_ + 1) + "\n";
  if (chunks_allowed()) {
    char size[16];
    const int length = std::snprintf(size, sizeof size, "%zx\r\n", line.size());
    out_.append(size, static_cast<std::size_t>(length)).append(line).append("\r\n");
  } else {
    out_.append(line);
  }
  if (--left_ > 0) {
    deadline_ms_ = now_ms + amount_ / kTicks;
    return;
  }
  if (chunks_allowed()) out_.append("0\r\n\r\n");
  end_response();
}

std::string Connection::headers_as_json() const {
  std::string json = "{\"name\":";
  append_json(json, settings_.name);
  json.append(",\"method\":");
  append_json(json, request_.method);
  json.append(",\"target\":");
  append_json(json, request_.target);
  json.append(",\"version\":");
  append_json(json, request_.version);
  json.append(",\"headers\":[");
  for (const Header& header : request_.headers) {
    if (&header != request_.headers.data()) json.push_back(',');
    json.push_back('[');
    append_json(json, header.name);
    json.push_back(',');
    append_json(json, header.value);
    json.push_back(']');
  }
  return json.append("]}\n");
}

}  // namespace test_service
