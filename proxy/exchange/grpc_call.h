// GrpcCall: what an exchange remembers of a request that is gRPC: messages, status, deadline.
// Not a decision: the exchange asks when something is due and acts.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "proxy/http/grpc.h"
#include "proxy/http/message.h"
#include "telemetry/facts.h"

namespace proxy::exchange {

// All times are microseconds of the loop's clock. Everything does nothing until begin().
class GrpcCall {
 public:
  // How often messages are told of while the stream lives: Istio's reporting interval.
  static constexpr std::chrono::microseconds kReportEvery = std::chrono::seconds(5);
  // How long after its deadline a call may still be answered by the server: it knows the deadline
  // as well, and its own words are better than ours.
  static constexpr std::chrono::microseconds kGrace = std::chrono::milliseconds(50);

  // A request's head; active() afterwards when it is gRPC.
  void begin(const http::RequestHead& head, std::uint64_t now_us) noexcept;
  bool active() const noexcept { return active_; }

  void request_data(const Chain& body) noexcept {
    if (active_) requests_.add(body);
  }
  void response_head(const http::ResponseHead& head) noexcept;
  void response_data(const Chain& body) noexcept {
    if (counts_responses_) responses_.add(body);
  }
  void response_end(const http::HeaderMap& trailers) noexcept;
  // What we answered ourselves.
  void replied(unsigned status) noexcept { status_ = static_cast<int>(status); }

  // Whether trailers can still end the response that has begun: its length is not fixed.
  bool trailers_fit() const noexcept { return trailers_fit_; }

  // Until something is due: the deadline (with its grace) or the next report.
  std::chrono::milliseconds next_due(std::uint64_t now_us) const noexcept;
  // True once, when the deadline and its grace are over.
  bool take_deadline(std::uint64_t now_us) noexcept;
  bool take_report(std::uint64_t now_us) noexcept;

  // The label's value, for the HTTP status that the client got (0: none).
  std::int16_t status(unsigned http_status) const noexcept;
  // Moves what no report has told of into `facts`.
  void take_messages(telemetry::MessageFacts& facts) noexcept;

 private:
  bool active_ = false;
  bool counts_responses_ = false;
  bool trailers_fit_ = false;
  std::optional<int> status_;
  std::uint64_t deadline_us_ = 0;  // with the grace; 0: none
  std::uint64_t report_us_ = 0;
  std::uint64_t requests_told_ = 0;
  std::uint64_t responses_told_ = 0;
  http::GrpcMessageCounter requests_;
  http::GrpcMessageCounter responses_;
};

}  // namespace proxy::exchange
