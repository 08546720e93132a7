// ServerConnection: streams become requests, and answers become frames.
// Not re-entrant by design: what nghttp2 tells is written down first and told afterwards.
#include "proxy/http2/server_connection.h"

#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http2/head_writer.h"

namespace proxy::http2 {
namespace {

// What the client is told of a stream that we give up.
ErrorCode reset_code(const Error& why) noexcept {
  switch (why.code) {
    case Code::bad_request:
      return ErrorCode::protocol_error;
    case Code::none:
    case Code::header_timeout:
    case Code::request_stalled:
    case Code::downstream_closed:
      return ErrorCode::cancel;
    case Code::upstream_reset:  // a server's cancellation is carried on; its faults are not ours
      return error_code(static_cast<std::uint32_t>(why.detail)) == ErrorCode::cancel
                 ? ErrorCode::cancel
                 : ErrorCode::internal_error;
    default:
      return ErrorCode::internal_error;
  }
}

}  // namespace

class ServerConnection::Slot final : public JoinedStream<http::ServerStream> {
 public:
  explicit Slot(ServerConnection& connection) noexcept : connection_(connection) {}

  void send_informational(http::ResponseHead& head) override;
  void send_head(http::ResponseHead& head) override;
  void send_data(Chain body) override { connection_.queue_data(*this, std::move(body)); }
  void send_end(http::HeaderMap trailers) override;
  void consume(std::size_t bytes) override { connection_.Session::consume(*this, bytes); }
  void reset(Error why) override;
  void close_after_response() noexcept override {}

  http::HeaderMap& head_fields() noexcept override { return head.headers; }
  void renew() noexcept override {
    SessionStream::renew();
    head.clear();
    tell_started = tell_head = tell_refused = refused = false;
    head_request = upgrade = tunnel = left = false;
  }

  http::RequestHead head;
  bool tell_started = false;
  bool tell_head = false;
  bool tell_refused = false;  // and `why`
  bool refused = false;       // what else comes of the request is thrown away
  bool head_request = false;
  bool upgrade = false;
  bool tunnel = false;
  bool left = false;  // the response has left, END_STREAM and all

