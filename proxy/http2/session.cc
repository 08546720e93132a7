// Session: the transport's bytes through the scanner into nghttp2, and nghttp2's into the
// transport. Not the callbacks of nghttp2: session_callbacks.cc.
#include "proxy/http2/session.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http2/callbacks.h"
#include "proxy/http2/head_writer.h"
#include "proxy/http2/session_memory.h"

namespace proxy::http2 {
namespace {

constexpr std::array<std::uint8_t, 8> kKeepalivePing{'k', 'e', 'e', 'p', 'a', 'l', 'i', 'v'};

}  // namespace

void RecentStreams::add(std::int32_t id) noexcept {
  std::int32_t& place = ids_[next_++ % kKept];
  forgotten_ = std::max(forgotten_, place);
  place = id;
}

bool RecentStreams::contains(std::int32_t id) const noexcept {
  return std::find(ids_.begin(), ids_.end(), id) != ids_.end();
}

Session::Session(Role role, std::unique_ptr<net::Transport> transport,
                 const SessionOptions& options)
    : role_(role),
      loop_(transport->loop()),
      transport_(std::move(transport)),
      options_(options),
      scanner_(role == Role::server),
      guard_(options_.floods),
      reader_(options_.limits),
      writer_(std::make_unique<HeadWriter>()),
      ping_timer_(loop_, [this] { on_ping_timer(); }),
      stall_timer_(loop_, [this] { on_stall_timer(); }),
      end_timer_(loop_, [this] { on_end_timer(); }) {
  create();
}

Session::~Session() {
  for (; open_streams_ > 0; --open_streams_) observer().on_stream_closed();
  nghttp2_session_del(session_);
}

void Session::create() {
  const int made = role_ == Role::server
                       ? nghttp2_session_server_new3(&session_, session_callbacks(), this,
                                                     session_option(), session_memory())
                       : nghttp2_session_client_new3(&session_, session_callbacks(), this,
                                                     session_option(), session_memory());
  ASSERT(made == 0);
  if (made != 0) session_ = nullptr;
}

void Session::begin() {
  moved_ms_ = heard_ms_ = loop_.now_ms();
  transport_->start(*this);
  submit_settings();
  end_timer_.start(options_.settings_timeout);
  if (options_.ping_interval.count() > 0) ping_timer_.start(options_.ping_interval);
  dirty();
}

void Session::submit_settings() {
  std::array<nghttp2_settings_entry, 6> entries;
  std::size_t count = 0;
  const auto add = [&](std::int32_t id, std::size_t value) {
    entries[count++] = {id, static_cast<std::uint32_t>(value)};
  };
  add(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, options_.stream_window);
  add(NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, options_.limits.head_bytes);
  if (role_ == Role::server) {
    add(NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, options_.max_concurrent_streams);
    add(NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1);
    // RFC 9218 2.1: what a client says of priorities is ignored.
    add(NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1);
  } else {
    add(NGHTTP2_SETTINGS_ENABLE_PUSH, 0);
  }
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, entries.data(), count);
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0,
                                        static_cast<std::int32_t>(options_.connection_window));
}

// --- bytes in ------------------------------------------------------------------------------------

void Session::on_bytes(Chain bytes) {
  heard_ms_ = loop_.now_ms();
  ping_pending_ = false;  // whatever it is, it is a sign of life
  if (!is_open()) {
    thrown_away_ += bytes.size();
    if (phase_ == Phase::lingering && thrown_away_ > options_.linger_bytes)
      close_now(close_reason_);
    return;
  }
  for (const Slice* slice = bytes.slices(); slice != nullptr && is_open(); slice = slice->next) {
    feed(*slice);
  }
  if (nghttp2_session_get_outbound_queue_size(session_) > options_.floods.outbound_frames) {
    flooded(FloodKind::outbound_queue);
  }
  dirty();
  if (is_open()) deliver_all();
}

// nghttp2 reads a frame only after its header was judged, with all frames before it dealt with.
void Session::feed(const Slice& slice) {
  slice_ = &slice;
  const std::span<const std::byte> bytes = slice.bytes();
  std::size_t fed = 0;
  std::size_t at = 0;
  while (at < bytes.size()) {
    bool complete = false;
    const std::size_t n = scanner_.take(bytes.subspan(at), complete);
    if (complete) {
      take(bytes.subspan(fed, at - fed));
      fed = at;
      if (!is_open() || !judge(scanner_.header())) return;
    }
    at += n;
  }
  take(bytes.subspan(fed));
}

