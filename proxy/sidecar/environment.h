// From the environment of an injected pod to a configuration: what `hoplite sidecar` runs from.
// docker/kubernetes/README.md lists the variables. Not the running, and not the injection.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <string>

namespace proxy::sidecar {

using Variables = std::map<std::string, std::string, std::less<>>;

// Variables of a null-ended "NAME=VALUE" array such as `environ`; empty ones are left out, since
// empty and absent are the same.
Variables variables_from(const char* const* environment);

// The configuration as text that config/ reads, HOPLITE_* variables not counted: those outweigh it
// as they outweigh a file. The error is a sentence that names the variable at fault.
std::expected<std::string, std::string> configuration(const Variables& variables);

}  // namespace proxy::sidecar
