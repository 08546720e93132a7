// The iptables programs of this machine: which there are, reading and changing rules with them.
// Not the rules themselves, and not what to do with them (apply.h).
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/redirect/options.h"
#include "proxy/redirect/saved.h"

namespace proxy::redirect {

// The kernel keeps the two apart: rules of one are not seen by the programs of the other.
enum class Backend : std::uint8_t { nft, legacy };
std::string_view name_of(Backend backend) noexcept;

class Tables {
 public:
  // The programs of this backend, by their own names (iptables-nft-save) or by the general ones
  // (iptables-save) when these are of this backend. Nothing when there are none.
  // `own_lock`: do not wait for the host's lock of iptables (a pod's namespace seen from the host).
  static std::optional<Tables> find(Backend backend, bool own_lock);

  Backend backend() const noexcept { return backend_; }
  // Is it what plain `iptables` means on this machine?
  bool is_default() const noexcept { return is_default_; }

  // The error is in words and ends with what to do about it.
  std::expected<Saved, std::string> read(Family family) const;
  std::expected<void, std::string> change(Family family, const std::string& text) const;

 private:
  struct Programs {
    std::string save, restore;
  };

  Backend backend_ = Backend::nft;
  bool is_default_ = false;
  bool own_lock_ = false;
  std::array<Programs, 2> programs_;  // by family
};

// What to say when no backend was found. `wanted` as with --force-iptables-binary.
std::string no_programs(std::optional<Backend> wanted);

// What an error of these programs means and what to do about it; empty when nothing is known.
// For tests and for `Tables`.
std::string advice(std::string_view message, Backend backend, Family family);

// Missing capabilities in words; empty when all that `backend` needs are there.
std::string missing_capabilities(Backend backend);

}  // namespace proxy::redirect
