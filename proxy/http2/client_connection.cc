// ClientConnection: requests become streams, and what comes back is judged before it is told.
// Not a retrier: it says what may be replayed, others replay.
#include "proxy/http2/client_connection.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http/text.h"
#include "proxy/http2/head_writer.h"
#include "tls/websocket.h"

namespace proxy::http2 {

class ClientConnection::Slot final : public JoinedStream<http::ClientStream> {
 public:
  explicit Slot(ClientConnection& connection) noexcept : connection_(connection) {}

  void send_head(const http::RequestHead& request) override;
  void send_data(Chain body) override { connection_.queue_data(*this, std::move(body)); }
  void send_end(http::HeaderMap trailers) override;
  void consume(std::size_t bytes) override { connection_.Session::consume(*this, bytes); }
  void reset(Error why) override;
  bool on_reused_connection() const noexcept override {
    return connection_.streams_ > 1 && SessionStream::wire.received == 0;
  }

  http::HeaderMap& head_fields() noexcept override { return head.headers; }
  void renew() noexcept override {
    SessionStream::renew();
    head.clear();
    informational.clear();
    upgrade.clear();
    accept.clear();
    informational_count = 0;
    head_request = tell_head = head_told = ended = live = false;
  }

  http::ResponseHead head;
  std::vector<http::ResponseHead> informational;  // not told yet; rare
  std::string upgrade;                            // the protocol asked for
  std::string accept;                             // what a WebSocket client waits for in the 101
  unsigned informational_count = 0;
  bool head_request = false;
  bool tell_head = false;
  bool head_told = false;
  bool ended = false;  // the response is complete, and told
  bool live = false;

