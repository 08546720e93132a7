// Framing rules: where a message's body ends (RFC 9112 6.3), and who is meant by it (Host).
// Not hop_headers.h, which removes the fields these rules read; not a parser of bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "proxy/http/fault.h"
#include "proxy/http/header_map.h"
#include "proxy/http/message.h"

namespace proxy::http {

// 1*DIGIT that fits; no sign, no list, no space. Leading zeros are digits like others.
std::optional<std::uint64_t> parse_content_length(std::string_view value) noexcept;

// The body of a message by its Content-Length and Transfer-Encoding fields. `fault` is none, or why
// a message with these fields is refused.
// kind `unknown` means chunked; kind `none` means that neither field was there.
struct Framing {
  Fault fault = Fault::none;
  bool has_length = false;  // Content-Length was there, so body.kind none means "not stated" else
  BodyLength body;
};
Framing read_framing(const HeaderMap& headers, Version version) noexcept;

// uri-host [ ":" port ] (RFC 3986 3.2.2), no userinfo, not empty.
bool is_authority(std::string_view text) noexcept;
// The same host and port: without case, and with the scheme's default port left out or not.
bool same_authority(std::string_view a, std::string_view b,
                    std::string_view default_port = "80") noexcept;

// A request target taken apart. `fault` is none, or why it is refused.
struct Target {
  Fault fault = Fault::none;
  bool absolute = false;
  std::string_view authority;     // of an absolute form
  std::string_view default_port;  // of its scheme
  // Origin form or "*". An absolute form without a path has "/" as its path; `query_only` then says
  // that a query follows, which `path` holds from its '?' on.
  std::string_view path;
  bool query_only = false;
};
Target read_target(std::string_view target, std::string_view method) noexcept;

}  // namespace proxy::http
