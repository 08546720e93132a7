// The chains of both directions and how they are run.
// Not the filters themselves: one file each.
#include "proxy/filter/filter.h"

#include <ranges>

#include "proxy/filter/authorization.h"
#include "proxy/filter/peer_metadata.h"
#include "proxy/filter/sidecar_headers.h"

namespace proxy::filter {

Result<> Chain::on_connection(Scope& scope) const {
  for (const auto& filter : filters_) {
    if (Result<> result = filter->on_connection(scope); !result) return result;
  }
  return {};
}

Result<> Chain::on_request(http::RequestHead& head, Scope& scope) const {
  for (const auto& filter : filters_) {
    if (Result<> result = filter->on_request(head, scope); !result) return result;
  }
  return {};
}

void Chain::on_response(http::ResponseHead& head, Scope& scope) const {
  for (const auto& filter : filters_ | std::views::reverse) filter->on_response(head, scope);
}

void Chain::on_local_reply(http::ResponseHead& head, Scope& scope) const {
  for (const auto& filter : filters_ | std::views::reverse) filter->on_local_reply(head, scope);
}

// A denied request has a request id and its peer's labels, so the verdict comes last.
Chain make_inbound(const config::Config& config, telemetry::Registry& registry) {
  std::vector<std::unique_ptr<const Filter>> filters;
  filters.push_back(std::make_unique<InboundSidecarHeaders>(config));
  filters.push_back(std::make_unique<InboundPeerMetadata>(config));
  filters.push_back(std::make_unique<Authorization>(config.mtls, registry));
  return Chain(std::move(filters));
}

Chain make_outbound(const config::Config& config, telemetry::Registry&) {
  std::vector<std::unique_ptr<const Filter>> filters;
  filters.push_back(std::make_unique<OutboundSidecarHeaders>(config));
  filters.push_back(std::make_unique<OutboundPeerMetadata>(config));
  return Chain(std::move(filters));
}

}  // namespace proxy::filter
