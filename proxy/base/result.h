// Result<T>: a value or an Error. How the data path reports failure.
// Not for configuration and start-up, which collect diagnostics instead.
#pragma once

#include <expected>

#include "proxy/base/error.h"

namespace proxy {

template <class T = void>
using Result = std::expected<T, Error>;

}  // namespace proxy
