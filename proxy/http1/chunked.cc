// ChunkedReader: chunk data by slices, chunk lines byte by byte.
// Not a writer.
#include "proxy/http1/chunked.h"

#include <algorithm>

#include "proxy/http/hop_headers.h"

namespace proxy::http1 {
namespace {

using http::Fault;

constexpr unsigned kMaxDigits = 16;

int hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void ChunkedReader::reset() noexcept {
  state_ = State::size_first;
  digits_ = 0;
  left_ = 0;
  extension_bytes_ = 0;
  extensions_bytes_ = 0;
  scanner_.reset();
}

Fault ChunkedReader::step(char c, const Limits& limits) noexcept {
  switch (state_) {
    case State::size_first:
      left_ = 0;
      digits_ = 0;
      extension_bytes_ = 0;
      [[fallthrough]];
    case State::size: {
      const int digit = hex_value(c);
      if (digit >= 0) {
        // Zeros in front are digits too: a size line is short.
        if (++digits_ > kMaxDigits || (left_ >> 58) != 0) return Fault::chunk_size_too_large;
        left_ = left_ * 16 + static_cast<unsigned>(digit);
        state_ = State::size;
        return Fault::none;
      }
      if (digits_ == 0) return Fault::invalid_chunk_size;
      if (c == '\r') {
        state_ = State::size_lf;
        return Fault::none;
      }
      if (c == '\n') return Fault::chunk_line_end;
      // RFC 9112 7.1.1 knows "bad white space" before the semicolon; nothing sends it and parsers
      // disagree about it.
      state_ = State::extension;
      return c == ';' ? Fault::none : Fault::invalid_chunk_size;
    }
    case State::extension: {
      if (c == '\r') {
        state_ = State::size_lf;
        return Fault::none;
      }
      const auto byte = static_cast<unsigned char>(c);
      if (c == '\n') return Fault::chunk_line_end;
      if ((byte < 0x20 && byte != '\t') || byte == 0x7f) return Fault::invalid_chunk_extension;
      return ++extension_bytes_ <= limits.chunk_extension_bytes &&
                     ++extensions_bytes_ <= limits.chunk_extensions_bytes
                 ? Fault::none
                 : Fault::chunk_extension_too_long;
    }
    case State::size_lf:
      state_ = left_ > 0 ? State::data : State::trailers;
      return c == '\n' ? Fault::none : Fault::chunk_line_end;
    case State::data_cr:
      state_ = State::data_lf;
      return c == '\r' ? Fault::none : Fault::chunk_end;
    case State::data_lf:
      state_ = State::size_first;
      return c == '\n' ? Fault::none : Fault::chunk_end;
    case State::data:
    case State::trailers:
      break;
  }
  return Fault::invalid_chunk_size;
}

ChunkedReader::Result ChunkedReader::read(Chain& in, Chain& body, http::HeaderMap& trailers,
                                          MessageKind kind, const Limits& limits) {
  while (!in.empty()) {
    if (state_ == State::trailers) return read_trailers(in, trailers, kind, limits);
    if (state_ == State::data) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size()));
      ChunkPool& pool = in.slices()->chunk->pool();
      Chain piece = in.take_front(n);
      left_ -= n;
      if (left_ == 0) state_ = State::data_cr;
      // Many tiny chunks become few slices: a slice costs more than a few bytes.
      if (body.empty()) {
        body.append(std::move(piece));
      } else {
        body.append_compact(pool, std::move(piece));
      }
      continue;
    }
    const auto bytes = in.first();
    std::size_t i = 0;
    fault_ = Fault::none;
    while (fault_ == Fault::none && i < bytes.size() && state_ != State::data &&
           state_ != State::trailers) {
      fault_ = step(std::to_integer<char>(bytes[i++]), limits);
    }
    in.drop_front(i);
    if (fault_ != Fault::none) return Result::malformed;
  }
  return Result::more;
}

ChunkedReader::Result ChunkedReader::read_trailers(Chain& in, http::HeaderMap& trailers,
                                                   MessageKind kind, const Limits& limits) {
  switch (scanner_.take(in, trailers.block(), limits.trailer_bytes)) {
    case HeadScanner::Result::more:
      return Result::more;
    case HeadScanner::Result::malformed:
      fault_ = scanner_.fault(in);
      return Result::malformed;
    case HeadScanner::Result::too_large:
      fault_ = Fault::trailers_too_long;
      return Result::malformed;
    case HeadScanner::Result::complete:
      break;
  }
  fault_ = read_fields(kind, trailers, 0, limits.header_count);
  if (fault_ == Fault::too_many_headers) fault_ = Fault::too_many_trailers;
  if (fault_ != Fault::none) return Result::malformed;
  http::clean_trailers(trailers);
  return Result::complete;
}

}  // namespace proxy::http1
