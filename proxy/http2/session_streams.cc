// Session: the streams one by one: their objects, what the slots' calls come down to, what is told.
// Not the connection's own life: session.cc.
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <utility>

#include "proxy/base/assert.h"
#include "proxy/http2/callbacks.h"
#include "proxy/http2/head_writer.h"
#include "proxy/http2/session.h"

namespace proxy::http2 {

SessionStream* Session::find(std::int32_t id) const noexcept {
  return static_cast<SessionStream*>(nghttp2_session_get_stream_user_data(session_, id));
}

// --- their objects -------------------------------------------------------------------------------

SessionStream& Session::take_stream() {
  if (free_.empty()) {
    streams_.push_back(make_stream());
    free_.push_back(streams_.back().get());
  }
  SessionStream& stream = *free_.back();
  free_.pop_back();
  ++in_use_;
  return stream;
}

void Session::bury_if_over(SessionStream& stream) {
  if (stream.open || stream.buried || stream.listener() != nullptr ||
      stream.SessionStream::Leaving::linked() || stream.SessionStream::Ready::linked()) {
    return;
  }
  stream.buried = true;
  dead_.push_back(&stream);
  resume();
}

void Session::bury_dead() {
  for (std::size_t i = 0; i < dead_.size(); ++i) {
    SessionStream& stream = *dead_[i];
    forgive(stream);
    --in_use_;
    recycling(stream);
    stream.renew();
    free_.push_back(&stream);
  }
  dead_.clear();
}

void Session::opened(SessionStream& stream) {
  stream.open = true;
  ++open_streams_;
  observer().on_stream_opened();
}

void Session::tell_later(SessionStream& stream) {
  if (!stream.SessionStream::Ready::linked()) ready_.push_back(stream);
  resume();
}

// --- the outgoing half ---------------------------------------------------------------------------

bool Session::submit_informational(SessionStream& stream, const HeadWriter& head) {
  dirty();
  return nghttp2_submit_headers(session_, NGHTTP2_FLAG_NONE, stream.id, nullptr, head.fields(),
                                head.size(), nullptr) == 0;
}

bool Session::submit_response(SessionStream& stream, const HeadWriter& head, bool end) {
  dirty();
  stream.head_sent = true;
  const nghttp2_data_provider body = provider_of(&stream);
  return nghttp2_submit_response(session_, stream.id, head.fields(), head.size(),
                                 end ? nullptr : &body) == 0;
}

bool Session::submit_request(SessionStream& stream, const HeadWriter& head, bool end) {
  dirty();
  stream.head_sent = true;
  const nghttp2_data_provider body = provider_of(&stream);
  const std::int32_t id = nghttp2_submit_request(session_, nullptr, head.fields(), head.size(),
                                                 end ? nullptr : &body, &stream);
  if (id < 0) return false;
  stream.id = id;
  opened(stream);
  guard_.sent_request();
  return true;
}

// Called when the last byte of the body is on its way to being framed.
void Session::submit_trailers(SessionStream& stream) {
  HeadWriter writer;
  writer.trailers(stream.out_trailers);
  nghttp2_submit_trailer(session_, stream.id, writer.fields(), writer.size());
}

void Session::queue_data(SessionStream& stream, Chain body) {
  if (body.empty()) return;
  if (stream.discards || stream.out_ended) {
    stream.sent_untold += body.size();
    tell_later(stream);
    return;
  }
  if (stream.stalled || (!stream.out.empty() && body.size() < Chain::kSmall)) {
    stream.out.append_compact(loop_.chunks(), std::move(body));
  } else {
    stream.out.append(std::move(body));
  }
  if (!stream.SessionStream::Writing::linked()) writing_.push_back(stream);
  if (std::exchange(stream.deferred, false)) nghttp2_session_resume_data(session_, stream.id);
  dirty();
}

void Session::queue_end(SessionStream& stream, http::HeaderMap trailers) {
  stream.out_ended = true;
  if (stream.discards) return;
  stream.out_trailers = std::move(trailers);
  if (std::exchange(stream.deferred, false)) nghttp2_session_resume_data(session_, stream.id);
  dirty();
}

void Session::discard_output(SessionStream& stream) {
  stream.discards = true;
  stream.SessionStream::Writing::unlink();
  if (stream.out.empty()) return;
  // A frame that nghttp2 has begun is sent whole, before the reset; a closed stream's it drops.
  Chain begun = stream.out.take_front(stream.open ? stream.begun : 0);
  stream.sent_untold += stream.out.size();
  stream.out = std::move(begun);
  tell_later(stream);
}

void Session::mark_end_framed(SessionStream& stream) {
  stream.end_framed = true;
  if (role_ == Role::client) return;
  stream.leaves_at = written_ + out_.size();
  leaving_.push_back(stream);
  end_framed(stream);
}

void Session::reset_stream(SessionStream& stream, ErrorCode code) {
  stream.in.clear();
  forgive(stream);
  discard_output(stream);
  if (!stream.open || std::exchange(stream.reset_sent, true)) return;
  reset_here_.add(stream.id);
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream.id,
                            static_cast<std::uint32_t>(code));
  dirty();
}

