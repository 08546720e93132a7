// Session: one HTTP/2 connection over nghttp2, what both sides have in common: bytes in, bytes out,
// flow control by credit, floods, keepalive, GOAWAY and the end.
// Not a codec by itself: server_connection.h and client_connection.h are.
//
// nghttp2 is called from here alone, and its callbacks only write down what happened. Users are
// told afterwards, so that nothing they do can be inside a call of nghttp2.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "proxy/base/chain.h"
#include "proxy/base/error.h"
#include "proxy/base/ilist.h"
#include "proxy/http2/fields_reader.h"
#include "proxy/http2/flood_guard.h"
#include "proxy/http2/frame_scanner.h"
#include "proxy/http2/limits.h"
#include "proxy/http2/stream.h"
#include "proxy/net/loop.h"
#include "proxy/net/timer.h"
#include "proxy/net/transport.h"

struct nghttp2_session;

namespace proxy::http2 {

struct Callbacks;
class HeadWriter;

// The last stream ids of some kind. What it has forgotten is below forgotten().
class RecentStreams {
 public:
  void add(std::int32_t id) noexcept;
  bool contains(std::int32_t id) const noexcept;
  std::int32_t forgotten() const noexcept { return forgotten_; }

 private:
  static constexpr std::size_t kKept = 128;
  std::array<std::int32_t, kKept> ids_{};
  std::size_t next_ = 0;
  std::int32_t forgotten_ = 0;
};

class Session : private net::TransportUser, private net::Flushable, private net::TurnTask {
 protected:
  enum class Role : std::uint8_t { server, client };

  Session(Role role, std::unique_ptr<net::Transport> transport, const SessionOptions& options);
  ~Session() override;

  // --- what the two sides add; the first group is called inside nghttp2 and must tell nobody ---

  // The peer has opened a stream: a server's request begins.
  virtual void request_begun(SessionStream&) {}
  // A head has come, and reader() has its fields.
  virtual void end_head(SessionStream& stream, bool end_stream) = 0;
  // What came of the message can't be passed on.
  virtual void refuse(SessionStream& stream, http::Fault fault) = 0;
  // nghttp2 has closed it; `code` is that of the RST_STREAM, if there was one.
  virtual void stream_closed(SessionStream& stream, std::uint32_t code) = 0;
  // The outgoing half is framed.
  virtual void end_framed(SessionStream& stream) = 0;
  // SETTINGS of the peer, not an acknowledgement.
  virtual void settings_came() {}

  // Tells the user what waits in the stream's tell_ members and in `in`.
  virtual void deliver(SessionStream& stream) = 0;
  // All bytes up to its END_STREAM have left.
  virtual void stream_left(SessionStream& stream) = 0;
  // What the end of the connection, `why`, means to one stream.
  virtual Error lost_stream(const SessionStream&, Error why) const noexcept { return why; }
  virtual void tell_closed(Error why) = 0;
  // The turn's end: all is told and flushed. Not when the connection is over.
  virtual void turn_ended() = 0;
  virtual std::unique_ptr<SessionStream> make_stream() = 0;
  // Nobody needs the stream any more; its object will be used for another one.
  virtual void recycling(SessionStream&) {}
  // What this side calls a violation by the peer, and the loss of the connection.
  virtual Error protocol_error() const noexcept = 0;
  virtual Error lost_error(Error why) const noexcept = 0;

  // --- what they use ---

  void begin();
  net::Transport& transport() noexcept { return *transport_; }
  const net::Transport& transport() const noexcept { return *transport_; }
  net::Loop& loop() noexcept { return loop_; }
  nghttp2_session* native() const noexcept { return session_; }
  const SessionOptions& options() const noexcept { return options_; }
  Observer& observer() const noexcept { return *options_.observer; }
  bool is_open() const noexcept { return phase_ == Phase::open && !dying_ && !aborted_; }
  bool draining() const noexcept { return draining_; }
  bool peer_is_leaving() const noexcept { return goaway_received_; }
  bool peer_settings_received() const noexcept { return settings_received_; }
  // Streams that somebody still needs.
  std::size_t in_use() const noexcept { return in_use_; }
  FieldsReader& reader() noexcept { return reader_; }
  HeadWriter& writer() noexcept { return *writer_; }

  SessionStream& take_stream();
  void opened(SessionStream& stream);
  void queue_data(SessionStream& stream, Chain body);
  void queue_end(SessionStream& stream, http::HeaderMap trailers);
  void consume(SessionStream& stream, std::size_t bytes);
  // Its user will be told of its end, and why.
  void fail_later(SessionStream& stream, Error why);
  // Tells it, if that is due.
  bool tell_reset(SessionStream& stream);
  // RST_STREAM, once; what waits to be sent is dropped.
  void reset_stream(SessionStream& stream, ErrorCode code);
  // Gives back to the connection's window what the user of a stream will not consume any more.
  void forgive(SessionStream& stream);
  // Nothing goes out on it any more; what is given is reported as sent.
  void discard_output(SessionStream& stream);
  bool submit_informational(SessionStream& stream, const HeadWriter& head);
  bool submit_response(SessionStream& stream, const HeadWriter& head, bool end);
  bool submit_request(SessionStream& stream, const HeadWriter& head, bool end);
  void tell_later(SessionStream& stream);
  // Recycles it at the turn's end if nobody needs it any more.
  void bury_if_over(SessionStream& stream);

