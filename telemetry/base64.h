// Base64 with the standard alphabet (RFC 4648 section 4). Not the URL alphabet.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace telemetry {

std::string base64_encode(std::string_view bytes);  // padded

// Padding may be missing, but not be wrong; anything outside the alphabet, a single left-over
// character and bits that would be lost are refused.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace telemetry