void Session::count_sent_reset(std::int32_t id, std::uint32_t value) {
  const ErrorCode code = error_code(value);
  observer().on_reset(code, Direction::sent);
  if (!reset_here_.contains(id)) reset_here_.add(id);
  const std::uint64_t now = loop_.now_ms();
  switch (code) {
    case ErrorCode::refused_stream:
      if (!guard_.refused_stream(now)) flooded(FloodKind::refused_streams);
      return;
    case ErrorCode::flow_control_error:
      observer().on_flood(FloodKind::window_overflow);
      [[fallthrough]];
    case ErrorCode::protocol_error:
    case ErrorCode::stream_closed:
    case ErrorCode::frame_size_error:
    case ErrorCode::compression_error:
    case ErrorCode::enhance_your_calm:
      if (!guard_.provoked_reset(now)) flooded(FloodKind::provoked_reset);
      return;
    default:
      return;
  }
}

// --- the incoming half ---------------------------------------------------------------------------

void Session::consume(SessionStream& stream, std::size_t bytes) {
  // A reset has given all of it back already.
  ASSERT(bytes <= stream.owed || stream.reset_sent || stream.discards);
  bytes = std::min(bytes, stream.owed);
  stream.owed -= bytes;
  if (stream.open && !stream.in_ended && !stream.reset_sent) {
    nghttp2_session_consume(session_, stream.id, bytes);
  } else {
    nghttp2_session_consume_connection(session_, bytes);
  }
  dirty();
}

void Session::forgive(SessionStream& stream) {
  const std::size_t owed = std::exchange(stream.owed, 0);
  if (owed == 0) return;
  stream.in.clear();
  nghttp2_session_consume_connection(session_, owed);
  dirty();
}

// --- what is told --------------------------------------------------------------------------------

void Session::begin_block(SessionStream& stream) {
  if (stream.head_complete) {
    reader_.begin(FieldsReader::Kind::trailers, stream.in_trailers);
  } else {
    reader_.begin(
        role_ == Role::server ? FieldsReader::Kind::request : FieldsReader::Kind::response,
        stream.head_fields());
  }
}

void Session::end_block(SessionStream& stream, bool end_stream) {
  if (stream.reset_sent) return;
  if (!stream.head_complete) {
    end_head(stream, end_stream);
  } else if (const http::Fault fault = reader_.finish_trailers(end_stream);
             fault != http::Fault::none) {
    refuse(stream, fault);
  } else {
    end_body(stream);
  }
}

void Session::end_body(SessionStream& stream) {
  if (stream.reset_sent) return;
  if (!stream.head_complete) {
    refuse(stream, http::Fault::missing_pseudo_header);
    return;
  }
  if (stream.length_known && stream.received_body != stream.length) {
    refuse(stream, http::Fault::length_differs);
    return;
  }
  stream.tell_end = true;
  tell_later(stream);
}

// Its bytes wait for the peer's windows, and have for too long.
void Session::stream_stuck(SessionStream& stream) {
  reset_stream(stream, ErrorCode::cancel);
  fail_later(stream,
             make_error(Code::response_stalled,
                        role_ == Role::server ? proxy::Side::downstream : proxy::Side::upstream));
}

void Session::fail_later(SessionStream& stream, Error why) {
  stream.why = why;
  stream.tell_reset = true;
  tell_later(stream);
}

bool Session::tell_reset(SessionStream& stream) {
  if (!stream.tell_reset) return false;
  http::StreamUser* user = stream.let_go();
  forgive(stream);
  if (user != nullptr) user->on_reset(stream.why, stream.wire);
  return true;
}

// The connection is over. What a stream itself did wrong says more than that.
void Session::fail_streams(Error why) {
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    SessionStream& stream = *streams_[i];
    http::StreamUser* user = stream.let_go();
    if (user == nullptr) continue;
    stream.SessionStream::Leaving::unlink();
    forgive(stream);
    user->on_reset(stream.tell_reset ? stream.why : lost_stream(stream, why), stream.wire);
  }
}

void Session::deliver_all() {
  for (std::size_t n = ready_.size(); n > 0 && !ready_.empty(); --n) {
    SessionStream& stream = ready_.front();
    stream.SessionStream::Ready::unlink();
    if (const std::size_t sent = std::exchange(stream.sent_untold, 0); sent > 0) {
      if (http::StreamUser* user = stream.listener(); user != nullptr) user->on_sent(sent);
    }
    deliver(stream);
    bury_if_over(stream);
  }
  if (!ready_.empty()) resume();
}

}  // namespace proxy::http2
