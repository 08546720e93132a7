// Filter: one thing done to the heads of every request and response of a direction.
// Not per request: a filter is immutable and shared by all workers; what differs is in the Scope.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "proxy/base/result.h"
#include "proxy/config/schema.h"
#include "proxy/filter/scope.h"
#include "proxy/http/message.h"
#include "telemetry/registry.h"

namespace proxy::filter {

class Filter {
 public:
  virtual ~Filter() = default;
  // A connection that is passed on as TCP, once; an Error refuses it.
  virtual Result<> on_connection(Scope&) const { return {}; }
  // An Error refuses the request: the exchange answers as errors.def says, and later filters'
  // on_request is not called (on_local_reply is, for all).
  virtual Result<> on_request(http::RequestHead&, Scope&) const { return {}; }
  // A response of the upstream, before it goes down. Also called for interim (1xx) responses,
  // which filters leave as they are but for what must not pass.
  virtual void on_response(http::ResponseHead&, Scope&) const {}
  // A response the proxy made itself, perhaps before any on_request.
  virtual void on_local_reply(http::ResponseHead&, Scope&) const {}
};

class Chain {
 public:
  explicit Chain(std::vector<std::unique_ptr<const Filter>> filters) noexcept
      : filters_(std::move(filters)) {}
  Result<> on_connection(Scope& scope) const;
  Result<> on_request(http::RequestHead& head, Scope& scope) const;
  void on_response(http::ResponseHead& head, Scope& scope) const;  // in reverse order
  void on_local_reply(http::ResponseHead& head, Scope& scope) const;

 private:
  std::vector<std::unique_ptr<const Filter>> filters_;
};

// What a default Istio sidecar does, in its order (spec 3.5). `registry` names the rules' counters.
Chain make_inbound(const config::Config& config, telemetry::Registry& registry);
Chain make_outbound(const config::Config& config, telemetry::Registry& registry);

}  // namespace proxy::filter
