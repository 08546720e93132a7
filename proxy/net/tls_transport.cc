// Feeds a tls::Session from the transport below and writes what it says: no copy but OpenSSL's own.
// Not a handshake policy.
#include "proxy/net/tls_transport.h"

#include <array>
#include <chrono>

namespace proxy::net {
namespace {
using namespace std::chrono_literals;
constexpr std::size_t kPlainRoom = 16000;
constexpr std::size_t kMinPlainRoom = 4000;
// How long a refused peer may take to read our alert before the socket goes.
constexpr auto kLinger = 500ms;
constexpr auto kQuiet = 1000ms;
// Unsent answers to TLS's own messages: a peer that has us answer KeyUpdates and reads nothing.
constexpr std::size_t kMaxReplies = 64 * 1024;
}  // namespace

// Ciphertext goes straight into the chunk that the transport below will write.
class TlsTransport::Sink final : public tls::CipherSink {
 public:
  explicit Sink(TlsTransport& owner) : owner_(owner) {}
  std::span<std::byte> room(std::size_t wanted) override {
    return owner_.cipher_out_.room(owner_.loop_.chunks(), std::min<std::size_t>(wanted, 16000));
  }
  void commit(std::size_t n) override { owner_.cipher_out_.commit(n); }

 private:
  TlsTransport& owner_;
};

TlsTransport::TlsTransport(std::unique_ptr<Transport> lower, std::unique_ptr<tls::Session> session)
    : loop_(lower->loop()),
      lower_(std::move(lower)),
      session_(std::move(session)),
      quiet_(loop_, [this] {
        if (!failed_) {
          session_->release_idle_buffers();
          return;
        }
        end_linger();
      }) {}

TlsTransport::~TlsTransport() = default;

void TlsTransport::start(TransportUser& user) {
  const bool taking_over = user_ != nullptr;
  user_ = &user;
  if (!taking_over) {
    lower_->start(*this);
    return;
  }
  announced_ = false;
  eof_told_ = false;
  loop_.at_turn_end(*this);
}

void TlsTransport::put_back(Chain bytes) {
  bytes.append(std::move(unread_));
  unread_ = std::move(bytes);
}

void TlsTransport::on_open(const tls::HandshakeFacts*) {
  Sink sink(*this);
  session_->start(sink);
  after_session_call();
}

void TlsTransport::on_bytes(Chain bytes) {
  if (failed_ || eof_) return;  // nothing more is wanted of this peer
  cipher_in_.append(std::move(bytes));
  pump();
}

// A handshake goes on whatever the user wants to read; data waits for a user who does.
bool TlsTransport::may_pump() const noexcept {
  if (failed_ || eof_ || (cipher_in_.empty() && !more_pending_)) return false;
  if (!session_->handshake_done()) return true;
  return announced_ && want_reading_ && unread_.empty();
}

void TlsTransport::pump() {
  using Status = tls::Session::Status;
  while (may_pump()) {
    Chain plain;
    Status status = Status::more;
    // One chunk's worth at a time, so that the user can stop us in between.
    while (plain.size() < kPlainRoom && may_pump() &&
           (status == Status::more || status == Status::want_input)) {
      status = decrypt(plain);
    }
    after_session_call();
    if (!announced_ && session_->handshake_done()) announce();
    if (!plain.empty()) {
      data_came_ = true;
      quiet_.start(kQuiet);
      user_->on_bytes(std::move(plain));
    }
    if (status == Status::failed) {
      fail(make_error(refused() ? Code::tls_handshake : Code::connection_lost, Side::local));
      return;
    }
    if (status == Status::closed) {
      cipher_in_.clear();
      more_pending_ = false;
      eof_ = true;
      loop_.at_turn_end(*this);
    }
  }
  update_lower_reading();
}

// A TLS 1.3 server judges the client's certificate when the client thinks that all is done: its
// refusal is then the first thing that it says.
bool TlsTransport::refused() const noexcept {
  return !session_->handshake_done() || (session_->facts().told_by_peer && !data_came_);
}

// One call of the session. Until on_open was told it gets no room for data, so none comes before.
tls::Session::Status TlsTransport::decrypt(Chain& plain) {
  Sink sink(*this);
  ChunkRef& chunk = loop_.read_chunk(kPlainRoom, kMinPlainRoom);
  std::span<std::byte> room = announced_ ? chunk->room() : std::span<std::byte>{};
  if (room.size() > kPlainRoom) room = room.first(kPlainRoom);
  const auto input = cipher_in_.first();
  auto left = input;
  const bool was_done = session_->handshake_done();
  const std::size_t written = cipher_out_.size();
  const auto result = session_->read(left, room, sink);
  if (was_done) reply_bytes_ += cipher_out_.size() - written;
  const std::size_t offset = chunk->used();
  chunk->grow_used(result.plain);
  plain.append(chunk, offset, result.plain);
  cipher_in_.drop_front(input.size() - left.size());
  more_pending_ = result.status == tls::Session::Status::more;
  return reply_bytes_ > kMaxReplies ? tls::Session::Status::failed : result.status;
}

void TlsTransport::announce() {
  announced_ = true;
  quiet_.start(kQuiet);
  if (!plain_out_.empty() || shutdown_wanted_) loop_.mark_dirty(*this);
  user_->on_open(&session_->facts());
}

// What the session wrote (flights, tickets, alerts) goes out with this turn's write.
void TlsTransport::after_session_call() {
  if (cipher_out_.empty()) return;
  cipher_written_ += cipher_out_.size();
  lower_->write(std::move(cipher_out_));
}

void TlsTransport::on_eof() {
  if (failed_) {
    end_linger();
    return;
  }
  if (eof_) return;
  // An end without close_notify: the stream may have been cut (RFC 8446 6.1), so not a clean end.
  const bool done = session_->handshake_done();
  if (!done) session_->note_failure(tls::Failure::closed);
  failed_ = true;
  failure_ = make_error(done ? Code::connection_lost : Code::tls_handshake, Side::local);
  loop_.at_turn_end(*this);
}

void TlsTransport::on_sent(std::size_t bytes) {
  cipher_sent_ += bytes;
  if (cipher_sent_ == cipher_written_) reply_bytes_ = 0;
  std::size_t plain = 0;
  std::size_t done = 0;
  while (done < batches_.size() && batches_[done].cipher_end <= cipher_sent_) {
    plain += batches_[done++].plain;
  }
  if (done == 0) return;
  batches_.erase(batches_.begin(), batches_.begin() + static_cast<std::ptrdiff_t>(done));
  plain_unsent_ -= plain;
  if (!failed_) user_->on_sent(plain);
}

void TlsTransport::on_closed(Error why) {
  if (!session_->handshake_done() && why.code != Code::connect_failed) {
    session_->note_failure(tls::Failure::closed);
    if (!failed_) why = make_error(Code::tls_handshake, Side::local, why.detail);
  }
  if (!failed_) failure_ = why;
  failed_ = true;
  end_linger();
}

// Tells the peer why by the alert that is already queued, gives it a moment to read that, and only
// then closes: closing with unread input would make the kernel send RST and drop the alert.
void TlsTransport::fail(Error why) {
  if (failed_) return;
  failed_ = true;
  failure_ = why;
  lingering_ = true;
  cipher_in_.clear();
  plain_out_.clear();
  lower_->set_reading(true);
  lower_->shutdown_write();
  quiet_.start(kLinger);
}

void TlsTransport::end_linger() {
  lingering_ = false;
  quiet_.stop();
  loop_.at_turn_end(*this);
}

// One event a call, then in the queue again while more is owed: each event may change what is.
void TlsTransport::run_at_turn_end() {
  if (closed_told_) return;
  if (!announced_ && session_->handshake_done()) {
    loop_.at_turn_end(*this);
    announce();
    return;
  }
  if (want_reading_ && announced_ && !unread_.empty()) {
    loop_.at_turn_end(*this);
    user_->on_bytes(std::move(unread_));
    return;
  }
  if (want_reading_ && announced_ && eof_ && !eof_told_) {
    eof_told_ = true;
    loop_.at_turn_end(*this);
    user_->on_eof();
    return;
  }
  if (!failed_) {
    pump();
  } else if (!lingering_) {
    closed_told_ = true;
    user_->on_closed(failure_);
  }
}

void TlsTransport::write(Chain bytes) {
  if (failed_) return;
  plain_unsent_ += bytes.size();
  plain_out_.append(std::move(bytes));
  loop_.mark_dirty(*this);
}

void TlsTransport::shutdown_write() {
  shutdown_wanted_ = true;
  loop_.mark_dirty(*this);
}

void TlsTransport::flush() {
  if (failed_ || !session_->handshake_done()) return;
  Sink sink(*this);
  const std::size_t plain = plain_out_.size();
  while (!plain_out_.empty()) {
    std::array<std::span<const std::byte>, 16> spans;
    const std::size_t count = plain_out_.spans(spans);
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < count; ++i) bytes += spans[i].size();
    if (!session_->write(std::span(spans).first(count), sink)) {
      after_session_call();
      fail(make_error(Code::connection_lost, Side::local));
      return;
    }
    plain_out_.drop_front(bytes);
  }
  if (plain > 0) {
    quiet_.start(kQuiet);
    batches_.push_back({cipher_written_ + cipher_out_.size(), plain});
  }
  if (shutdown_wanted_) session_->shutdown(sink);
  after_session_call();
  if (shutdown_wanted_) lower_->shutdown_write();
}

void TlsTransport::set_reading(bool on) {
  if (want_reading_ == on) return;
  want_reading_ = on;
  update_lower_reading();
  if (on) loop_.at_turn_end(*this);
}

void TlsTransport::update_lower_reading() {
  if (!failed_) lower_->set_reading(want_reading_ || !session_->handshake_done());
}

std::size_t TlsTransport::unsent() const noexcept {
  return plain_unsent_;
}

}  // namespace proxy::net
