// The callbacks: they write down what nghttp2 tells, and hand it the bytes it asks for.
// Not a place where a user is told anything.
#include "proxy/http2/callbacks.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include "proxy/http2/session.h"

namespace proxy::http2 {

struct Callbacks {
  static Session& session_of(void* data) noexcept { return *static_cast<Session*>(data); }

  // --- in ---

  static int on_begin_headers(nghttp2_session* native, const nghttp2_frame* frame, void* data) {
    Session& session = session_of(data);
    if (frame->hd.type != NGHTTP2_HEADERS) return 0;
    const std::int32_t id = frame->hd.stream_id;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      SessionStream& stream = session.take_stream();
      stream.id = id;
      session.request_begun(stream);
      stream.wire.received = std::exchange(session.block_bytes_, 0);
      nghttp2_session_set_stream_user_data(native, id, &stream);
      // All streams alike, whatever the client says: frames in turn, not stream by stream.
      constexpr nghttp2_extpri kInTurn{NGHTTP2_EXTPRI_DEFAULT_URGENCY, 1};
      nghttp2_session_change_extpri_stream_priority(native, id, &kInTurn, 1);
      session.opened(stream);
    }
    session.block_ = session.find(id);
    if (session.block_ != nullptr) session.begin_block(*session.block_);
    return 0;
  }

  static int on_header(nghttp2_session*, const nghttp2_frame*, const std::uint8_t* name,
                       std::size_t name_length, const std::uint8_t* value, std::size_t value_length,
                       std::uint8_t, void* data) {
    Session& session = session_of(data);
    if (session.block_ == nullptr) return 0;
    const bool bearable =
        session.reader_.take({reinterpret_cast<const char*>(name), name_length},
                             {reinterpret_cast<const char*>(value), value_length});
    if (bearable) return 0;
    session.block_ = nullptr;
    session.flooded(FloodKind::hpack_bomb);
    return 0;
  }