void Session::take(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const auto read = nghttp2_session_mem_recv(
      session_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (read >= 0) return;
  switch (read) {
    case NGHTTP2_ERR_FLOODED:
      flooded(FloodKind::outbound_queue);
      return;
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC:
      die(ErrorCode::protocol_error, protocol_error());
      return;
    default:
      die(ErrorCode::internal_error, protocol_error());
  }
}

// What nghttp2 lets pass, or answers otherwise than RFC 9113 demands.
bool Session::judge(const FrameHeader& frame) {
  FloodKind kind{};
  if (!guard_.received(frame, loop_.now_ms(), kind)) {
    flooded(kind);
    return false;
  }
  switch (frame.type) {
    case FrameType::headers:
    case FrameType::data:
      if (!judge_closed_stream(frame)) {
        return false;
      }
      [[fallthrough]];
    case FrameType::continuation:
      if (SessionStream* stream = find(frame.stream); stream != nullptr) {
        stream->wire.received += kFrameHeader + frame.length;
      } else if (frame.type != FrameType::data) {
        block_bytes_ += kFrameHeader + frame.length;
      }
      return true;
    case FrameType::priority:
      // RFC 7540 5.3.1; nghttp2 looks at none of this when priorities are off.
      if (frame.stream != 0 && (frame.length != 5 || scanner_.dependency() != frame.stream)) {
        return true;
      }
      break;
    case FrameType::ping:
    case FrameType::settings:
    case FrameType::goaway:
    case FrameType::rst_stream:
    case FrameType::window_update:
    case FrameType::push_promise:
    case FrameType::priority_update:
    default:
      return true;
  }
  die(ErrorCode::protocol_error, protocol_error());
  return false;
}

// RFC 9113 5.1: DATA and HEADERS on a closed stream. nghttp2 ignores them, since it can't tell what
// crossed with a reset of ours. Here the streams that we reset are remembered, so it can be told.
bool Session::judge_closed_stream(const FrameHeader& frame) {
  const std::int32_t id = frame.stream;
  if (role_ == Role::client || id % 2 == 0) return true;
  if (id > last_peer_stream_) {
    if (frame.type == FrameType::headers) {
      last_peer_stream_ = id;
      block_bytes_ = 0;
    }
    return true;
  }
  if (find(id) != nullptr || last_goaway_submitted_ || reset_here_.contains(id)) return true;
  if (ended_there_.contains(id)) {
    die(ErrorCode::stream_closed, protocol_error());
    return false;
  }
  if (id <= std::max(reset_here_.forgotten(), ended_there_.forgotten())) return true;
  // Never opened, and closed by the opening of a later one (5.1.1).
  die(frame.type == FrameType::headers ? ErrorCode::protocol_error : ErrorCode::stream_closed,
      protocol_error());
  return false;
}

void Session::on_eof() {
  eof_ = true;
  if (phase_ == Phase::closed) return;
  if (phase_ == Phase::open) {
    if (!dying_) deliver_all();
    lose(lost_error({}), close_reason_);
    return;
  }
  close_now(close_reason_);
}

void Session::on_closed(Error why) {
  if (phase_ == Phase::closed) return;
  eof_ = true;
  if (phase_ == Phase::open) {
    if (!dying_) deliver_all();
    lose(lost_error(why), lost_error(why));
    return;
  }
  close_now(close_reason_);
}

// --- bytes out -----------------------------------------------------------------------------------

bool Session::output_is_full() const noexcept {
  return out_.size() + transport_->unsent() >= options_.output_bytes;
}

void Session::flush() {
  if (phase_ != Phase::open) return;
  const int sent = nghttp2_session_send(session_);
  if (!out_.empty()) {
    if (written_ == left_) moved_ms_ = loop_.now_ms();
    written_ += out_.size();
    transport_->write(std::move(out_));
  }
  if (sent != 0 && !dying_) {
    const Error why = make_error(Code::system, proxy::Side::local);
    lose(why, why);
    return;
  }
  note_stalls();
  resume();
}

void Session::on_sent(std::size_t bytes) {
  left_ += bytes;
  moved_ms_ = loop_.now_ms();
  if (phase_ == Phase::closed) return;
  while (!leaving_.empty() && leaving_.front().leaves_at <= left_) {
    SessionStream& stream = leaving_.front();
    stream.SessionStream::Leaving::unlink();
    stream_left(stream);
    bury_if_over(stream);
  }
  if (phase_ == Phase::open) dirty();
  resume();
}

// What is left after a flush that had room waits for the peer's windows.
void Session::note_stalls() {
  if (!output_is_full()) {
    while (!writing_.empty()) {
      SessionStream& stream = writing_.front();
      stream.SessionStream::Writing::unlink();
      stalled_.push_back(stream);
      stream.stalled = true;
      stream.stalled_at_ms = loop_.now_ms();
      // It may be long: small pieces must not keep whole chunks alive meanwhile.
      if (stream.out.pinned() > 4 * stream.out.size()) {
        Chain compact;
        compact.append_compact(loop_.chunks(), std::move(stream.out));
        stream.out = std::move(compact);
      }
      observer().on_stall();
    }
  }
  const bool waiting = !stalled_.empty() || written_ != left_;
  if (waiting && options_.write_stall_timeout.count() > 0 && !stall_timer_.running()) {
    stall_timer_.start(options_.write_stall_timeout);
  }
}

void Session::on_stall_timer() {
  if (phase_ == Phase::closed) return;
  const std::uint64_t now = loop_.now_ms();
  const auto limit = static_cast<std::uint64_t>(options_.write_stall_timeout.count());
  std::uint64_t oldest = now;
  if (written_ != left_) {
    if (now - moved_ms_ >= limit) {
      observer().on_flood(FloodKind::zero_window);
      transport_->abort_on_close();
      lose(lost_error({}), lost_error({}));
      return;
    }
    oldest = moved_ms_;
  }
  while (!stalled_.empty()) {
    SessionStream& stream = stalled_.front();
    if (now - stream.stalled_at_ms < limit) {
      oldest = std::min(oldest, stream.stalled_at_ms);
      break;
    }
    stream.SessionStream::Writing::unlink();
    observer().on_flood(FloodKind::zero_window);
    stream_stuck(stream);
    bury_if_over(stream);
  }
  if (!stalled_.empty() || written_ != left_) {
    const std::uint64_t waited = std::min(now - oldest, limit - 1);
    stall_timer_.start(std::chrono::milliseconds(limit - waited));
  }
}

void Session::run_at_turn_end() {
  if (phase_ == Phase::closed) {
    bury_dead();
    if (!std::exchange(told_closed_, true)) tell_closed(close_reason_);
    return;
  }
  // After a violation nothing is told any more but the end.
  if (!dying_) deliver_all();
  check_end();
  if (phase_ == Phase::open) turn_ended();
  bury_dead();
}

// --- GOAWAY and the end --------------------------------------------------------------------------

void Session::flooded(FloodKind kind) {
  if (!is_open()) return;
  observer().on_flood(kind);
  die(ErrorCode::enhance_your_calm, protocol_error());
}

void Session::die(ErrorCode code, Error why) {
  if (!is_open()) return;
  nghttp2_session_terminate_session(session_, static_cast<std::uint32_t>(code));
  dying_ = true;
  close_reason_ = why;
  dirty();
}

void Session::leave(Error why) {
  draining_ = true;
  if (std::exchange(last_goaway_submitted_, true) || !is_open()) return;
  close_reason_ = why;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                        nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                        nullptr, 0);
  dirty();
}

