// Authorization: may this peer's requests pass? mtls.allow, judged for every request.
// Not authentication: TLS has verified who the peer is, and mtls.mode says who may come without.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "proxy/filter/filter.h"
#include "proxy/filter/glob.h"

namespace proxy::filter {

// Inbound only. Without rules everybody passes. With rules, a peer passes whose principal matches
// one of them; all others, those without a principal included, get Error{denied}, or with `audit`
// are only counted. Counters name the rule that let a request in, and for what was denied kNoMatch
// or kNoPrincipal.
//
// A connection's verdict is remembered in its PeerMemo until another snapshot's rules are asked.
class Authorization final : public Filter {
 public:
  static constexpr std::string_view kNoMatch = "no_match";
  static constexpr std::string_view kNoPrincipal = "no_principal";

  Authorization(const config::Mtls& mtls, telemetry::Registry& registry);
  Result<> on_connection(Scope& scope) const override;
  Result<> on_request(http::RequestHead& head, Scope& scope) const override;

 private:
  struct Rule {
    Glob principal;
    telemetry::RuleRef name;
  };
  std::optional<telemetry::RuleRef> judge(std::string_view principal) const noexcept;

  const std::uint64_t number_;  // unlike an address, never used a second time
  std::vector<Rule> allow_;
  telemetry::RuleRef no_match_;
  telemetry::RuleRef no_principal_;
  telemetry::DenyMode mode_;
};

}  // namespace proxy::filter
