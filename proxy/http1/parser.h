// RequestParser and ResponseParser: bytes in any pieces to the events of one message after another.
// Not a connection: they pull from a Chain that their owner fills, and call nobody back.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "proxy/http/fault.h"
#include "proxy/http/hop_headers.h"
#include "proxy/http/message.h"
#include "proxy/http1/chunked.h"
#include "proxy/http1/fields.h"
#include "proxy/http1/head_scanner.h"
#include "proxy/http1/limits.h"

namespace proxy::http1 {

// What next() found. It takes exactly the bytes that belong to it from the chain.
enum class Step : std::uint8_t {
  more,           // all bytes were taken, or this message is over: nothing to tell
  started,        // the first byte of a request line is there (it is not taken yet)
  informational,  // head() is a 1xx head; the final one follows
  head,           // head() is complete
  body,           // take_body() has bytes
  end,            // the message is complete, trailers() are valid; next() is for after reset()
  refused,        // code() says why; nothing that follows on this connection can be trusted
};

// The body of one message, by what its head said.
class BodyReader {
 public:
  enum class Kind : std::uint8_t { none, length, chunked, until_close };

  void begin(Kind kind, std::uint64_t bytes) noexcept;
  Step next(Chain& in, MessageKind message, const Limits& limits);
  // Bytes still to come; only with Kind::length.
  std::uint64_t left() const noexcept { return left_; }
  Kind kind() const noexcept { return kind_; }
  // After Step::body: is Step::refused what follows?
  bool refuses_next() const noexcept { return owed_ == Step::refused; }
  Chain take_body() noexcept { return std::move(body_); }
  http::HeaderMap& trailers() noexcept { return trailers_; }
  // Valid with Step::refused.
  http::Fault fault() const noexcept { return chunked_.fault(); }

 private:
  Kind kind_ = Kind::none;
  Step owed_ = Step::more;  // what follows the bytes that were just told
  std::uint64_t left_ = 0;
  ChunkedReader chunked_;
  Chain body_;
  http::HeaderMap trailers_;
};

class RequestParser {
 public:
  explicit RequestParser(const Limits& limits) noexcept : limits_(limits) {}

  Step next(Chain& in);
  // Ready for the next message; only after Step::end.
  void reset() noexcept;

  http::RequestHead& head() noexcept { return head_; }
  Chain take_body() noexcept { return body_.take_body(); }
  http::HeaderMap& trailers() noexcept { return body_.trailers(); }
  Code code() const noexcept { return http::code_of(fault_); }
  http::Fault fault() const noexcept { return fault_; }
  // Does the client want to send another request afterwards? Valid from Step::head on.
  bool keep_alive() const noexcept { return keep_alive_; }
  // The head had `upgrade` (head() may have been moved from since).
  bool head_had_upgrade() const noexcept { return upgrade_; }
  const BodyReader& body() const noexcept { return body_; }

 private:
  enum class State : std::uint8_t { start, head, body, over };
  Step start(Chain& in);
  Step refuse(http::Fault fault) noexcept;
  http::Fault fault_of_bytes(const Chain& in) const noexcept;
  http::Fault read_head();
  http::Fault read_start_line(std::size_t& fields_offset);
  http::Fault place_authority(std::string_view host, bool has_host);

  const Limits& limits_;
  State state_ = State::start;
  http::Fault fault_ = http::Fault::none;
  bool keep_alive_ = true;
  bool upgrade_ = false;
  bool after_cr_ = false;
  bool skipped_line_ = false;
  HeadScanner scanner_;
  http::RequestHead head_;
  BodyReader body_;
};

class ResponseParser {
 public:
  explicit ResponseParser(const Limits& limits) noexcept : limits_(limits) {}

  // What the request was; before its response is read.
  void expect(bool to_head_request, std::string_view upgrade);
  Step next(Chain& in);
  // The connection has ended: `end` when that completes an until-close body, else `refused` (cut).
  Step on_eof() noexcept;
  void reset() noexcept;

  http::ResponseHead& head() noexcept { return head_; }
  Chain take_body() noexcept { return body_.take_body(); }
  http::HeaderMap& trailers() noexcept { return body_.trailers(); }
  Code code() const noexcept { return code_; }
  http::Fault fault() const noexcept { return fault_; }  // none when the connection just ended
  bool refuses_next() const noexcept { return body_.refuses_next(); }
  bool keep_alive() const noexcept { return keep_alive_; }
  // After a head with status 101 the rest is a tunnel: next() gives all bytes as body.
  bool tunnel() const noexcept { return tunnel_; }

 private:
  enum class State : std::uint8_t { head, body, over };
  Step refuse(http::Fault fault) noexcept;
  http::Fault read_head();
  http::Fault read_status_line(std::size_t& fields_offset);
  http::Fault begin_body();
  http::Fault begin_tunnel(const http::HopFacts& hop);

  const Limits& limits_;
  State state_ = State::head;
  Code code_ = Code::none;
  http::Fault fault_ = http::Fault::none;
  bool to_head_request_ = false;
  std::string upgrade_asked_;  // the request's Upgrade, empty when it had none
  bool keep_alive_ = true;
  bool tunnel_ = false;
  unsigned informational_ = 0;
  bool informational_told_ = false;
  HeadScanner scanner_;
  http::ResponseHead head_;
  BodyReader body_;
};

}  // namespace proxy::http1
