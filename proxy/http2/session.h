// Session: one HTTP/2 connection over nghttp2, what both sides have in common: bytes in, bytes out,
// flow control by credit, floods, keepalive, GOAWAY and the end.
// Not a codec by itself: server_connection.h and client_connection.h are.
//
// nghttp2 is called from here alone, and its callbacks only write down what happened. Users are told
// afterwards, so that nothing they do can be inside a call of nghttp2.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "proxy/base/ilist.h"
#include "proxy/http2/flood_guard.h"
#include "proxy/http2/frame_scanner.h"
#include "proxy/http2/limits.h"
#include "proxy/http2/stream.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

struct nghttp2_session;
struct nghttp2_nv;

namespace proxy::http2 {

struct Callbacks;

class Session : private net::TransportUser, private net::Flushable, private net::TurnTask {
 protected:
  enum class Side : std::uint8_t { server, client };
  enum class Phase : std::uint8_t {
    open,
    ending,  // the last GOAWAY is on its way; what comes is thrown away
    closed,
  };

  Session(Side side, std::unique_ptr<net::Transport> transport, const SessionOptions& options);
  ~Session() override;

  // What the two sides add.
  // A HEADERS opens a stream (server). Null: it is refused.
  virtual SessionStream* begin_stream(std::int32_t id) = 0;
  // Another header block begins on a stream.
  virtual void begin_block(SessionStream& stream) = 0;
  virtual void take_field(SessionStream& stream, std::string_view name, std::string_view value) = 0;
  // Decoded bytes of the block so far are past all reason.
  virtual bool is_bomb(const SessionStream& stream) const noexcept = 0;
  virtual void end_block(SessionStream& stream, bool end_stream) = 0;
  // The message's body is complete, or malformed as to its length: see check_length().
  virtual void body_malformed(SessionStream& stream) = 0;
  // Tells the user what waits in the stream's tell_ members and in `in`.
  virtual void deliver(SessionStream& stream) = 0;
  // nghttp2 has closed it.
  virtual void stream_closed(SessionStream& stream) = 0;
  // All bytes up to its END_STREAM have left.
  virtual void stream_left(SessionStream& stream) = 0;
  virtual void settings_came() {}
  virtual void goaway_came() {}
  // Ends all streams; the connection is lost for `why`.
  virtual void fail_streams(Error why) = 0;
  virtual void tell_closed(Error why) = 0;
  // The turn's end, everything told and flushed.
  virtual void turn_ended() {}
  // Makes this stream's object free for another.
  virtual void recycle(SessionStream& stream) = 0;

  void begin();
  net::Transport& transport() noexcept { return *transport_; }
  net::Loop& loop() noexcept { return loop_; }
  nghttp2_session* native() noexcept { return session_; }
  const SessionOptions& options() const noexcept { return options_; }
  Observer& observer() noexcept { return *options_.observer; }
  Phase phase() const noexcept { return phase_; }
  // Streams that nghttp2 knows.
  std::size_t open_streams() const noexcept { return open_streams_; }
  bool peer_is_leaving() const noexcept { return goaway_received_; }
  bool ending() const noexcept { return phase_ != Phase::open || draining_; }

  // What slots' calls come down to.
  void stream_opened(SessionStream& stream);
  void queue_data(SessionStream& stream, Chain body);
  void queue_end(SessionStream& stream, http::HeaderMap trailers);
  void consume(SessionStream& stream, std::size_t bytes);
  void reset_stream(SessionStream& stream, ErrorCode code);
  // Gives back what the user of a stream will not consume any more.
  void forgive(SessionStream& stream);
  // `fields` are copied. Heads: 1xx, final ones and requests.
  bool submit_informational(SessionStream& stream, std::vector<nghttp2_nv>& fields);
  bool submit_response(SessionStream& stream, std::vector<nghttp2_nv>& fields, bool end);
  bool submit_request(SessionStream& stream, std::vector<nghttp2_nv>& fields, bool end);

  void tell_later(SessionStream& stream);
  // False when the body is longer than promised, or shorter at its end.
  bool check_length(const SessionStream& stream) const noexcept;

  void flooded(FloodKind kind);
  // A connection error: GOAWAY(code), every stream ends with `why`.
  void die(ErrorCode code, Error why);
  // GOAWAY(NO_ERROR) with the last stream that counts; ends when no stream is left.
  void leave();
  // The two GOAWAYs.
  void drain(std::chrono::milliseconds grace);
  void abort_session(Error why);
  void close_now(Error why);
  void resume() { loop_.at_turn_end(*this); }
  void dirty() { loop_.mark_dirty(*this); }
  // What a connection error of the peer is called on this side.
  Error protocol_error() const noexcept;
  Error lost_error() const noexcept;

 private:
  friend struct Callbacks;

  void on_open(const tls::HandshakeFacts*) override;
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void flush() override;
  void run_at_turn_end() override;

  void submit_settings();
  bool feed(const Slice& slice);
  bool judge(const FrameHeader& frame);
  bool judge_stream(const FrameHeader& frame);
  bool violate(ErrorCode code);
  bool take(std::span<const std::byte> bytes);
  void deliver_all();
  void tell_sent();
  void note_stalls();
  void check_end();
  void begin_ending(Error why);
  void on_ping_timer();
  void on_stall_timer();
  void on_end_timer();
  void bury();
  SessionStream* find(std::int32_t id) noexcept;
  void remember_ended(std::int32_t id) noexcept;
  bool was_ended(std::int32_t id) const noexcept;

  const Side side_;
  net::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  const SessionOptions& options_;
  nghttp2_session* session_ = nullptr;
  FrameScanner scanner_;
  FloodGuard guard_;
  Phase phase_ = Phase::open;
  Chain out_;                       // framed in this flush
  const Slice* slice_ = nullptr;    // what nghttp2 is reading
  std::size_t open_streams_ = 0;
  std::size_t head_bytes_ = 0;      // wire bytes of the header block that is coming in
  std::size_t frame_bytes_ = 0;     // of the frame that is going out
  std::int32_t block_stream_ = 0;   // whose header block is coming in
  std::uint64_t written_ = 0;       // bytes given to the transport, ever
  std::uint64_t left_ = 0;          // of which have left
  std::uint64_t moved_ms_ = 0;      // when some did last, or began to wait
  std::uint64_t heard_ms_ = 0;
  bool opened_ = false;
  bool told_closed_ = false;
  bool settings_acknowledged_ = false;
  bool settings_received_ = false;
  bool goaway_received_ = false;
  bool draining_ = false;
  bool last_goaway_sent_ = false;
  bool ping_pending_ = false;
  bool write_ended_ = false;
  bool dying_ = false;           // a GOAWAY with an error is queued or sent
  Error death_;                  // why
  Error close_reason_;
  std::size_t thrown_away_ = 0;
  std::vector<SessionStream*> dead_;
  std::vector<std::int32_t> ended_;  // the last streams that the peer itself ended, a ring
  std::size_t ended_at_ = 0;
  IntrusiveList<SessionStream, ReadyTag> ready_;
  IntrusiveList<SessionStream, WritingTag> writing_;
  IntrusiveList<SessionStream, WritingTag> stalled_;
  IntrusiveList<SessionStream, LeavingTag> leaving_;
  net::Timer ping_timer_;
  net::Timer stall_timer_;
  net::Timer end_timer_;  // settings, then drain, then linger
};

}  // namespace proxy::http2
