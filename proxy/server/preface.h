// The first bytes of a plaintext connection: do they begin HTTP/2 (prior knowledge) or HTTP/1?
// Not a parser: what it cannot tell goes to the HTTP/1 codec, which says what is wrong with it.
#pragma once

#include <cstdint>

#include "proxy/base/chain.h"

namespace proxy::server {

enum class Preface : std::uint8_t { http1, http2, need_more };

// `bytes`: all that came so far. RFC 9113 3.4: "PRI * HTTP/2.0" and ten bytes more, in full.
Preface find_preface(const Chain& bytes) noexcept;

}  // namespace proxy::server
