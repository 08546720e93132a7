// Exchange: one request from its first byte to its last, and the only thing that knows both sides.
// Not a codec: it speaks to streams; not a policy: filters, routes and clusters decide.
//
// Life: start() on the first byte of the request line -> on_head or on_refused -> attempts and
// replies -> finish(), exactly once, whatever happened -> back into the pool at the turn's end.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "proxy/exchange/attempt.h"
#include "proxy/exchange/environment.h"
#include "proxy/exchange/grpc_call.h"
#include "proxy/http/stream.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"

namespace proxy::exchange {

class ExchangePool;

class Exchange final : public http::RequestUser, public net::Reapable, public ListHook<Exchange> {
 public:
  using ListHook<Exchange>::unlink;

  Exchange(ExchangePool& pool, Environment& environment);

  // `refusal`, if not none: the request is answered with it once its head is there.
  void start(http::ServerStream& stream, Downstream& downstream, std::shared_ptr<const Rules> rules,
             Error refusal);

 private:
  friend class Attempt;
  friend class ExchangePool;

  // From the downstream stream.
  void on_head(http::RequestHead& head) override;
  void on_refused(Error why) override;
  void on_data(Chain body) override;
  void on_end(http::HeaderMap trailers) override;
  void on_sent(std::size_t bytes) override;
  void on_done(http::Wire wire, bool request_complete) override;
  void on_reset(Error why, http::Wire wire) override;

  // From the attempt.
  void attempt_ready();
  void attempt_failed(Error why);
  void response_informational(http::ResponseHead& head);
  void response_head(http::ResponseHead& head);
  void response_data(Chain body);
  void response_end(http::HeaderMap trailers);
  void request_sent(std::size_t bytes);

  void begin_attempt(std::size_t not_this);
  bool may_retry(const Error& why);
  void keep_for_replay(const Chain& body);
  void reply(Error why);
  void cut(Error why);  // after the response began: nothing can be said any more
  void flag(Code code);
  void deadline_passed();
  void stalled();
  void watch_progress();
  void begin_grpc();
  void grpc_due();
  bool deadline_exceeded();
  void report_messages();
  void finish(http::Wire wire);
  void count_refused(Error why);
  telemetry::DestinationRef destination();
  void describe_upstream(const tls::PeerIdentity* identity, filter::PeerMemo& memo);
  void clear();
  void dispose() noexcept override;

  // Body bytes kept to be sent again; above it the request can't be replayed.
  static constexpr std::size_t kReplayLimit = 64 * 1024;
  static constexpr unsigned kMaxAttempts = 3;

  ExchangePool& pool_;
  Environment& environment_;
  std::shared_ptr<const Rules> rules_;
  Downstream* downstream_ = nullptr;
  filter::Scope scope_;
  http::RequestHead head_;
  http::HeaderMap trailers_;
  Attempt attempt_;
  upstream::Cluster* cluster_ = nullptr;
  std::shared_ptr<upstream::Cluster> original_;  // where cluster_ is no cluster of the rules
  Chain pending_;                                // body that no upstream could take yet
  Chain replay_;                                 // shared references to body already sent
  Error refusal_{};
  net::Timer deadline_;  // first the head's, then the whole request's
  net::Timer progress_;  // nothing moves
  net::Timer grpc_due_;  // the deadline of a gRPC call, and its reports
  GrpcCall grpc_;
  telemetry::Flags flags_;
  std::string_view details_;
  std::string upstream_principal_;  // of the last attempt's connection
  telemetry::SecurityPolicy upstream_policy_ = telemetry::SecurityPolicy::unknown;
  std::uint64_t start_us_ = 0;
  std::uint64_t start_unix_us_ = 0;
  std::uint64_t upstream_start_us_ = 0;
  std::uint64_t first_byte_us_ = 0;
  std::uint64_t body_received_ = 0;
  std::uint64_t body_credited_ = 0;       // request body bytes whose credit went back
  std::uint64_t body_sent_upstream_ = 0;  // by the present attempt, from the body's beginning
  std::uint64_t response_unsent_ = 0;     // response body bytes that the client has yet to take
  unsigned attempts_ = 0;
  std::uint16_t code_ = 0;  // of the response head sent; 0: none was
  bool head_received_ = false;
  bool request_ended_ = false;
  bool response_ended_ = false;
  bool replying_ = false;
  bool tunnel_ = false;
  bool replayable_ = true;
  bool body_given_ = false;  // an attempt got some of the body
  bool retrying_ = false;    // holds a share of the cluster's retry budget
};

// A worker's exchanges: the living, and the used ones whose storage serves again.
class ExchangePool {
 public:
  explicit ExchangePool(Environment& environment) : environment_(environment) {}
  ~ExchangePool();

  Exchange& start(http::ServerStream& stream, Downstream& downstream,
                  std::shared_ptr<const Rules> rules, Error refusal = {});
  // Requests in flight: the length of the list itself.
  std::size_t live() const noexcept { return live_.size(); }

 private:
  friend class Exchange;
  static constexpr std::size_t kKept = 1024;

  Environment& environment_;
  IntrusiveList<Exchange> live_;  // owned until finish()
  std::vector<std::unique_ptr<Exchange>> free_;
};

}  // namespace proxy::exchange
