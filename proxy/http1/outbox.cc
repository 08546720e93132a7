// Outbox: framing happens once a turn, so that a turn's body bytes make one chunk and one write.
// Not aware of which side it sends for.
#include "proxy/http1/outbox.h"

#include <algorithm>
#include <utility>

#include "proxy/base/assert.h"

namespace proxy::http1 {

void Outbox::reset() noexcept {
  framed_.clear();
  body_.clear();
  trailers_.clear();
  form_ = {};
  discard_ = ended_ = end_written_ = false;
  added_ = taken_ = 0;
  discarded_ = 0;
  segments_.clear();
  first_ = 0;
}

void Outbox::begin_body(OutgoingBody body, bool discard) noexcept {
  form_ = body;
  discard_ = discard;
}

bool Outbox::add(ChunkPool& pool, Chain body) {
  if (discard_) {
    discarded_ += body.size();
    return true;
  }
  added_ += body.size();
  const std::uint64_t promised = form_.form == BodyForm::none ? 0 : form_.bytes;
  if ((form_.form == BodyForm::none || form_.form == BodyForm::length) && added_ > promised) {
    return false;
  }
  // The first slice of a turn is copied with the head, if at all, when it is framed.
  if (body_.empty()) {
    body_.append(std::move(body));
  } else {
    body_.append_compact(pool, std::move(body));
  }
  return true;
}

bool Outbox::end(http::HeaderMap trailers) {
  ended_ = true;
  trailers_ = std::move(trailers);
  return discard_ || form_.form != BodyForm::length || added_ == form_.bytes;
}

Chain Outbox::take(ChunkPool& pool) {
  Chain out = std::move(framed_);
  const std::size_t head = out.size();
  note(head, false);
  if (!body_.empty()) {
    const std::size_t bytes = body_.size();
    const bool chunked = form_.form == BodyForm::chunked;
    if (chunked) write_chunk_line(pool, out, bytes);
    note(out.size() - head, false);
    out.append_compact(pool, std::move(body_));
    note(bytes, true);
    if (chunked) {
      out.append_copy(pool, std::string_view("\r\n"));
      note(2, false);
    }
  }
  if (ended_ && !end_written_) {
    end_written_ = true;
    if (form_.form == BodyForm::chunked && !discard_) {
      const std::size_t before = out.size();
      write_last_chunk(pool, out, trailers_);
      note(out.size() - before, false);
    }
  }
  taken_ += out.size();
  return out;
}

void Outbox::note(std::size_t bytes, bool body) {
  if (bytes == 0) return;
  if (first_ < segments_.size() && segments_.back().body == body) {
    segments_.back().bytes += bytes;
    return;
  }
  // What was sent is forgotten before the list grows: a slow reader never empties it.
  if (first_ > 64 && first_ * 2 > segments_.size()) {
    segments_.erase(segments_.begin(), segments_.begin() + static_cast<std::ptrdiff_t>(first_));
    first_ = 0;
  }
  segments_.push_back({bytes, body});
}

std::size_t Outbox::sent(std::size_t bytes) noexcept {
  std::size_t body = 0;
  while (bytes > 0 && first_ < segments_.size()) {
    Segment& segment = segments_[first_];
    const std::size_t n = std::min(bytes, segment.bytes);
    segment.bytes -= n;
    bytes -= n;
    if (segment.body) body += n;
    if (segment.bytes == 0) ++first_;
  }
  if (first_ == segments_.size()) {
    segments_.clear();
    first_ = 0;
  }
  return body;
}

std::size_t Outbox::take_discarded() noexcept {
  return std::exchange(discarded_, 0);
}

}  // namespace proxy::http1
