// The last page of an exchange: facts become metrics and a log line, exactly once.
// The only caller of telemetry's request functions.
#include <array>

#include "proxy/exchange/exchange.h"
#include "proxy/http/fault.h"
#include "telemetry/record.h"

namespace proxy::exchange {
namespace {

constexpr int none = -1;  // a flag column of errors.def without a flag
using enum telemetry::Flag;

template <class T>
constexpr telemetry::Flags flags_of(T flag) {
  if constexpr (std::is_same_v<T, telemetry::Flag>) {
    return telemetry::Flags(flag);
  } else {
    return {};
  }
}

constexpr std::array kFlags = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) flags_of(flag),
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
};

// The 32 hexadecimal digits of a traceparent's trace id (W3C Trace Context 3.2.2.3).
std::string_view trace_id(std::string_view traceparent) {
  if (traceparent.size() < 55 || traceparent[2] != '-' || traceparent[35] != '-') return {};
  const std::string_view id = traceparent.substr(3, 32);
  return id.find_first_not_of("0123456789abcdef") == std::string_view::npos ? id
                                                                            : std::string_view{};
}

telemetry::RefusedKind kind_of(http::Part part) {
  using telemetry::RefusedKind;
  switch (part) {
    case http::Part::start_line:
      return RefusedKind::start_line;
    case http::Part::method:
      return RefusedKind::method;
    case http::Part::target:
      return RefusedKind::target;
    case http::Part::version:
      return RefusedKind::version;
    case http::Part::host:
      return RefusedKind::host;
    case http::Part::header:
      return RefusedKind::header;
    case http::Part::content_length:
      return RefusedKind::content_length;
    case http::Part::transfer_encoding:
      return RefusedKind::transfer_encoding;
    case http::Part::chunk:
      return RefusedKind::chunk;
    case http::Part::head_size:
      return RefusedKind::head_size;
    case http::Part::body:
      return RefusedKind::body;
    case http::Part::other:
      break;
  }
  return RefusedKind::other;
}

}  // namespace

void Exchange::flag(Code code) {
  flags_ = flags_ | kFlags[static_cast<std::size_t>(code)];
}

void Exchange::on_done(http::Wire wire, bool) {
  finish(wire);
}

void Exchange::on_reset(Error why, http::Wire wire) {
  flag(why.code);
  if (details_.empty()) details_ = http::details_of(why);  // the first cause stays
  finish(wire);
}

telemetry::DestinationRef Exchange::destination() {
  telemetry::Shard& shard = environment_.filters.shard;
  const route::Plan& plan = *scope_.plan;
  if (plan.unmatched) {
    // Without a head nobody knows where it should have gone: all is "unknown".
    if (!head_received_) return shard.intern_destination({});
    return shard.intern_unmatched_host(head_.authority_view(), plan.service_name,
                                       plan.service_namespace);
  }
  const auto ref = rules_->destinations[rules_->routes->index_of(plan)];
  if (shard.alive(ref)) return ref;
  return shard.intern_destination({plan.service, plan.service_name, plan.service_namespace});
}

