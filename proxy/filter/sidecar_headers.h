// SidecarHeaders: the headers that a default Istio sidecar sets and strips (spec 3.5).
// Not the peer metadata exchange, and not hop-by-hop fields, which are the codecs' business.
#pragma once

#include <string>
#include <string_view>

#include "proxy/filter/filter.h"

namespace proxy::filter {

// No client is deemed internal: Envoy's control headers (retries, timeouts, tracing) are taken out
// of every request, and an app sees only what this sidecar says itself.
class SidecarHeaders : public Filter {
 public:
  void on_local_reply(http::ResponseHead& head, Scope& scope) const override;

 protected:
  SidecarHeaders(const config::Config& config, std::string_view server);

  // What both directions do to a request. `scheme`: for x-forwarded-proto when there is none.
  void prepare(http::RequestHead& head, Scope& scope, std::string_view scheme) const;
  // What both directions do to a response of the upstream.
  void answer(http::ResponseHead& head, const Scope& scope) const;

 private:
  std::string_view server_;
  std::string timeout_ms_;  // timeouts.request; empty when it is off
};

class InboundSidecarHeaders final : public SidecarHeaders {
 public:
  explicit InboundSidecarHeaders(const config::Config& config)
      : SidecarHeaders(config, "istio-envoy") {}
  Result<> on_request(http::RequestHead& head, Scope& scope) const override;
  void on_response(http::ResponseHead& head, Scope& scope) const override;
  void on_local_reply(http::ResponseHead& head, Scope& scope) const override;
};

class OutboundSidecarHeaders final : public SidecarHeaders {
 public:
  explicit OutboundSidecarHeaders(const config::Config& config) : SidecarHeaders(config, "envoy") {}
  Result<> on_request(http::RequestHead& head, Scope& scope) const override;
  void on_response(http::ResponseHead& head, Scope& scope) const override;
};

// x-envoy-attempt-count, overwritten. on_request does it for the first try; whoever sends the
// request once more, for the next ones.
void set_attempt_count(http::RequestHead& head, unsigned attempt);

}  // namespace proxy::filter