  static int on_frame_recv(nghttp2_session*, const nghttp2_frame* frame, void* data) {
    Session& session = session_of(data);
    const bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
        if (SessionStream* stream = std::exchange(session.block_, nullptr); stream != nullptr) {
          if (end_stream) stream->in_ended = true;
          session.end_block(*stream, end_stream);
        }
        return 0;
      case NGHTTP2_DATA:
        if (!end_stream && frame->hd.length > 0 && frame->data.padlen == frame->hd.length &&
            !session.guard_.only_padding(session.loop_.now_ms())) {
          session.flooded(FloodKind::empty_data);
          return 0;
        }
        if (SessionStream* stream = session.find(frame->hd.stream_id); stream && end_stream) {
          stream->in_ended = true;
          session.end_body(*stream);
        }
        return 0;
      case NGHTTP2_RST_STREAM:
        session.observer().on_reset(error_code(frame->rst_stream.error_code), Direction::received);
        return 0;
      case NGHTTP2_SETTINGS:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
          session.settings_acknowledged_ = true;
          if (!session.draining_) session.end_timer_.stop();
        } else {
          session.settings_received_ = true;
          session.settings_came();
          session.resume();
        }
        return 0;
      case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
          const bool drain = std::memcmp(frame->ping.opaque_data, kDrainPing.data(), 8) == 0;
          if (drain && session.draining_) session.leave();
        }
        return 0;
      case NGHTTP2_GOAWAY:
        session.goaway_received_ = true;
        session.observer().on_goaway(error_code(frame->goaway.error_code), Direction::received);
        session.resume();
        return 0;
      default:
        return 0;
    }
  }

  static int on_data(nghttp2_session* native, std::uint8_t, std::int32_t id,
                     const std::uint8_t* bytes, std::size_t length, void* data) {
    Session& session = session_of(data);
    SessionStream* stream = session.find(id);
    if (stream == nullptr || stream->reset_sent) {
      nghttp2_session_consume_connection(native, length);
      return 0;
    }
    stream->owed += length;
    stream->received_body += length;
    const auto* at = reinterpret_cast<const std::byte*>(bytes);
    const auto offset = static_cast<std::size_t>(at - session.slice_->chunk.get()->bytes());
    // Each slice has its price: many small frames are kept together.
    if (stream->in.empty() || length >= Chain::kSmall) {
      stream->in.append(session.slice_->chunk, offset, length);
    } else {
      stream->in.append_copy(session.loop_.chunks(), std::span(at, length));
    }
    if (!stream->head_complete) {  // after a 1xx at most
      session.refuse(*stream, http::Fault::missing_pseudo_header);
      return 0;
    }
    if (stream->length_known && stream->received_body > stream->length) {
      session.refuse(*stream, http::Fault::length_differs);
      return 0;
    }
    session.tell_later(*stream);
    return 0;
  }

  static int on_stream_close(nghttp2_session*, std::int32_t id, std::uint32_t code, void* data) {
    Session& session = session_of(data);
    SessionStream* stream = session.find(id);
    if (stream == nullptr) return 0;
    if (session.block_ == stream) session.block_ = nullptr;
    if (!stream->reset_sent) session.ended_there_.add(id);
    stream->open = false;
    stream->deferred = false;
    --session.open_streams_;
    session.observer().on_stream_closed();
    stream->SessionStream::Writing::unlink();
    session.stream_closed(*stream, code);
    session.resume();
    return 0;
  }

  static int on_invalid_frame(nghttp2_session*, const nghttp2_frame* frame, int why, void* data) {
    Session& session = session_of(data);
    if (why == NGHTTP2_ERR_REFUSED_STREAM) session.reset_here_.add(frame->hd.stream_id);
    return 0;
  }

  // --- out ---

  static ssize_t on_read(nghttp2_session*, std::int32_t, std::uint8_t*, std::size_t length,
                         std::uint32_t* flags, nghttp2_data_source* source, void* data) {
    Session& session = session_of(data);
    SessionStream& stream = *static_cast<SessionStream*>(source->ptr);
    const std::size_t n = std::min(length, stream.out.size());
    if (n == 0 && !stream.out_ended) {
      stream.deferred = true;
      stream.SessionStream::Writing::unlink();
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (!stream.out_ended || n < stream.out.size()) return static_cast<ssize_t>(n);
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (stream.out_trailers.empty()) return static_cast<ssize_t>(n);
    *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
    session.submit_trailers(stream);
    return static_cast<ssize_t>(n);
  }

  static int on_send_data(nghttp2_session*, nghttp2_frame*, const std::uint8_t* header,
                          std::size_t length, nghttp2_data_source* source, void* data) {
    Session& session = session_of(data);
    SessionStream& stream = *static_cast<SessionStream*>(source->ptr);
    if (session.output_is_full()) {
      stream.begun = length;
      return NGHTTP2_ERR_WOULDBLOCK;
    }
    stream.begun = 0;
    session.out_.append_copy(session.loop_.chunks(),
                             std::as_bytes(std::span(header, kFrameHeader)));
    session.out_.append(stream.out.take_front(length));
    stream.wire.sent += kFrameHeader + length;
    session.guard_.sent_data();
    if (length > 0) {
      stream.sent_untold += length;
      session.tell_later(stream);
    }
    stream.SessionStream::Writing::unlink();
    stream.stalled = false;
    if (!stream.out.empty()) session.writing_.push_back(stream);
    return 0;
  }

  static ssize_t on_send(nghttp2_session*, const std::uint8_t* bytes, std::size_t length, int,
                         void* data) {
    Session& session = session_of(data);
    if (session.output_is_full()) return NGHTTP2_ERR_WOULDBLOCK;
    session.out_.append_copy(session.loop_.chunks(), std::as_bytes(std::span(bytes, length)));
    session.frame_bytes_ += length;
    return static_cast<ssize_t>(length);
  }

  static int on_frame_send(nghttp2_session* native, const nghttp2_frame* frame, void* data) {
    Session& session = session_of(data);
    const std::size_t bytes = std::exchange(session.frame_bytes_, 0);
    const bool end_stream = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    switch (frame->hd.type) {
      case NGHTTP2_HEADERS:
      case NGHTTP2_DATA:
        if (SessionStream* stream = session.find(frame->hd.stream_id); stream != nullptr) {
          stream->wire.sent += bytes;
          if (end_stream) session.mark_end_framed(*stream);
        }
        return 0;
      case NGHTTP2_RST_STREAM:
        session.count_sent_reset(frame->hd.stream_id, frame->rst_stream.error_code);
        return 0;
      case NGHTTP2_GOAWAY:
        session.observer().on_goaway(error_code(frame->goaway.error_code), Direction::sent);
        if (frame->goaway.error_code == NGHTTP2_FLOW_CONTROL_ERROR) {
          session.observer().on_flood(FloodKind::window_overflow);
        }
        // Behind the GOAWAY, since its answer says that the peer has seen that.
        if (session.draining_ && !session.last_goaway_submitted_) {
          nghttp2_submit_ping(native, NGHTTP2_FLAG_NONE, kDrainPing.data());
        }
        // nghttp2 itself found a violation.
        if (frame->goaway.error_code != NGHTTP2_NO_ERROR && !session.dying_) {
          session.dying_ = true;
          session.close_reason_ = session.protocol_error();
          // All that nghttp2 counts itself: the entries of one SETTINGS.
          if (frame->goaway.error_code == NGHTTP2_ENHANCE_YOUR_CALM) {
            session.observer().on_flood(FloodKind::settings);
          }
        }
        return 0;
      default:
        return 0;
    }
  }

  static int on_frame_not_send(nghttp2_session* native, const nghttp2_frame* frame, int,
                               void* data) {
    Session& session = session_of(data);
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat == NGHTTP2_HCAT_REQUEST) return 0;
    SessionStream* stream = session.find(frame->hd.stream_id);
    if (stream == nullptr || stream->reset_sent) return 0;
    // A head of ours that can't be framed must not leave the stream waiting for ever.
    nghttp2_submit_rst_stream(native, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                              NGHTTP2_INTERNAL_ERROR);
    return 0;
  }
};

