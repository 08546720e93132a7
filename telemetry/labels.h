// The label values that are small enumerations, and the strings of the two ends of a hop.
// Not the strings' storage (registry.h) nor the metrics that carry them (metrics.def).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace telemetry {

enum class Reporter : std::uint8_t { source, destination };
enum class Protocol : std::uint8_t { http, grpc, tcp };
enum class SecurityPolicy : std::uint8_t { unknown, none, mutual_tls };

// Which of our listeners a connection came in on: inbound = to the workload, outbound = from it.
enum class Direction : std::uint8_t { inbound, outbound };

constexpr std::string_view text(Reporter value) noexcept {
  constexpr std::array<std::string_view, 2> kTexts{"source", "destination"};
  return kTexts[static_cast<std::size_t>(value)];
}
constexpr std::string_view text(Protocol value) noexcept {
  constexpr std::array<std::string_view, 3> kTexts{"http", "grpc", "tcp"};
  return kTexts[static_cast<std::size_t>(value)];
}
constexpr std::string_view text(SecurityPolicy value) noexcept {
  constexpr std::array<std::string_view, 3> kTexts{"unknown", "none", "mutual_tls"};
  return kTexts[static_cast<std::size_t>(value)];
}

// Envoy's response flags; the enumerator is the code in lower case (DO is a keyword in C++).
enum class Flag : std::uint8_t {
  uh,
  uf,
  uo,
  nr,
  urx,
  nc,
  dt,
  dc,
  lh,
  ut,
  lr,
  ur,
  uc,
  di,
  fi,
  rl,
  uaex,
  rlse,
  ih,
  si,
  dpe,
  upe,
  umsdr,
  rfcf,
  nfcf,
  om,
  df,
  drop_overload,
  dr,
  udo
};

inline constexpr std::array<std::string_view, 30> kFlagTexts{
    "UH",  "UF",  "UO",    "NR",   "URX",  "NC", "DT",   "DC",   "LH", "UT",
    "LR",  "UR",  "UC",    "DI",   "FI",   "RL", "UAEX", "RLSE", "IH", "SI",
    "DPE", "UPE", "UMSDR", "RFCF", "NFCF", "OM", "DF",   "DO",   "DR", "UDO"};

constexpr std::string_view text(Flag flag) noexcept {
  return kFlagTexts[static_cast<std::size_t>(flag)];
}

// The flag with this code, as in "UF"; nothing for an unknown code.
constexpr std::optional<Flag> flag_from(std::string_view code) noexcept {
  for (std::size_t i = 0; i < kFlagTexts.size(); ++i) {
    if (kFlagTexts[i] == code) return static_cast<Flag>(i);
  }
  return std::nullopt;
}

// A set of flags. A value; prints in the order of Flag.
class Flags {
 public:
  constexpr Flags() noexcept = default;
  constexpr Flags(Flag flag) noexcept  // NOLINT: a flag is a set of one
      : bits_(1U << static_cast<unsigned>(flag)) {}
  static constexpr Flags from_bits(std::uint32_t bits) noexcept {
    Flags flags;
    flags.bits_ = bits;
    return flags;
  }

  constexpr void set(Flag flag) noexcept { bits_ |= 1U << static_cast<unsigned>(flag); }
  constexpr bool has(Flag flag) const noexcept {
    return (bits_ >> static_cast<unsigned>(flag) & 1U) != 0;
  }
  constexpr bool empty() const noexcept { return bits_ == 0; }
  constexpr std::uint32_t bits() const noexcept { return bits_; }
  constexpr Flags operator|(Flags other) const noexcept { return from_bits(bits_ | other.bits_); }
  constexpr bool operator==(const Flags&) const noexcept = default;

 private:
  std::uint32_t bits_ = 0;
};

// "-" when empty, else the codes joined by commas. Not for the hot path.
std::string text(Flags flags);

// What is said of one workload. An own value that is not configured is the empty string.
struct WorkloadLabels {
  std::string workload{};
  std::string workload_namespace{};
  std::string canonical_service{};
  std::string canonical_revision{};
  std::string app{};
  std::string version{};
  std::string cluster{};

  bool operator==(const WorkloadLabels&) const = default;
};

// A peer that nothing is known of: "unknown" everywhere, but the revision is "latest".
WorkloadLabels unknown_peer();

// The other end of a hop, after the rules for missing values: use unknown_peer() as the start and
// overwrite what is known. `policy` is not part of the identity of a peer in the tables of
// interned labels: it goes from here into RequestFacts::policy.
struct PeerLabels {
  WorkloadLabels workload = unknown_peer();
  std::string peer_principal = "unknown";  // spiffe://... of the verified peer certificate
  std::string own_principal = "unknown";   // of our certificate on that connection
  SecurityPolicy policy = SecurityPolicy::unknown;
};

struct DestinationLabels {
  std::string service = "unknown";
  std::string service_name = "unknown";
  std::string service_namespace = "unknown";
};

}  // namespace telemetry
