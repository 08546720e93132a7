// The life of one connection: bytes in, requests in order, bytes out.
// Not the routes: what each path answers is in routes.cc.
#include "tests/support/test_service/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

namespace test_service {
namespace {

constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kHighWater = 512 * 1024;
constexpr std::uint64_t kLingerMs = 2000;

std::uint64_t next_id() {
  static std::atomic<std::uint64_t> count{0};
  return ++count;
}

}  // namespace

Served::Served(int fd) : fd_(fd) {}

Served::~Served() {
  ::close(fd_);
}

Connection::Connection(int fd, const Settings& settings)
    : Served(fd), settings_(settings), id_(next_id()) {
  if (settings_.recorder != nullptr) settings_.recorder->note("open", id_);
}

Connection::~Connection() {
  if (settings_.recorder != nullptr) settings_.recorder->note("close", id_);
}

std::uint32_t Connection::wanted_events() const {
  std::uint32_t events = 0;
  if (!end_of_input_ && unsent() < kHighWater && in_.size() - in_at_ < kHighWater)
    events |= EPOLLIN;
  if (unsent() > 0) events |= EPOLLOUT;
  return events;
}

bool Connection::on_events(std::uint32_t events, std::uint64_t now_ms) {
  if ((events & EPOLLERR) != 0) return false;
  if ((events & EPOLLHUP) != 0 && end_of_input_) return false;
  if ((events & EPOLLIN) != 0 && !read_all()) return false;
  return pump(now_ms);
}

bool Connection::on_timer(std::uint64_t now_ms) {
  deadline_ms_ = 0;
  if (phase_ == Phase::closing) return false;
  if (phase_ == Phase::waiting) {
    respond_fixed(200, "application/json", "{\"delay_ms\":" + std::to_string(amount_) + "}\n");
  } else if (phase_ == Phase::ticking) {
    tick(now_ms);
  }
  return pump(now_ms);
}

bool Connection::read_all() {
  thread_local std::array<char, kReadSize> room;
  while (in_.size() - in_at_ < kHighWater) {
    const ssize_t got = ::recv(fd_, room.data(), room.size(), 0);
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    if (got == 0) {
      end_of_input_ = true;
      if (settings_.recorder != nullptr) settings_.recorder->note("eof", id_);
      return true;
    }
    const std::string_view bytes(room.data(), static_cast<std::size_t>(got));
    if (settings_.recorder != nullptr) settings_.recorder->read(id_, bytes);
    if (phase_ != Phase::closing) in_.append(bytes);
    if (bytes.size() < room.size()) return true;
  }
  return true;
}

// Sends what it can. False when the peer is gone.
bool Connection::flush() {
  while (unsent() > 0) {
    const ssize_t sent = ::send(fd_, out_.data() + out_at_, unsent(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    out_at_ += static_cast<std::size_t>(sent);
  }
  out_.clear();
  out_at_ = 0;
  return true;
}

bool Connection::pump(std::uint64_t now_ms) {
  do {
    stalled_ = false;
    process(now_ms);
    if (!flush()) return false;
  } while (stalled_ && unsent() == 0);
  if (in_at_ == in_.size()) {
    in_.clear();
    in_at_ = 0;
  } else if (in_at_ > kReadSize) {
    in_.erase(0, in_at_);
    in_at_ = 0;
  }
  if (unsent() > 0) return true;
  if (end_of_input_ && (phase_ == Phase::head || phase_ == Phase::body ||
                        phase_ == Phase::websocket || phase_ == Phase::closing)) {
    return false;
  }
  if (phase_ == Phase::closing && !write_shut_) {
    ::shutdown(fd_, SHUT_WR);
    write_shut_ = true;
  }
  return true;
}

void Connection::process(std::uint64_t now_ms) {
  for (bool more = true; more;) {
    if (unsent() >= kHighWater) {
      stalled_ = true;
      return;
    }
    switch (phase_) {
      case Phase::head:
        more = take_head(now_ms);
        break;
      case Phase::body:
        more = take_body(now_ms);
        break;
      case Phase::producing:
        more = produce();
        break;
      case Phase::websocket:
        more = take_frames(now_ms);
        break;
      case Phase::waiting:
      case Phase::ticking:
        return;
      case Phase::closing:
        in_at_ = in_.size();
        return;
    }
  }
}

bool Connection::take_head(std::uint64_t now_ms) {
  if (!keep_alive_) {
    close_gently(now_ms);
    return true;
  }
  std::string_view in = std::string_view(in_).substr(in_at_);
  const std::size_t end = in.find("\r\n\r\n");
  if (end == std::string_view::npos) {
    if (in.size() > kMaxHead) refuse(431, now_ms);
    return false;
  }
  in_at_ += end + 4;
  if (const int refused = parse_head(in.substr(0, end + 4), request_)) {
    refuse(refused, now_ms);
    return true;
  }
  keep_alive_ = request_.keep_alive;
  choose_route();
  if (request_.expects_continue && request_.framing != Framing::none && in_at_ == in_.size()) {
    out_.append("HTTP/1.1 100 Continue\r\n\r\n");
  }
  body_.start(request_);
  phase_ = Phase::body;
  if (route_ == Route::echo) start_echo();
  return true;
}

bool Connection::take_frames(std::uint64_t now_ms) {
  std::string_view in = std::string_view(in_).substr(in_at_);
  const FrameEcho::Step step = frames_.next(in, out_);
  in_at_ = in_.size() - in.size();
  if (step == FrameEcho::Step::more) return false;
  if (step == FrameEcho::Step::malformed) out_.append("\x88\x02\x03\xea", 4);  // close, 1002
  close_gently(now_ms);
  return true;
}

void Connection::end_response() {
  left_ = 0;
  phase_ = Phase::head;
}

void Connection::refuse(int status, std::uint64_t now_ms) {
  keep_alive_ = false;
  respond_fixed(status, "text/plain", "test_service refuses this request\n");
  close_gently(now_ms);
}

// Says no more, but goes on reading for a while: closing with bytes unread would reset the
// connection and could take the answer with it.
void Connection::close_gently(std::uint64_t now_ms) {
  phase_ = Phase::closing;
  deadline_ms_ = now_ms + kLingerMs;
}

}  // namespace test_service
