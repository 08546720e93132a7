// Attempt: bookkeeping between a cluster, a connection's stream and the exchange.
// Not where bytes are looked at.
#include "proxy/exchange/attempt.h"

#include "proxy/exchange/exchange.h"

namespace proxy::exchange {

Result<> Attempt::begin(upstream::Cluster& cluster, const http::RequestHead& head,
                        std::size_t not_this) {
  ASSERT(!active());
  auto picked = cluster.pick(not_this);
  if (!picked) return std::unexpected(picked.error());
  endpoint_ = *picked;
  upgrade = !head.upgrade_view().empty();
  refused_by = refused_ ? connection_ : 0;
  on_reused_ = anything_came_ = lost_race_ = refused_ = multiplexed_ = false;
  held_.take(cluster, endpoint_);
  auto connection = cluster.acquire(endpoint_, cluster.codec_for(head), *this);
  if (!connection) return std::unexpected(connection.error());
  cluster_ = &cluster;
  cluster.request_started(endpoint_);
  if (*connection != nullptr) attach(**connection);
  return {};
}

void Attempt::attach(upstream::PooledConnection& connection) {
  if (connection.note() == nullptr) {
    auto note = std::make_unique<UpstreamNote>();
    exchange_.describe_upstream(connection.peer(), note->peer);
    if (connection.peer() != nullptr) note->principal = connection.peer()->spiffe_uri;
    connection.note() = std::move(note);
  }
  note_ = static_cast<UpstreamNote*>(connection.note().get());
  multiplexed_ = connection.multiplexed();
  connection_ = connection.number();
  http::ClientStream* opened = connection.open_stream(*this);
  on_reused_ = opened->on_reused_connection();
  exchange_.attempt_ready();
}

void Attempt::release() noexcept {
  if (cluster_ != nullptr) cluster_->request_ended(endpoint_);
  cluster_ = nullptr;
  note_ = nullptr;
}

void Attempt::cancel(Error why) {
  unlink();
  if (stream) stream->reset(why);
  release();
}

void Attempt::on_ready(upstream::PooledConnection& connection) {
  attach(connection);
}

void Attempt::on_failed(Error why) {
  release();
  exchange_.attempt_failed(why);
}

void Attempt::on_informational(http::ResponseHead& head) {
  anything_came_ = true;
  exchange_.response_informational(head);
}

void Attempt::on_head(http::ResponseHead& head) {
  anything_came_ = true;
  exchange_.response_head(head);
}

void Attempt::on_data(Chain body) {
  exchange_.response_data(std::move(body));
}

void Attempt::on_end(http::HeaderMap trailers) {
  if (!stream) release();
  exchange_.response_end(std::move(trailers));
}

void Attempt::on_sent(std::size_t bytes) {
  exchange_.request_sent(bytes);
}

void Attempt::on_reset(Error why, http::Wire wire) {
  lost_race_ = on_reused_ && !anything_came_ && wire.received == 0;
  refused_ = multiplexed_ && why.replay == Replay::always;
  release();
  exchange_.attempt_failed(why);
}

}  // namespace proxy::exchange