  void flooded(FloodKind kind);
  // A connection error: GOAWAY(code); every stream ends with `why` at the turn's end.
  void die(ErrorCode code, Error why);
  // No new streams; GOAWAY with the last stream that counts; ends when no stream is left.
  void leave(Error why = {});
  // GOAWAY for all streams to come, then leave() when the peer has seen it.
  void drain(std::chrono::milliseconds grace);
  // Ends every stream, says GOAWAY if that is possible at once, and closes.
  void abort_session(Error why);
  void close_now(Error why);
  void lose(Error streams, Error connection);
  void set_draining() noexcept { draining_ = true; }
  void resume() { loop_.at_turn_end(*this); }
  void dirty() { loop_.mark_dirty(*this); }

 private:
  friend struct Callbacks;
  enum class Phase : std::uint8_t {
    open,
    lingering,  // our half is ended; what comes is thrown away
    closed,
  };

  void on_open(const tls::HandshakeFacts*) override {}
  void on_bytes(Chain bytes) override;
  void on_eof() override;
  void on_sent(std::size_t bytes) override;
  void on_closed(Error why) override;
  void flush() override;
  void run_at_turn_end() override;

  void create();
  void submit_settings();
  void feed(const Slice& slice);
  void take(std::span<const std::byte> bytes);
  bool judge(const FrameHeader& frame);
  bool judge_closed_stream(const FrameHeader& frame);
  void begin_block(SessionStream& stream);
  void end_block(SessionStream& stream, bool end_stream);
  void end_body(SessionStream& stream);
  void fail_streams(Error why);
  void stream_stuck(SessionStream& stream);
  void deliver_all();
  void note_stalls();
  void check_end();
  void begin_lingering(Error why);
  void bury_dead();
  void on_ping_timer();
  void on_stall_timer();
  void on_end_timer();
  void mark_end_framed(SessionStream& stream);
  void submit_trailers(SessionStream& stream);
  void count_sent_reset(std::int32_t id, std::uint32_t code);
  SessionStream* find(std::int32_t id) const noexcept;
  bool output_is_full() const noexcept;

  const Role role_;
  net::Loop& loop_;
  std::unique_ptr<net::Transport> transport_;
  const SessionOptions options_;
  nghttp2_session* session_ = nullptr;
  FrameScanner scanner_;
  FloodGuard guard_;
  FieldsReader reader_;
  const std::unique_ptr<HeadWriter> writer_;
  Phase phase_ = Phase::open;
  Chain out_;                       // framed and not given to the transport yet
  const Slice* slice_ = nullptr;    // what nghttp2 is reading
  SessionStream* block_ = nullptr;  // whose header block is coming in
  std::size_t block_bytes_ = 0;     // of it, on the wire
  std::size_t frame_bytes_ = 0;     // of the frame that is going out
  std::size_t open_streams_ = 0;
  std::int32_t last_peer_stream_ = 0;
  std::uint64_t written_ = 0;  // bytes given to the transport, ever
  std::uint64_t left_ = 0;     // of which have left
  std::uint64_t moved_ms_ = 0;
  std::uint64_t heard_ms_ = 0;
  bool settings_acknowledged_ = false;
  bool settings_received_ = false;
  bool goaway_received_ = false;
  bool draining_ = false;
  bool last_goaway_submitted_ = false;
  bool ping_pending_ = false;
  bool write_ended_ = false;
  bool dying_ = false;  // a GOAWAY with an error is queued or sent
  bool aborted_ = false;
  bool eof_ = false;
  bool told_closed_ = false;
  Error close_reason_;
  std::size_t thrown_away_ = 0;
  RecentStreams reset_here_;
  RecentStreams ended_there_;
  std::vector<SessionStream*> dead_;
  IntrusiveList<SessionStream, ReadyTag> ready_;
  IntrusiveList<SessionStream, WritingTag> writing_;
  IntrusiveList<SessionStream, WritingTag> stalled_;
  IntrusiveList<SessionStream, LeavingTag> leaving_;
  std::vector<std::unique_ptr<SessionStream>> streams_;  // behind the lists that they are in
  std::vector<SessionStream*> free_;
  std::size_t in_use_ = 0;
  net::Timer ping_timer_;
  net::Timer stall_timer_;
  net::Timer end_timer_;  // settings, then drain, then linger
};

}  // namespace proxy::http2
