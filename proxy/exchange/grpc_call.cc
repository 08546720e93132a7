// Implementation of grpc_call.h, and what an exchange does when a gRPC call is due for something.
// Not the end of a request: finish.cc.
#include "proxy/exchange/grpc_call.h"

#include <algorithm>

#include "proxy/exchange/exchange.h"
#include "proxy/http/fault.h"
#include "proxy/http/reply.h"
#include "telemetry/record.h"

namespace proxy::exchange {

using std::chrono::microseconds;

void GrpcCall::begin(const http::RequestHead& head, std::uint64_t now_us) noexcept {
  if (head.upgrade.length != 0 || !http::is_grpc(head.headers)) return;
  active_ = true;
  report_us_ = now_us + static_cast<std::uint64_t>(kReportEvery.count());
  if (const auto timeout = http::grpc_timeout_in(head.headers)) {
    deadline_us_ = now_us + static_cast<std::uint64_t>((*timeout + kGrace).count());
  }
}

void GrpcCall::response_head(const http::ResponseHead& head) noexcept {
  if (!active_) return;
  status_ = http::grpc_status_in(head.headers);
  counts_responses_ = head.status == 200 && http::is_grpc(head.headers);
  trailers_fit_ = head.body.kind == http::BodyLength::Kind::unknown;
}

void GrpcCall::response_end(const http::HeaderMap& trailers) noexcept {
  if (!active_) return;
  if (const auto status = http::grpc_status_in(trailers)) status_ = status;
}

std::chrono::milliseconds GrpcCall::next_due(std::uint64_t now_us) const noexcept {
  const std::uint64_t due = deadline_us_ == 0 ? report_us_ : std::min(deadline_us_, report_us_);
  const std::uint64_t left = due > now_us ? due - now_us : 0;
  return std::chrono::ceil<std::chrono::milliseconds>(microseconds(left));
}

bool GrpcCall::take_deadline(std::uint64_t now_us) noexcept {
  if (deadline_us_ == 0 || now_us < deadline_us_) return false;
  deadline_us_ = 0;
  return true;
}

bool GrpcCall::take_report(std::uint64_t now_us) noexcept {
  if (now_us < report_us_) return false;
  report_us_ = now_us + static_cast<std::uint64_t>(kReportEvery.count());
  return true;
}

std::int16_t GrpcCall::status(unsigned http_status) const noexcept {
  if (!active_) return telemetry::kNoGrpc;
  if (status_) return static_cast<std::int16_t>(*status_);
  if (http_status == 0) return telemetry::kNoGrpc;
  return static_cast<std::int16_t>(http::grpc_status_from_http(http_status));
}

void GrpcCall::take_messages(telemetry::MessageFacts& facts) noexcept {
  facts.request_messages = requests_.messages() - requests_told_;
  facts.response_messages = responses_.messages() - responses_told_;
  requests_told_ = requests_.messages();
  responses_told_ = responses_.messages();
}

// --- the exchange's part ------------------------------------------------------------------

void Exchange::begin_grpc() {
  const std::uint64_t now = environment_.loop.now_us();
  grpc_.begin(head_, now);
  if (grpc_.active()) grpc_due_.start(grpc_.next_due(now));
}

void Exchange::grpc_due() {
  const std::uint64_t now = environment_.loop.now_us();
  if (grpc_.take_deadline(now) && !replying_ && !response_ended_ && !deadline_exceeded()) return;
  // Outbound the peer says who it is with its response; until then nothing is told.
  const bool peer_known = scope_.direction == telemetry::Direction::inbound || code_ != 0;
  if (grpc_.take_report(now) && peer_known) report_messages();
  grpc_due_.start(grpc_.next_due(now));
}

// False when that ended the exchange.
bool Exchange::deadline_exceeded() {
  environment_.filters.shard.add(telemetry::Counter::timeouts, 1,
                                 telemetry::Timeout::grpc_deadline);
  const Error why = make_error(Code::grpc_deadline, Side::upstream);
  if (code_ == 0) {
    reply(why);
    return true;
  }
  if (!grpc_.trailers_fit() || head_.version == http::Version::http10) {
    cut(why);
    return false;
  }
  // The response has begun, and its status is still to come: it can be ours.
  flag(why.code);
  details_ = http::details_of(why);
  attempt_.cancel(why);
  grpc_.replied(grpc_status(why.code));
  http::HeaderMap trailers;
  http::add_grpc_status(trailers, why);
  response_ended_ = replying_ = true;
  stream->send_end(std::move(trailers));
  return true;
}

void Exchange::report_messages() {
  telemetry::MessageFacts facts;
  facts.reporter = scope_.direction == telemetry::Direction::outbound
                       ? telemetry::Reporter::source
                       : telemetry::Reporter::destination;
  facts.peer = scope_.peer;
  facts.destination = destination();
  grpc_.take_messages(facts);
  telemetry::record(environment_.filters.shard, facts, pool_.live(), downstream_->messages);
}

}  // namespace proxy::exchange
