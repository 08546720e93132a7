// Relay: each side's reading is switched by what the other side has not sent yet.
// Not reported here: its owner asks for the numbers.
#include "proxy/tunnel/relay.h"

#include "proxy/net/tcp_transport.h"

namespace proxy::tunnel {

Relay::Relay(net::Loop& loop, std::unique_ptr<net::Transport> downstream,
             std::unique_ptr<net::Transport> upstream, std::chrono::milliseconds idle,
             RelayOwner& owner)
    : loop_(loop),
      owner_(owner),
      downstream_(*this, std::move(downstream)),
      upstream_(*this, std::move(upstream)),
      idle_limit_(idle),
      idle_(loop, [this] {
        timed_out_ = true;
        end();
      }) {
  downstream_.set_other(upstream_);
  upstream_.set_other(downstream_);
}

void Relay::start() {
  if (idle_limit_.count() != 0) idle_.start(idle_limit_);
  downstream_.start();
  upstream_.start();
}

void Relay::moved(const End& from, std::size_t received, std::size_t sent) {
  if (idle_limit_.count() != 0) idle_.start(idle_limit_);
  if (&from == &downstream_) {
    received_ += received;
    sent_ += sent;
  }
  if (splicing_ || received_ + sent_ < splice_at_) return;
  splice_at_ = received_ + sent_ + kSpliceAgain;
  if (downstream_.transport().plain() == nullptr || upstream_.transport().plain() == nullptr) {
    return;
  }
  if (!owner_.may_splice()) return;
  splicing_ = true;
  downstream_.transport().set_reading(false);
  upstream_.transport().set_reading(false);
  loop_.at_turn_end(*this);
}

// All that was read is to be out before the kernel goes on.
void Relay::run_at_turn_end() {
  if (ended_ || splice_ != nullptr || !splicing_) return;
  const net::TcpTransport& first = *downstream_.transport().plain();
  const net::TcpTransport& second = *upstream_.transport().plain();
  if (downstream_.ended() || upstream_.ended()) {
    splicing_ = false;
  } else if (first.is_quiet() && second.is_quiet()) {
    splice_ = net::Splice::make(loop_, first, second, static_cast<net::SpliceUser&>(*this));
    if (splice_ != nullptr) {
      loop_.reap(downstream_.take());
      loop_.reap(upstream_.take());
      splice_->start();
      return;
    }
    splicing_ = false;
  } else {
    return;  // on_sent will come
  }
  downstream_.transport().set_reading(true);
  upstream_.transport().set_reading(true);
}

void Relay::on_spliced(std::size_t forth, std::size_t back) {
  if (idle_limit_.count() != 0) idle_.start(idle_limit_);
  received_ += forth;
  sent_ += back;
  spliced_ += forth + back;
}

void Relay::on_splice_ended(Error why) {
  if (why.code != Code::none) splice_->abort_on_close();
  end();
}

void Relay::end() {
  if (ended_) return;
  ended_ = true;
  idle_.stop();
  owner_.on_relay_ended(*this);
}

// Both halves ended and everything delivered.
void Relay::check_done() {
  if (downstream_.ended() && upstream_.ended() && downstream_.transport().unsent() == 0 &&
      upstream_.transport().unsent() == 0) {
    end();
  }
}

void Relay::End::on_bytes(Chain bytes) {
  relay_.moved(*this, bytes.size(), 0);
  other_->transport_->write(std::move(bytes));
  transport_->set_reading(!relay_.splicing_ && other_->transport_->unsent() < kWindow);
}

void Relay::End::on_eof() {
  eof_ = true;
  other_->transport_->shutdown_write();
  if (relay_.splicing_) relay_.loop_.at_turn_end(relay_);
  relay_.check_done();
}

void Relay::End::on_sent(std::size_t bytes) {
  relay_.moved(*this, 0, bytes);
  if (relay_.splicing_) {
    relay_.loop_.at_turn_end(relay_);
  } else {
    other_->transport_->set_reading(transport_->unsent() < kWindow);
  }
  relay_.check_done();
}

void Relay::End::on_closed(Error) {
  other_->transport_->abort_on_close();
  relay_.end();
}

}  // namespace proxy::tunnel
