// RequestHead and ResponseHead: a message's head in words that every HTTP version shares.
// Not framing: how a body's end is marked on the wire is each codec's own business.
#pragma once

#include <cstdint>
#include <string_view>

#include "proxy/http/header_map.h"

namespace proxy::http {

enum class Version : std::uint8_t { http10, http11, http2 };
// "HTTP/1.1", as access logs print it.
std::string_view version_text(Version version) noexcept;

// What the head says about the body that follows.
struct BodyLength {
  enum class Kind : std::uint8_t {
    none,     // no body at all
    known,    // exactly `bytes`
    unknown,  // until the message's end is marked (chunked, END_STREAM) or the connection closes
  };
  Kind kind = Kind::none;
  std::uint64_t bytes = 0;
};

// Retry safety and framing need no more of the method than this; its text passes through.
enum class Method : std::uint8_t { get, head, post, put, del, options, trace, patch, other };
bool is_idempotent(Method method) noexcept;  // RFC 9110 9.2.2
// `other` for a method of no importance here, known or not. Methods are case-sensitive.
Method find_method(std::string_view text) noexcept;
// Is it a method that IANA registers (but CONNECT and PRI) or that HTTP caches made common (PURGE)?
bool is_known_method(std::string_view text) noexcept;
// The registered reason phrase of a status; empty when there is none.
std::string_view reason_phrase(unsigned status) noexcept;

// Fields are in the order and case they came in; Host, framing and hop-by-hop fields are NOT among
// them: the codec takes those out and makes them anew (authority, body, upgrade carry the meaning).
// Texts live in headers' block. Move (= swap) it on; see HeaderMap.
struct RequestHead {
  Method method = Method::get;
  Version version = Version::http11;
  BodyLength body;
  bool expect_continue = false;  // Expect: 100-continue was there (and is still among the headers)
  bool websocket = false;        // `upgrade` is exactly websocket
  Text method_text;
  Text target;     // origin form or "*", never absolute form
  Text authority;  // from Host, or from an absolute-form target (which agrees with Host); may be
                   // empty in 1.0
  Text upgrade;    // value of Upgrade when Connection names it; empty = an ordinary request
  HeaderMap headers;

  std::string_view method_view() const noexcept { return headers.view(method_text); }
  std::string_view target_view() const noexcept { return headers.view(target); }
  std::string_view authority_view() const noexcept { return headers.view(authority); }
  std::string_view upgrade_view() const noexcept { return headers.view(upgrade); }
  void clear() noexcept;
};

struct ResponseHead {
  std::uint16_t status = 200;
  Version version = Version::http11;
  BodyLength body;  // `none` for 1xx, 204, 304 and answers to HEAD; see declared_length
  // Content-Length of an answer to HEAD or of a 304, which has no body: passed on as it came.
  bool has_declared_length = false;
  std::uint64_t declared_length = 0;
  Text reason;   // may be empty
  Text upgrade;  // with status 101: the protocol switched to
  HeaderMap headers;

  std::string_view reason_view() const noexcept { return headers.view(reason); }
  std::string_view upgrade_view() const noexcept { return headers.view(upgrade); }
  void clear() noexcept;
};

}  // namespace proxy::http
