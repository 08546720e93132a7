// PipeTransport: one event a turn task, as the real transports do it.
// Not for two threads.
#include "tests/support/pipe_transport.h"

#include <algorithm>
#include <span>

namespace proxy::test {

PipeTransport::Pair PipeTransport::make(net::Loop& loop, PipeOptions options) {
  Pair pair{std::unique_ptr<PipeTransport>(new PipeTransport(loop, options)),
            std::unique_ptr<PipeTransport>(new PipeTransport(loop, options))};
  pair.first->other_ = pair.second.get();
  pair.second->other_ = pair.first.get();
  return pair;
}

PipeTransport::~PipeTransport() {
  if (other_ == nullptr) return;
  other_->other_ = nullptr;
  // As TCP does it: closing with unread bytes resets.
  if (reset_on_close_ || !inbox_.empty()) {
    other_->reset_in_ = true;
    other_->inbox_.clear();
  } else {
    other_->eof_in_ = true;
  }
  loop_.at_turn_end(*other_);
}

void PipeTransport::start(net::TransportUser& user) {
  user_ = &user;
  open_told_ = false;
  loop_.at_turn_end(*this);
}

void PipeTransport::put_back(Chain bytes) {
  bytes.append(std::move(inbox_));
  inbox_ = std::move(bytes);
}

void PipeTransport::write(Chain bytes) {
  if (closed_told_ || shutdown_wanted_) return;
  out_.append(std::move(bytes));
  loop_.mark_dirty(*this);
}

void PipeTransport::shutdown_write() {
  shutdown_wanted_ = true;
  loop_.mark_dirty(*this);
}

void PipeTransport::set_reading(bool on) {
  reading_ = on;
  if (on) loop_.at_turn_end(*this);
}

void PipeTransport::flush() {
  if (!open_told_ || closed_told_) return;
  if (other_ == nullptr) {
    if (out_.empty()) return;
    out_.clear();
    reset_in_ = true;
    loop_.at_turn_end(*this);
    return;
  }
  const std::size_t room = options_.capacity - std::min(options_.capacity, other_->inbox_.size());
  const std::size_t n = std::min(room, out_.size());
  other_->inbox_.append(out_.take_front(n));
  if (out_.empty() && shutdown_wanted_) other_->eof_in_ = true;
  loop_.at_turn_end(*other_);
  if (n > 0) user_->on_sent(n);
}

void PipeTransport::run_at_turn_end() {
  if (user_ == nullptr || closed_told_) return;
  if (!open_told_) {
    open_told_ = true;
    loop_.at_turn_end(*this);
    loop_.mark_dirty(*this);
    user_->on_open(nullptr);
    return;
  }
  if (reset_in_) {
    closed_told_ = true;
    user_->on_closed(make_error(Code::connection_lost, Side::local));
    return;
  }
  if (!reading_) return;
  if (!inbox_.empty()) {
    Chain bytes = inbox_.take_front(std::min(options_.piece, inbox_.size()));
    loop_.at_turn_end(*this);
    if (other_ != nullptr) loop_.mark_dirty(*other_);
    loop().begin_batch_for_test();
    user_->on_bytes(std::move(bytes));
    return;
  }
  if (eof_in_ && !eof_told_) {
    eof_told_ = true;
    user_->on_eof();
  }
}

void PipePeer::send(std::string_view text) {
  net::Loop::Turn turn(transport_->loop());
  Chain bytes;
  bytes.append_copy(transport_->loop().chunks(), text);
  transport_->write(std::move(bytes));
}

void PipePeer::shutdown() {
  net::Loop::Turn turn(transport_->loop());
  transport_->shutdown_write();
}

void PipePeer::close() {
  net::Loop::Turn turn(transport_->loop());
  transport_.reset();
}

void PipePeer::reset() {
  net::Loop::Turn turn(transport_->loop());
  transport_->abort_on_close();
  transport_.reset();
}

void PipePeer::pause(bool on) {
  net::Loop::Turn turn(transport_->loop());
  transport_->set_reading(!on);
}

void PipePeer::on_bytes(Chain bytes) {
  const std::size_t before = received.size();
  received.resize(before + bytes.size());
  bytes.copy_to(std::as_writable_bytes(std::span(received).subspan(before)));
}

}  // namespace proxy::test
