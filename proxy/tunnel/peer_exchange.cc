// The frame on both ways, and events in their order for whoever is the user.
// Not the frame's bytes: telemetry/peer_exchange.cc.
#include "proxy/tunnel/peer_exchange.h"

#include <algorithm>
#include <array>
#include <utility>

namespace proxy::tunnel {

using telemetry::MetadataResult;

PeerExchange::PeerExchange(std::unique_ptr<net::Transport> lower, std::string_view frame,
                           PeerExchangeUser& peers)
    : lower_(std::move(lower)), peers_(&peers), frame_(frame) {}

void PeerExchange::start(net::TransportUser& user) {
  const bool taking_over = user_ != nullptr;
  user_ = &user;
  announced_ = false;
  eof_told_ = false;
  if (taking_over) {
    loop().at_turn_end(*this);
  } else {
    lower_->start(*this);
  }
}

void PeerExchange::put_back(Chain bytes) {
  bytes.append(std::move(unread_));
  unread_ = std::move(bytes);
}

void PeerExchange::on_open(const tls::HandshakeFacts*) {
  lower_open_ = true;
  if (!frame_.empty()) {
    Chain out;
    out.append_copy(loop().chunks(), std::exchange(frame_, {}));
    frame_unsent_ = out.size();
    lower_->write(std::move(out));
  }
  loop().at_turn_end(*this);
}

void PeerExchange::on_bytes(Chain bytes) {
  if (known_ && announced_ && want_reading_ && unread_.empty()) {
    user_->on_bytes(std::move(bytes));
    return;
  }
  if (known_) {
    unread_.append(std::move(bytes));
  } else {
    first_.append_compact(loop().chunks(), std::move(bytes));
    if (!read_frame()) return;
  }
  update_lower_reading();
  loop().at_turn_end(*this);
}

// True when the peer has said its frame, or something that is none.
bool PeerExchange::read_frame() {
  std::array<std::byte, telemetry::kFrameHead> head{};
  const std::size_t seen = std::min(first_.size(), head.size());
  first_.copy_to(std::span(head).first(seen));
  for (std::size_t i = 0; i < std::min(seen, telemetry::kFrameMagic.size()); ++i) {
    if (std::to_integer<std::uint8_t>(head[i]) == telemetry::kFrameMagic[i]) continue;
    know(MetadataResult::absent, nullptr);
    return true;
  }
  if (seen < head.size()) return false;
  std::size_t length = 0;
  for (std::size_t i = telemetry::kFrameMagic.size(); i < head.size(); ++i) {
    length = length << 8 | std::to_integer<std::size_t>(head[i]);
  }
  if (length > telemetry::kMaxFrameBody) {
    first_.clear();
    know(MetadataResult::invalid, nullptr);
    failure_ = make_error(Code::connection_lost, Side::local);
    return true;
  }
  if (first_.size() < head.size() + length) return false;
  first_.drop_front(head.size());
  std::string body(length, '\0');
  first_.copy_to(std::as_writable_bytes(std::span(body)));
  first_.drop_front(length);
  const auto metadata = telemetry::decode_exchange_body(body);
  know(metadata ? MetadataResult::decoded : MetadataResult::invalid,
       metadata ? &*metadata : nullptr);
  return true;
}

void PeerExchange::know(MetadataResult result, const telemetry::PeerMetadata* metadata) {
  known_ = true;
  unread_.append(std::move(first_));
  if (peers_ != nullptr) peers_->on_peer(result, metadata);
}

void PeerExchange::on_eof() {
  eof_ = true;
  // Istio passes on what there is and gives up on the metadata.
  if (!known_) know(MetadataResult::absent, nullptr);
  loop().at_turn_end(*this);
}

void PeerExchange::on_sent(std::size_t bytes) {
  const std::size_t ours = std::min(bytes, frame_unsent_);
  frame_unsent_ -= ours;
  if (bytes > ours) user_->on_sent(bytes - ours);
}

void PeerExchange::on_closed(Error why) {
  failure_ = why;
  loop().at_turn_end(*this);
}

// One event a call, then in the queue again while more is owed: each event may change what is.
void PeerExchange::run_at_turn_end() {
  if (!announced_ && lower_open_) {
    announced_ = true;
    loop().at_turn_end(*this);
    user_->on_open(lower_->handshake());
    return;
  }
  if (want_reading_ && known_ && !unread_.empty()) {
    loop().at_turn_end(*this);
    Chain bytes = std::move(unread_);
    update_lower_reading();
    user_->on_bytes(std::move(bytes));
    return;
  }
  if (want_reading_ && eof_ && !eof_told_) {
    eof_told_ = true;
    loop().at_turn_end(*this);
    user_->on_eof();
    return;
  }
  if (!failure_) return;
  const Error why = *std::exchange(failure_, std::nullopt);
  user_->on_closed(why);
}

void PeerExchange::set_reading(bool on) {
  if (want_reading_ == on) return;
  want_reading_ = on;
  update_lower_reading();
  if (on) loop().at_turn_end(*this);
}

// The frame is read whatever the user wants.
void PeerExchange::update_lower_reading() {
  lower_->set_reading(!known_ || (want_reading_ && unread_.empty()));
}

std::size_t PeerExchange::unsent() const noexcept {
  const std::size_t all = lower_->unsent();
  return all - std::min(all, frame_unsent_);
}

}  // namespace proxy::tunnel
