// The reference of all keys as Markdown, for the README; a test compares the two.
// Not the effective configuration (print.h).
#pragma once

#include <string>

namespace proxy::config {

/// Ends with a line feed. The same on every machine.
std::string config_reference_markdown();

}  // namespace proxy::config
