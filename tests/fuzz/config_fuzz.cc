// Fuzz target for configuration files: whatever a file says, reading, judging and printing come
// back, and say why when they refuse.
// Reads no file and no environment: only the text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "proxy/config/keys.h"
#include "proxy/config/parse.h"
#include "proxy/config/print.h"
#include "proxy/config/validate.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace proxy::config;
  Config config = default_config();
  Origins origins;
  Diagnostics diagnostics;
  parse(std::string_view(reinterpret_cast<const char*>(bytes), size), "hoplite.yaml", config,
        origins, diagnostics);
  validate(config, origins, diagnostics);
  if (has_errors(diagnostics) && render(diagnostics).empty()) std::abort();
  if (print(config, origins).empty()) std::abort();
  return 0;
}
