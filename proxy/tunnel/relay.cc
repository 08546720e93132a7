// Relay: each side's reading is switched by what the other side has not sent yet.
// Not measured here; its owner counts connections.
#include "proxy/tunnel/relay.h"

namespace proxy::tunnel {

Relay::Relay(net::Loop& loop, std::unique_ptr<net::Transport> downstream,
             std::unique_ptr<net::Transport> upstream, std::chrono::milliseconds idle,
             RelayOwner& owner)
    : loop_(loop),
      owner_(owner),
      downstream_(*this, std::move(downstream)),
      upstream_(*this, std::move(upstream)),
      idle_limit_(idle),
      idle_(loop, [this] { end(); }) {
  downstream_.set_other(upstream_);
  upstream_.set_other(downstream_);
}

void Relay::start() {
  moved();
  downstream_.start();
  upstream_.start();
}

void Relay::moved() {
  if (idle_limit_.count() != 0) idle_.start(idle_limit_);
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
  relay_.moved();
  other_->transport_->write(std::move(bytes));
  transport_->set_reading(other_->transport_->unsent() < kWindow);
}

void Relay::End::on_eof() {
  eof_ = true;
  other_->transport_->shutdown_write();
  relay_.check_done();
}

void Relay::End::on_sent(std::size_t) {
  relay_.moved();
  other_->transport_->set_reading(transport_->unsent() < kWindow);
  relay_.check_done();
}

void Relay::End::on_closed(Error) {
  other_->transport_->abort_on_close();
  relay_.end();
}

}  // namespace proxy::tunnel
