// Is this Prometheus' text format 0.0.4? Asked of metrics that are not ours before they are put
// behind ours: one bad line makes Prometheus drop a whole scrape. Not the writing (exposition.cc).
#pragma once

#include <string_view>

namespace telemetry {

/// True when Prometheus' own parser takes every line; the last need not end in a line end. Empty
/// text is fine. Linear in the text, allocates nothing.
bool is_text_format(std::string_view text) noexcept;

}  // namespace telemetry
