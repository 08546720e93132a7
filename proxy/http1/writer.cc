// Serialising: neighbouring fields that nobody touched are copied in one piece, as they came.
// Not a check of what it is given: heads come from a strict parser or from ourselves.
#include "proxy/http1/writer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

namespace proxy::http1 {
namespace {

constexpr std::size_t kLargestRoom = 15000;

// Writes into the room behind a chain, asking the chain only when that is used up.
class Cursor {
 public:
  Cursor(ChunkPool& pool, Chain& chain, std::size_t estimate) : pool_(pool), chain_(chain) {
    room_ = chain_.room(pool_, std::min(estimate, kLargestRoom));
  }
  ~Cursor() { chain_.commit(used_); }
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;

  void put(std::string_view text) {
    while (text.size() > room_.size() - used_) {
      const std::size_t n = room_.size() - used_;
      copy(text.substr(0, n));
      text.remove_prefix(n);
      chain_.commit(used_);
      used_ = 0;
      room_ = chain_.room(pool_, std::clamp<std::size_t>(text.size(), 1000, kLargestRoom));
    }
    copy(text);
  }
  void put_number(std::uint64_t number, int base) {
    std::array<char, 20> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number, base).ptr;
    put({digits.data(), static_cast<std::size_t>(end - digits.data())});
  }

 private:
  void copy(std::string_view text) noexcept {
    if (text.empty()) return;
    std::memcpy(room_.data() + used_, text.data(), text.size());
    used_ += text.size();
  }

  ChunkPool& pool_;
  Chain& chain_;
  std::span<std::byte> room_;
  std::size_t used_ = 0;
};

// Does the field stand in the block as "name: value\r\n"?
bool is_laid_out(std::string_view block, const http::HeaderMap::Field& field) noexcept {
  const std::size_t colon = std::size_t{field.name.offset} + field.name.length;
  const std::size_t end = std::size_t{field.value.offset} + field.value.length;
  return field.value.offset == colon + 2 && end + 2 <= block.size() && block[colon] == ':' &&
         block[colon + 1] == ' ' && block[end] == '\r' && block[end + 1] == '\n';
}

void put_fields(Cursor& out, const http::HeaderMap& headers) {
  const std::string_view block = headers.block();
  std::size_t run = 0;
  std::size_t run_end = 0;
  const auto flush = [&] { out.put(block.substr(run, run_end - run)); };
  for (const http::HeaderMap::Field& field : headers.fields()) {
    if (field.removed) continue;
    if (is_laid_out(block, field)) {
      if (run_end != field.name.offset) {
        flush();
        run = field.name.offset;
      }
      run_end = std::size_t{field.value.offset} + field.value.length + 2;
      continue;
    }
    flush();
    run = run_end = 0;
    out.put(headers.name(field));
    out.put(": ");
    out.put(headers.value(field));
    out.put("\r\n");
  }
  flush();
}

void put_framing(Cursor& out, OutgoingBody body) {
  switch (body.form) {
    case BodyForm::none:
    case BodyForm::until_close:
      break;
    case BodyForm::length:
      out.put("Content-Length: ");
      out.put_number(body.bytes, 10);
      out.put("\r\n");
      break;
    case BodyForm::chunked:
      out.put("Transfer-Encoding: chunked\r\n");
      break;
  }
}

void put_status_line(Cursor& out, const http::ResponseHead& head) {
  out.put("HTTP/1.1 ");
  out.put_number(head.status, 10);
  out.put(" ");
  const std::string_view reason = head.reason_view();
  out.put(reason.empty() ? http::reason_phrase(head.status) : reason);
  out.put("\r\n");
}

std::size_t size_of(const http::HeaderMap& headers) noexcept {
  return headers.block().size() + 256;
}

}  // namespace

void write_request_head(ChunkPool& pool, Chain& out, const http::RequestHead& head,
                        OutgoingBody body, std::string_view websocket_key) {
  Cursor cursor(pool, out, size_of(head.headers));
  cursor.put(head.method_view());
  cursor.put(" ");
  cursor.put(head.target_view());
  cursor.put(" HTTP/1.1\r\nHost: ");
  cursor.put(head.authority_view());
  cursor.put("\r\n");
  put_fields(cursor, head.headers);
  put_framing(cursor, body);
  if (!websocket_key.empty()) {
    cursor.put("Sec-WebSocket-Key: ");
    cursor.put(websocket_key);
    cursor.put("\r\n");
  }
  const bool te = head.headers.find(http::NameId::te) != nullptr;
  if (head.upgrade.length != 0) {
    cursor.put(te ? "Connection: Upgrade, TE\r\nUpgrade: " : "Connection: Upgrade\r\nUpgrade: ");
    cursor.put(head.upgrade_view());
    cursor.put("\r\n");
  } else if (te) {
    cursor.put("Connection: TE\r\n");
  }
  cursor.put("\r\n");
}

void write_response_head(ChunkPool& pool, Chain& out, const http::ResponseHead& head,
                         OutgoingBody body, Persistence persistence, std::string_view date) {
  Cursor cursor(pool, out, size_of(head.headers));
  put_status_line(cursor, head);
  put_fields(cursor, head.headers);
  put_framing(cursor, body);
  if (head.headers.find(http::NameId::date) == nullptr) {
    cursor.put("Date: ");
    cursor.put(date);
    cursor.put("\r\n");
  }
  if (head.status == 101) {
    cursor.put("Connection: Upgrade\r\nUpgrade: ");
    cursor.put(head.upgrade_view());
    cursor.put("\r\n");
  } else if (persistence == Persistence::close) {
    cursor.put("Connection: close\r\n");
  } else if (persistence == Persistence::keep_alive) {
    cursor.put("Connection: keep-alive\r\n");
  }
  cursor.put("\r\n");
}

void write_informational(ChunkPool& pool, Chain& out, const http::ResponseHead& head) {
  Cursor cursor(pool, out, size_of(head.headers));
  put_status_line(cursor, head);
  put_fields(cursor, head.headers);
  cursor.put("\r\n");
}

void write_chunk_line(ChunkPool& pool, Chain& out, std::uint64_t bytes) {
  Cursor cursor(pool, out, 24);
  cursor.put_number(bytes, 16);
  cursor.put("\r\n");
}

void write_last_chunk(ChunkPool& pool, Chain& out, const http::HeaderMap& trailers) {
  Cursor cursor(pool, out, trailers.block().size() + 16);
  cursor.put("0\r\n");
  put_fields(cursor, trailers);
  cursor.put("\r\n");
}

}  // namespace proxy::http1