 private:
  ClientConnection& connection_;
};

ClientConnection::ClientConnection(std::unique_ptr<net::Transport> transport,
                                   http::ClientConnectionOwner& owner,
                                   const ClientConnectionOptions& options)
    : Session(Role::client, std::move(transport), options), owner_(owner), options_(options) {}

ClientConnection::~ClientConnection() = default;

void ClientConnection::start() {
  begin();
}

Error ClientConnection::protocol_error() const noexcept {
  return make_error(Code::bad_response, proxy::Side::upstream);
}

Error ClientConnection::lost_error(Error why) const noexcept {
  // A TLS 1.3 server refused our certificate after requests were sent: it has not looked at them.
  const Code code = why.code == Code::tls_handshake ? Code::upstream_tls : Code::upstream_closed;
  return make_error(code, proxy::Side::upstream, why.detail);
}

bool ClientConnection::takes_extended_connect() const noexcept {
  return peer_settings_received() && nghttp2_session_get_remote_settings(
                                         native(), NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL) == 1;
}

std::size_t ClientConnection::stream_limit() const noexcept {
  const std::size_t theirs =
      peer_settings_received()
          ? nghttp2_session_get_remote_settings(native(), NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
          : options_.streams_before_settings;
  return std::min<std::size_t>(options_.max_concurrent_streams, theirs);
}

std::size_t ClientConnection::free_slots() const noexcept {
  if (!is_open() || draining() || peer_is_leaving()) return 0;
  constexpr std::uint32_t kLastId = std::numeric_limits<std::int32_t>::max();
  const std::uint32_t next = nghttp2_session_get_next_stream_id(native());
  // Streams that are opened and not sent yet take an id, too.
  const std::size_t ids = next > kLastId ? 0 : (kLastId - next) / 2 + 1;
  const std::size_t limit = std::min(stream_limit(), ids);
  return limit > live_ ? limit - live_ : 0;
}

http::ClientStream* ClientConnection::open_stream(http::ResponseUser& user) {
  ASSERT(free_slots() > 0);
  Slot& slot = static_cast<Slot&>(take_stream());
  slot.live = true;
  ++live_;
  ++streams_;
  join<http::ClientStream, http::ResponseUser>(slot, slot.user, user, user.stream);
  return &slot;
}

// --- the request ---------------------------------------------------------------------------------

void ClientConnection::Slot::send_head(const http::RequestHead& request) {
  ClientConnection& c = connection_;
  if (!c.is_open()) return;
  head_request = request.method == http::Method::head;
  upgrade = request.upgrade_view();
  if (http::equals_ignore_case(upgrade, "websocket")) {
    if (const auto key = request.headers.get("sec-websocket-key"); key) {
      const tls::WebsocketAccept made = tls::websocket_accept(*key);
      accept.assign(made.data(), made.size());
    }
  }
  const bool end = upgrade.empty() && request.body.kind == http::BodyLength::Kind::none;
  if (end) discards = true;
  if (c.submit_request(*this, c.writer().request(request), end)) return;
  Error unsent = make_error(Code::upstream_closed, proxy::Side::upstream);
  unsent.replay = Replay::always;
  c.fail_later(*this, unsent);
}

void ClientConnection::Slot::send_end(http::HeaderMap trailers) {
  ClientConnection& c = connection_;
  c.queue_end(*this, std::move(trailers));
  if (!ended) return;
  // The response was complete before: on_end has been told, and it was the last.
  user.cut();
  c.forgive(*this);
  c.bury_if_over(*this);
}

void ClientConnection::Slot::reset(Error) {
  ClientConnection& c = connection_;
  user.cut();
  c.reset_stream(*this, ErrorCode::cancel);
  c.bury_if_over(*this);
}

// --- the response: what nghttp2 tells ------------------------------------------------------------

void ClientConnection::end_head(SessionStream& stream, bool end_stream) {
  Slot& slot = static_cast<Slot&>(stream);
  const http::Fault fault = reader().finish_response(slot.head, end_stream, slot.head_request);
  if (fault != http::Fault::none) {
    refuse(slot, fault);
    return;
  }
  tell_later(slot);
  if (slot.head.status < 200) {
    if (++slot.informational_count > options_.limits.informational) {
      refuse(slot, http::Fault::too_many_informational);
      return;
    }
    slot.informational.emplace_back();
    std::swap(slot.informational.back(), slot.head);
    return;
  }
  slot.head_complete = true;
  slot.tell_head = true;
  slot.tell_end = end_stream;
  if (!slot.upgrade.empty() && slot.head.status < 300) {
    begin_tunnel(slot);
  } else {
    // None is none: of HEAD, of 204 and 304, and of "content-length: 0".
    slot.length_known = slot.head.body.kind != http::BodyLength::Kind::unknown;
    slot.length = slot.head.body.bytes;
  }
}

// RFC 8441 5: the 200 of an extended CONNECT is what a 101 is in HTTP/1.
void ClientConnection::begin_tunnel(Slot& slot) {
  slot.head.status = 101;
  slot.head.body = {};
  slot.head.upgrade = slot.head.headers.put(slot.upgrade);
  if (!slot.accept.empty()) slot.head.headers.add("Sec-WebSocket-Accept", slot.accept);
}

void ClientConnection::refuse(SessionStream& stream, http::Fault fault) {
  reset_stream(stream, ErrorCode::protocol_error);
  fail_later(stream, make_error(Code::bad_response, proxy::Side::upstream, http::detail_of(fault)));
}

void ClientConnection::stream_closed(SessionStream& stream, std::uint32_t code) {
  Slot& slot = static_cast<Slot&>(stream);
  if (std::exchange(slot.live, false)) {
    --live_;
    slots_changed_ = true;
  }
  if (!slot.user || slot.tell_reset) {
    bury_if_over(slot);
    return;
  }
  discard_output(slot);
  if (slot.in_ended) return;
  // Refused, above the last id of a GOAWAY (which nghttp2 tells as if refused), or never sent.
  const bool unseen = !slot.head_complete &&
                      (error_code(code) == ErrorCode::refused_stream || slot.wire().sent == 0);
  Error why = unseen && peer_is_leaving() ? make_error(Code::upstream_closed, proxy::Side::upstream)
                                          : make_error(Code::upstream_reset, proxy::Side::upstream,
                                                       static_cast<std::int32_t>(error_code(code)));
  if (unseen) why.replay = Replay::always;
  fail_later(slot, why);
}

// --- the response: what its user is told ---------------------------------------------------------

void ClientConnection::deliver(SessionStream& stream) {
  Slot& slot = static_cast<Slot&>(stream);
  tell_head(slot);
  if (slot.user && !slot.in.empty() && slot.head_told) slot.user->on_data(std::move(slot.in));
  if (slot.user && tell_reset(slot)) return;
  if (!slot.user || !std::exchange(slot.tell_end, false)) return;
  slot.ended = true;
  http::ResponseUser* user = slot.user.get();
  if (slot.out_ended) {
    slot.user.cut();
    forgive(slot);
  }
  user->on_end(std::move(slot.in_trailers));
}

void ClientConnection::tell_head(Slot& slot) {
  for (std::size_t i = 0; i < slot.informational.size() && slot.user; ++i) {
    slot.user->on_informational(slot.informational[i]);
  }
  slot.informational.clear();
  if (!slot.user || !std::exchange(slot.tell_head, false)) return;
  slot.head_told = true;
  // The answer to an upgrade was no: its request ended with its head.
  if (!slot.upgrade.empty() && slot.head.status != 101) queue_end(slot, {});
  slot.user->on_head(slot.head);
}

// What the loss of the connection means to one request.
Error ClientConnection::lost_stream(const SessionStream& slot, Error why) const noexcept {
  if (why.code != Code::upstream_closed) return why;
  if (slot.head_complete) {
    return make_error(Code::upstream_truncated, proxy::Side::upstream, why.detail);
  }
  if (slot.wire.sent == 0) {
    why.replay = Replay::always;
  } else if (slot.wire.received > 0) {
    why.replay = Replay::never;
  }
  return why;
}

void ClientConnection::begin_drain() {
  set_draining();
  resume();
}

void ClientConnection::abort(Error why) {
  abort_session(why);
}

void ClientConnection::tell_closed(Error why) {
  owner_.on_closed(*this, why);
}

void ClientConnection::turn_ended() {
  if ((draining() || peer_is_leaving()) && idle()) {
    leave();
    return;
  }
  if (std::exchange(slots_changed_, false)) owner_.on_available(*this);
}

std::unique_ptr<SessionStream> ClientConnection::make_stream() {
  return std::make_unique<Slot>(*this);
}

void ClientConnection::recycling(SessionStream& stream) {
  if (static_cast<Slot&>(stream).live) {
    --live_;
    slots_changed_ = true;
  }
  if (idle()) slots_changed_ = true;  // told once more: now it is idle, too
  resume();
}

}  // namespace proxy::http2