void Exchange::finish(http::Wire wire) {
  // Both may be due in this very tick.
  deadline_.stop();
  progress_.stop();
  grpc_due_.stop();
  const std::uint64_t now = environment_.loop.now_us();
  const bool outbound = scope_.direction == telemetry::Direction::outbound;
  telemetry::RequestFacts facts;
  facts.reporter = outbound ? telemetry::Reporter::source : telemetry::Reporter::destination;
  facts.response_code = code_;
  facts.protocol = grpc_.active() ? telemetry::Protocol::grpc : telemetry::Protocol::http;
  facts.grpc_status = grpc_.status(code_);
  facts.peer = scope_.peer;
  facts.destination = destination();
  facts.flags = flags_;
  facts.policy = downstream_->policy;
  facts.start_unix_us = start_unix_us_;
  facts.duration_us = now - start_us_;
  facts.first_byte_us = first_byte_us_;
  facts.upstream_us = scope_.upstream_us;
  facts.request_bytes = wire.received;
  facts.response_bytes = wire.sent;
  facts.method = head_.method_view();
  facts.authority = head_.authority_view();
  facts.path = head_.target_view();
  facts.protocol_text = http::version_text(head_.version);
  facts.upstream_address = attempt_.address();
  facts.request_id = scope_.request_id.view();
  facts.trace_id = trace_id(head_.headers.get(http::NameId::traceparent).value_or(""));
  facts.response_code_details = details_;
  if (outbound) {
    facts.peer_principal = upstream_principal_;
    if (rules_->config->stats.source_security_policy == config::SourcePolicy::verified) {
      facts.policy = upstream_policy_;
    }
  } else if (downstream_->identity != nullptr) {
    facts.peer_principal = downstream_->identity->spiffe_uri;
  }

  attempt_.cancel(make_error(Code::downstream_closed, Side::downstream));
  if (retrying_) cluster_->retry_ended();
  if (grpc_.active()) report_messages();
  unlink();
  telemetry::Shard& shard = environment_.filters.shard;
  shard.add(telemetry::Counter::bytes, wire.received, scope_.direction, telemetry::Way::received);
  shard.add(telemetry::Counter::bytes, wire.sent, scope_.direction, telemetry::Way::sent);
  // The line first: who sees a request counted knows that its line was judged by the mode of then.
  environment_.access_log.push(facts);
  telemetry::record(shard, facts, pool_.live(), downstream_->series);
  environment_.loop.reap_pooled(*this);
}

void Exchange::count_refused(Error why) {
  using telemetry::RefusedKind;
  const http::Part part = http::part_of(http::fault_of(why));
  RefusedKind kind = RefusedKind::response;
  if (why.code != Code::bad_response) {
    // A field after the head is a trailer.
    kind = part == http::Part::header && head_received_ ? RefusedKind::body : kind_of(part);
    if (part == http::Part::head_size) {
      environment_.filters.shard.add(telemetry::Counter::limits_hit, 1, telemetry::Limit::head);
    }
  }
  environment_.filters.shard.add(telemetry::Counter::messages_refused, 1, scope_.direction, kind);
}

void Exchange::clear() {
  attempt_.forget();  // lets go of the cluster that the next two may end
  rules_.reset();
  original_.reset();
  downstream_ = nullptr;
  head_.clear();
  trailers_.clear();
  pending_.clear();
  replay_.clear();
  cluster_ = nullptr;
  refusal_ = {};
  flags_ = {};
  details_ = {};
  upstream_principal_.clear();
  upstream_policy_ = telemetry::SecurityPolicy::unknown;
  scope_.identity = nullptr;
  scope_.upstream_peer = nullptr;
  scope_.plan = nullptr;
  scope_.upstream_us = 0;
  scope_.attempt = 1;
  scope_.request_id = {};
  scope_.peer_sent_id = scope_.peer_sent_metadata = scope_.peer_named_operation = false;
  upstream_start_us_ = first_byte_us_ = 0;
  body_received_ = body_credited_ = body_sent_upstream_ = response_unsent_ = 0;
  grpc_ = {};
  attempts_ = 0;
  code_ = 0;
  head_received_ = request_ended_ = response_ended_ = replying_ = tunnel_ = retrying_ = false;
  body_given_ = false;
  replayable_ = true;
}

void Exchange::dispose() noexcept {
  std::unique_ptr<Exchange> self(this);
  clear();
  if (pool_.free_.size() < ExchangePool::kKept) pool_.free_.push_back(std::move(self));
}

// Once a connection: who is at its other end, as far as TLS tells.
void Exchange::describe_upstream(const tls::PeerIdentity* identity, filter::PeerMemo& memo) {
  std::string_view theirs;
  std::string_view ours;
  if (identity != nullptr) {
    theirs = identity->spiffe_uri;
    ours = rules_->upstream_principal;
  }
  memo.base = telemetry::peer_labels(nullptr, theirs, ours, telemetry::SecurityPolicy::unknown);
}

}  // namespace proxy::exchange
