// Field lines of a head or a trailer section, read by llhttp in its strict mode.
// Not the start line, which parser.cc reads, and not the meaning of any field.
#pragma once

#include <cstddef>
#include <cstdint>

#include "proxy/http/fault.h"
#include "proxy/http/header_map.h"

namespace proxy::http1 {

enum class MessageKind : std::uint8_t { request, response };

// Reads the lines in headers.block() from `offset` on, which must end with an empty line and have
// been through a HeadScanner. Adds one field a line, by reference to the block.
// More than `limit` fields are Fault::too_many_headers.
http::Fault read_fields(MessageKind kind, http::HeaderMap& headers, std::size_t offset,
                        std::size_t limit) noexcept;

}  // namespace proxy::http1
