// The table of hostile requests as values.
// Not the place for requests that must pass.
#pragma once

#include <array>
#include <string_view>

namespace proxy::test {

struct HostileRequest {
  std::string_view name;
  unsigned status;
  std::string_view word;  // of its http::Fault
  std::string_view raw;
};

inline constexpr HostileRequest kHostileRequests[] = {
#define HOSTILE(name, status, word, raw) \
  {name, status, word, std::string_view(raw, sizeof(raw) - 1)},
#include "tests/support/hostile_requests.def"
#undef HOSTILE
};

}  // namespace proxy::test
