// The verdict on a peer and its memory.
// Not the 403's text: errors.def.
#include "proxy/filter/authorization.h"

#include <atomic>

namespace proxy::filter {
namespace {

std::uint64_t next_number() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

Authorization::Authorization(const config::Mtls& mtls, telemetry::Registry& registry)
    : number_(next_number()),
      no_match_(registry.intern_rule(kNoMatch)),
      no_principal_(registry.intern_rule(kNoPrincipal)),
      mode_(mtls.audit ? telemetry::DenyMode::audit : telemetry::DenyMode::enforced) {
  allow_.reserve(mtls.allow.size());
  for (const config::AllowRule& rule : mtls.allow) {
    allow_.push_back({Glob(rule.principal), registry.intern_rule(rule.name)});
  }
}

std::optional<telemetry::RuleRef> Authorization::judge(std::string_view principal) const noexcept {
  if (principal.empty()) return {};  // not even "*" stands for a peer that nobody verified
  for (const Rule& rule : allow_) {
    if (rule.principal.matches(principal)) return rule.name;
  }
  return {};
}

Result<> Authorization::on_request(http::RequestHead&, Scope& scope) const {
  return on_connection(scope);
}

Result<> Authorization::on_connection(Scope& scope) const {
  if (allow_.empty()) return {};
  const std::string_view principal =
      scope.identity != nullptr ? scope.identity->spiffe_uri : std::string_view();
  PeerMemo& memo = *scope.downstream_peer;
  if (memo.judged_by != number_) {
    memo.allowed_by = judge(principal);
    memo.judged_by = number_;
  }
  if (memo.allowed_by) {
    scope.worker.shard.add_allowed(*memo.allowed_by);
    return {};
  }
  scope.worker.shard.add_denied(principal.empty() ? no_principal_ : no_match_, mode_);
  if (mode_ == telemetry::DenyMode::audit) return {};
  return std::unexpected(make_error(Code::denied, Side::downstream));
}

}  // namespace proxy::filter
