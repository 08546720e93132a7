// Attempt: one try to get a request answered by one endpoint.
// Not the decision to try again: the Exchange makes that from what an attempt reports.
#pragma once

#include <cstdint>

#include "proxy/filter/scope.h"
#include "proxy/http/stream.h"
#include "proxy/upstream/pool.h"

namespace proxy::exchange {

class Exchange;

// What the exchange keeps with an upstream connection.
struct UpstreamNote final : public upstream::ConnectionNote {
  filter::PeerMemo peer;
  std::string principal;  // verified; empty on plaintext
};

// A member of its exchange, used again for each try.
class Attempt final : public http::ResponseUser, public upstream::Waiter {
 public:
  explicit Attempt(Exchange& exchange) noexcept : exchange_(exchange) {}

  // Picks an endpoint and asks for a connection. On success the exchange is told attempt_ready(),
  // maybe before this returns; every later failure comes as attempt_failed().
  Result<> begin(upstream::Cluster& cluster, const http::RequestHead& head, std::size_t not_this);
  // Gives up, if there is anything to give up.
  void cancel(Error why);

  bool active() const noexcept { return cluster_ != nullptr; }
  bool ready() const noexcept { return stream.joined(); }
  // Nothing of the response came, on a connection that had served others: it may have been closed
  // by its peer's idle timer at the very moment.
  bool lost_race() const noexcept { return lost_race_; }
  // The endpoint is there, but this connection of it does not take the request (REFUSED_STREAM,
  // GOAWAY): another one may.
  bool refused() const noexcept { return refused_; }
  std::size_t endpoint() const noexcept { return endpoint_; }
  // Empty before the first begin().
  std::string_view address() const noexcept { return held_.text(); }
  UpstreamNote& note() noexcept { return *note_; }
  void forget() noexcept {
    held_.release();
    refused_ = false;
  }

 private:
  void attach(upstream::PooledConnection& connection);
  void release() noexcept;

  void on_ready(upstream::PooledConnection& connection) override;
  void on_failed(Error why) override;
  void on_informational(http::ResponseHead& head) override;
  void on_head(http::ResponseHead& head) override;
  void on_data(Chain body) override;
  void on_end(http::HeaderMap trailers) override;
  void on_sent(std::size_t bytes) override;
  void on_reset(Error why, http::Wire wire) override;

  Exchange& exchange_;
  upstream::Cluster* cluster_ = nullptr;  // while a request is under way there
  upstream::EndpointHold held_;           // of the last begin(), for its address
  UpstreamNote* note_ = nullptr;          // of the connection, while its stream is joined
  std::size_t endpoint_ = 0;
  std::uint64_t connection_ = 0;  // number of the last one
  bool on_reused_ = false;
  bool anything_came_ = false;
  bool lost_race_ = false;
  bool multiplexed_ = false;
  bool refused_ = false;
};

}  // namespace proxy::exchange