 private:
  ServerConnection& connection_;
};

ServerConnection::ServerConnection(std::unique_ptr<net::Transport> transport,
                                   http::RequestHandler& handler,
                                   http::ServerConnectionOwner& owner,
                                   const ServerConnectionOptions& options)
    : Session(Role::server, std::move(transport), options),
      handler_(handler),
      owner_(owner),
      options_(options),
      idle_timer_(loop(), [this] {
        if (idle()) leave(make_error(Code::idle, proxy::Side::downstream));
      }) {}

ServerConnection::~ServerConnection() = default;

void ServerConnection::start() {
  begin();
  if (options_.idle_timeout.count() > 0) idle_timer_.start(options_.idle_timeout);
}

void ServerConnection::begin_drain() {
  drain(options_.drain_grace);
}

void ServerConnection::abort(Error why) {
  abort_session(why);
}

Error ServerConnection::protocol_error() const noexcept {
  return make_error(Code::bad_request, proxy::Side::downstream);
}

Error ServerConnection::lost_error(Error why) const noexcept {
  return make_error(Code::downstream_closed, proxy::Side::downstream, why.detail);
}

// --- the request: what nghttp2 tells
// ---------------------------------------------------------------

std::unique_ptr<SessionStream> ServerConnection::make_stream() {
  return std::make_unique<Slot>(*this);
}

void ServerConnection::request_begun(SessionStream& stream) {
  ++requests_;
  static_cast<Slot&>(stream).tell_started = true;
  tell_later(stream);
}

void ServerConnection::end_head(SessionStream& stream, bool end_stream) {
  Slot& slot = static_cast<Slot&>(stream);
  slot.head_complete = true;
  const http::Fault fault = reader().finish_request(slot.head, end_stream);
  if (fault != http::Fault::none) {
    if (http::code_of(fault) == Code::head_too_large) observer().on_flood(FloodKind::header_list);
    refuse(slot, fault);
    return;
  }
  slot.head_request = slot.head.method == http::Method::head;
  slot.upgrade = slot.head.upgrade.length != 0;
  // "content-length: 0" promises as much as any other; what follows an upgrade is no body.
  slot.length_known = slot.head.body.kind != http::BodyLength::Kind::unknown && !slot.upgrade;
  slot.length = slot.head.body.bytes;
  slot.tell_head = true;
  slot.tell_end = end_stream;
  tell_later(slot);
}

void ServerConnection::refuse(SessionStream& stream, http::Fault fault) {
  Slot& slot = static_cast<Slot&>(stream);
  const Error why =
      make_error(http::code_of(fault), proxy::Side::downstream, http::detail_of(fault));
  slot.refused = true;
  if (why.code == Code::bad_request) {  // malformed
    reset_stream(slot, ErrorCode::protocol_error);
    fail_later(slot, why);
    return;
  }
  slot.why = why;
  slot.tell_refused = true;
  tell_later(slot);
}

void ServerConnection::stream_closed(SessionStream& stream, std::uint32_t) {
  Slot& slot = static_cast<Slot&>(stream);
  // The last byte leaves by itself; but a tunnel whose other half goes on is not over with ours.
  const bool complete = slot.end_framed && (slot.in_ended || !slot.tunnel);
  if (complete || slot.tell_reset) return;
  discard_output(slot);
  fail_later(slot, lost_error({}));
}

// An early response: the client need not send the rest (RFC 9113 8.1).
void ServerConnection::end_framed(SessionStream& stream) {
  const bool tunnel = static_cast<Slot&>(stream).tunnel;
  if (stream.open && !stream.in_ended && !tunnel) reset_stream(stream, ErrorCode::no_error);
}

// --- the request: what its user is told ----------------------------------------------------------

void ServerConnection::deliver(SessionStream& stream) {
  Slot& slot = static_cast<Slot&>(stream);
  if (std::exchange(slot.tell_started, false)) handler_.on_request_started(slot);
  if (!slot.user) return;
  if (tell_reset(slot)) return;
  tell_request(slot);
  if (slot.user) finish_if_over(slot);
}

void ServerConnection::tell_request(Slot& slot) {
  if (std::exchange(slot.tell_refused, false)) {
    slot.user->on_refused(slot.why);
    return;
  }
  if (slot.refused) {
    forgive(slot);
    return;
  }
  if (std::exchange(slot.tell_head, false)) slot.user->on_head(slot.head);
  // With an upgrade all that follows waits for its answer.
  if (!slot.user || (slot.upgrade && !slot.head_sent)) return;
  if (slot.upgrade && !slot.tunnel) {
    forgive(slot);
    slot.refused = true;
    slot.user->on_end({});
    return;
  }
  if (!slot.in.empty()) slot.user->on_data(std::move(slot.in));
  if (slot.user && std::exchange(slot.tell_end, false)) {
    slot.user->on_end(std::move(slot.in_trailers));
  }
}

void ServerConnection::stream_left(SessionStream& stream) {
  Slot& slot = static_cast<Slot&>(stream);
  slot.left = true;
  if (slot.user) finish_if_over(slot);
}

void ServerConnection::finish_if_over(Slot& slot) {
  if (!slot.left || !slot.out_ended || slot.sent_untold > 0) return;
  if (slot.tunnel && slot.open) return;  // the client's half goes on
  http::RequestUser* user = slot.user.get();
  const bool complete = slot.in_ended || (slot.upgrade && !slot.tunnel);
  slot.user.cut();
  forgive(slot);
  user->on_done(slot.wire(), complete);
}

void ServerConnection::tell_closed(Error why) {
  owner_.on_closed(*this, why);
}

void ServerConnection::turn_ended() {
  if (options_.max_requests != 0 && requests_ >= options_.max_requests) begin_drain();
  if (options_.idle_timeout.count() == 0) return;
  if (!idle()) {
    idle_timer_.stop();
  } else if (!idle_timer_.running()) {
    idle_timer_.start(options_.idle_timeout);
  }
}

// --- the response --------------------------------------------------------------------------------

void ServerConnection::Slot::send_informational(http::ResponseHead& response) {
  if (!open || head_sent || reset_sent) return;
  connection_.submit_informational(*this, connection_.writer().informational(response));
}

void ServerConnection::Slot::send_head(http::ResponseHead& response) {
  ServerConnection& c = connection_;
  ASSERT(!head_sent);
  if (!open || reset_sent) {
    head_sent = true;
    return;
  }
  tunnel = response.status == 101;
  const bool bodiless = head_request || response.status == 204 || response.status == 304 ||
                        response.body.kind == http::BodyLength::Kind::none;
  const bool end = bodiless && !tunnel;
  const std::string_view date = c.date_.at(c.loop().now_us());
  c.submit_response(*this, c.writer().response(response, date), end);
  if (end) discards = true;
  if (upgrade) c.tell_later(*this);
}

void ServerConnection::Slot::send_end(http::HeaderMap trailers) {
  connection_.queue_end(*this, std::move(trailers));
  if (left) connection_.tell_later(*this);
}

void ServerConnection::Slot::reset(Error reason) {
  user.cut();
  // The user may lose patience with a window held at zero before our own timer does.
  if (stalled && SessionStream::Writing::linked() && reason.code == Code::response_stalled) {
    connection_.observer().on_flood(FloodKind::zero_window);
  }
  SessionStream::Leaving::unlink();
  connection_.reset_stream(*this, reset_code(reason));
  connection_.bury_if_over(*this);
}

}  // namespace proxy::http2