const nghttp2_session_callbacks* session_callbacks() {
  static nghttp2_session_callbacks* const made = [] {
    nghttp2_session_callbacks* all = nullptr;
    nghttp2_session_callbacks_new(&all);
    nghttp2_session_callbacks_set_on_begin_headers_callback(all, &Callbacks::on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(all, &Callbacks::on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(all, &Callbacks::on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(all, &Callbacks::on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(all, &Callbacks::on_stream_close);
    nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(all, &Callbacks::on_invalid_frame);
    nghttp2_session_callbacks_set_send_callback(all, &Callbacks::on_send);
    nghttp2_session_callbacks_set_send_data_callback(all, &Callbacks::on_send_data);
    nghttp2_session_callbacks_set_on_frame_send_callback(all, &Callbacks::on_frame_send);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(all, &Callbacks::on_frame_not_send);
    return all;
  }();
  return made;
}

const nghttp2_option* session_option() {
  static nghttp2_option* const made = [] {
    constexpr std::size_t kLargestHead = std::size_t{1} << 20;
    constexpr std::uint64_t kOurOwn = 1'000'000'000;  // flood_guard.h counts these
    nghttp2_option* option = nullptr;
    nghttp2_option_new(&option);
    nghttp2_option_set_no_auto_window_update(option, 1);
    // Messages are judged as strictly as HTTP/1's, and by the same code: fields_reader.h.
    nghttp2_option_set_no_http_messaging(option, 1);
    nghttp2_option_set_max_send_header_block_length(option, kLargestHead);
    nghttp2_option_set_stream_reset_rate_limit(option, kOurOwn, kOurOwn);
    nghttp2_option_set_max_continuations(option, kOurOwn);
    return option;
  }();
  return made;
}

nghttp2_data_provider provider_of(void* stream) noexcept {
  nghttp2_data_provider provider{};
  provider.source.ptr = stream;
  provider.read_callback = &Callbacks::on_read;
  return provider;
}

}  // namespace proxy::http2
