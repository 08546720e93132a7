// Fuzz target for what peers say of themselves: a header's value and the bytes of a Struct, decoded
// and made into labels.
// Not the exposition of these labels (tests/unit/telemetry/hostile_test.cc).
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "telemetry/peer_metadata.h"

namespace {

void look(const std::optional<telemetry::PeerMetadata>& peer) {
  if (!peer) return;
  const telemetry::PeerLabels labels =
      telemetry::peer_labels(&*peer, {}, {}, telemetry::SecurityPolicy::none, true);
  // What is missing is named "unknown", never left out.
  if (labels.workload.workload.empty() || labels.peer_principal.empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(bytes), size);
  look(telemetry::decode_metadata_struct(input));
  look(telemetry::decode_metadata_header(input));
  return 0;
}
