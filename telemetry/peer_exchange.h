// Istio's peer metadata on raw TCP: the frame that each side of an istio-peer-exchange connection
// sends before its first byte. Not when it is sent nor how it is read from a stream (proxy/tunnel).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "telemetry/peer_metadata.h"

namespace telemetry {

// A frame: magic and length, four bytes each and big endian, then a google.protobuf.Any of a Struct
// with the two entries that are headers over HTTP.
inline constexpr std::array<std::uint8_t, 4> kFrameMagic{0x3D, 0x23, 0x04, 0x67};
inline constexpr std::size_t kFrameHead = 8;
// A longer body is nobody's metadata; Istio knows no bound.
inline constexpr std::size_t kMaxFrameBody = kMaxMetadataBytes + 1024;

// The whole frame. The same metadata always gives the same bytes.
std::string exchange_frame(const OwnMetadata& own);

// What the body of a frame says; nothing when it is not what it should be.
std::optional<PeerMetadata> decode_exchange_body(std::string_view body);

}  // namespace telemetry