void Session::drain(std::chrono::milliseconds grace) {
  if (std::exchange(draining_, true) || !is_open()) return;
  nghttp2_submit_shutdown_notice(session_);
  end_timer_.start(grace);
  dirty();
}

void Session::abort_session(Error why) {
  if (phase_ == Phase::closed || aborted_) return;
  if (phase_ == Phase::lingering) {
    close_now(close_reason_);
    return;
  }
  if (is_open()) nghttp2_session_terminate_session(session_, NGHTTP2_NO_ERROR);
  aborted_ = true;
  close_reason_ = why;
  fail_streams(why);
  dirty();
  resume();
}

// After a flush: is there anything left to wait for?
void Session::check_end() {
  if (phase_ != Phase::open) return;
  if (aborted_) {
    close_now(close_reason_);
    return;
  }
  if (dying_) {
    fail_streams(close_reason_);
    begin_lingering(close_reason_);
    return;
  }
  if (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0 &&
      leaving_.empty() && ready_.empty() && out_.empty()) {
    begin_lingering(close_reason_);
    fail_streams(lost_error({}));
  }
}

void Session::begin_lingering(Error why) {
  phase_ = Phase::lingering;
  close_reason_ = why;
  ping_timer_.stop();
  if (!std::exchange(write_ended_, true)) transport_->shutdown_write();
  // A client that leaves with nothing wrong has nothing to wait for.
  if (eof_ || (role_ == Role::client && why.code == Code::none && written_ == left_)) {
    close_now(why);
    return;
  }
  thrown_away_ = 0;
  end_timer_.start(options_.linger_timeout);
}

void Session::close_now(Error why) {
  if (phase_ == Phase::closed) return;
  phase_ = Phase::closed;
  close_reason_ = why;
  ping_timer_.stop();
  stall_timer_.stop();
  end_timer_.stop();
  out_.clear();
  resume();
}

// Closed first: who is told may want another connection at once, and must not get this one.
void Session::lose(Error streams, Error connection) {
  close_now(connection);
  fail_streams(streams);
}

void Session::on_end_timer() {
  if (phase_ == Phase::lingering) {
    close_now(close_reason_);
  } else if (draining_) {
    leave();
  } else if (!settings_acknowledged_) {
    die(ErrorCode::settings_timeout, protocol_error());
  }
}

void Session::on_ping_timer() {
  if (!is_open()) return;
  const std::uint64_t silent = loop_.now_ms() - heard_ms_;
  const auto interval = static_cast<std::uint64_t>(options_.ping_interval.count());
  if (silent < interval) {
    ping_pending_ = false;
    ping_timer_.start(std::chrono::milliseconds(interval - silent));
    return;
  }
  if (std::exchange(ping_pending_, true)) {
    lose(lost_error({}), lost_error({}));
    return;
  }
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, kKeepalivePing.data());
  dirty();
  ping_timer_.start(options_.ping_timeout);
}

}  // namespace proxy::http2
