// Text of one value to its type and back: durations, sizes, counts, addresses, host patterns.
// Not keys or bounds (keys.h), nor files (parse.h). Errors are what is allowed, as a phrase.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/config/schema.h"

namespace proxy::config {

/// "1500ms", "10s", "5m", "1h", "0"; whole numbers only. Empty on anything else or overflow.
std::optional<Milliseconds> parse_duration(std::string_view text);

/// "60KiB", "1MiB", "4KB", "512B", "0"; K = 1000, Ki = 1024. A space may stand before the unit.
std::optional<std::uint64_t> parse_size(std::string_view text);

/// Decimal digits only, no sign, no leading zeros.
std::optional<std::uint64_t> parse_count(std::string_view text);

/// "true" or "false" and nothing else.
std::optional<bool> parse_boolean(std::string_view text);

/// The forms of ListenAddress. The error says what is wrong, without the text itself.
std::expected<ListenAddress, std::string> parse_listen(std::string_view text);

/// The forms of Endpoint; a name keeps empty addresses.
std::expected<Endpoint, std::string> parse_endpoint(std::string_view text);

/// A Host value or "*.suffix", in lower case.
std::expected<std::string, std::string> parse_host_pattern(std::string_view text);

/// An IP literal without brackets; empty = it is none.
std::optional<IpAddress> parse_ip(std::string_view text);

/// An IP literal, or a CIDR whose host bits are 0 ("10.0.0.0/8"); as it is.
std::expected<std::string, std::string> parse_network(std::string_view text);

/// An IP literal, or one with a port as in Endpoint; as it is.
std::expected<std::string, std::string> parse_name_server(std::string_view text);

/// The largest unit that gives a whole number: "90s", "1h", "0"; one minute is "60s".
std::string duration_text(Milliseconds duration);

/// The largest binary unit that gives a whole number: "60KiB", "1500B", "0".
std::string size_text(std::uint64_t bytes);

/// No control byte, valid UTF-8.
[[nodiscard]] bool is_plain_text(std::string_view text);

/// Length of the valid UTF-8 sequence at the start of `text`, 0 if there is none.
[[nodiscard]] std::size_t utf8_sequence(std::string_view text);

}  // namespace proxy::config
