// What nghttp2 is told to call, and how it is to behave.
// Not for anybody but Session.
#pragma once

#include <nghttp2/nghttp2.h>

#include <array>
#include <cstdint>

namespace proxy::http2 {

// Made once, shared by all sessions; their user data is the Session.
const nghttp2_session_callbacks* session_callbacks();
const nghttp2_option* session_option();
// Reads a SessionStream's bytes.
nghttp2_data_provider provider_of(void* stream) noexcept;

// The PING between the two GOAWAYs.
inline constexpr std::array<std::uint8_t, 8> kDrainPing{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'};

}  // namespace proxy::http2
