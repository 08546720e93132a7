// Session: what the slots' calls come down to, stream by stream.
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

void Session::opened(SessionStream& stream) {
  stream.open = true;
  ++open_streams_;
  observer().on_stream_opened();
}

void Session::tell_later(SessionStream& stream) {
  if (!stream.SessionStream::Ready::linked()) ready_.push_back(stream);
  resume();
}

// --- the outgoing half
// -----------------------------------------------------------------------------

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
  stream.out.append(std::move(body));
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
  stream.sent_untold += stream.out.size();
  stream.out.clear();
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

// --- the incoming half
// -----------------------------------------------------------------------------

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

}  // namespace proxy::http2
