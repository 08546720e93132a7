// Pool: hands out idle connections, opens new ones for those who wait, forgets closed ones.
// Never more connections on their way than requests waiting for one.
#include "proxy/upstream/pool.h"

#include "proxy/http1/client_connection.h"
#include "proxy/upstream/handshake.h"

namespace proxy::upstream {

PooledConnection::PooledConnection(Pool& pool, std::unique_ptr<net::Transport> transport)
    : environment_(pool.environment_),
      pool_(&pool),
      transport_(transport.get()),
      connection_([&] {
        http1::ClientConnectionOptions options;
        options.limits = pool.cluster_.spec().message_limits;
        auto made = std::make_unique<http1::ClientConnection>(
            std::move(transport), static_cast<http::ClientConnectionOwner&>(*this), options);
        made->start();
        return made;
      }()),
      idle_(environment_.loop,
            [this] {
              environment_.shard.add(telemetry::Counter::timeouts, 1,
                                     telemetry::Timeout::upstream_idle);
              pool_->close(*this);
            }),
      opened_ms_(environment_.loop.now_ms()) {
  environment_.shard.gauge_add(telemetry::Gauge::upstream_connections_open, 1);
}

PooledConnection::~PooledConnection() {
  environment_.shard.gauge_add(telemetry::Gauge::upstream_connections_open, -1);
}

http::ClientStream* PooledConnection::open_stream(http::ResponseUser& user) {
  const bool reused = connection_->streams_opened() > 0;
  environment_.shard.add(
      telemetry::Counter::upstream_requests, 1,
      reused ? telemetry::ConnectionUse::reused : telemetry::ConnectionUse::fresh);
  return connection_->open_stream(user);
}

void PooledConnection::on_available(http::ClientConnection&) {
  if (pool_ != nullptr) pool_->hand_out(*this);
}

void PooledConnection::on_closed(http::ClientConnection&, Error why) {
  if (pool_ == nullptr) return;
  if (why.code == Code::upstream_tls) pool_->refused(*this);
  pool_->lost(*this);
}

Pool::Pool(Environment& environment, Cluster& cluster, Endpoint& endpoint)
    : environment_(environment), cluster_(cluster), endpoint_(endpoint) {}

Pool::~Pool() {
  for (auto* list : {&idle_, &busy_}) {
    while (PooledConnection* connection = list->pop_front()) {
      connection->pool_ = nullptr;
      connection->idle_.stop();
      environment_.loop.reap(std::unique_ptr<PooledConnection>(connection));
    }
  }
  while (Connecting* attempt = connecting_.pop_front()) {
    attempt->give_up();
    environment_.loop.reap(std::unique_ptr<Connecting>(attempt));
  }
}

bool Pool::too_old(const PooledConnection& connection) const {
  const auto max_age = static_cast<std::uint64_t>(cluster_.spec().max_age.count());
  return max_age != 0 && environment_.loop.now_ms() - connection.opened_ms_ > max_age;
}

PooledConnection* Pool::take_idle() {
  while (!idle_.empty()) {
    PooledConnection& connection = idle_.front();
    // One that has just ended is closed, too: we are told at the turn's end.
    if (too_old(connection) || connection.connection().free_slots() == 0) {
      close(connection);
      cluster_.connection_freed(*this);
      continue;
    }
    connection.idle_.stop();
    busy_.push_front(connection);
    return &connection;
  }
  return nullptr;
}

void Pool::wait(Waiter& waiter) {
  waiters_.push_back(waiter);
}

void Pool::connect_for_waiters() {
  while (connecting_.size() < waiters_.size()) {
    if (!cluster_.may_connect()) return;
    ++cluster_.connections_;
    connecting_.push_back(*new Connecting(environment_, endpoint_, cluster_.spec().connect, *this));
  }
}

void Pool::on_connected(Connecting& attempt, std::unique_ptr<net::Transport> transport) {
  attempt.unlink();
  environment_.loop.reap(std::unique_ptr<Connecting>(&attempt));
  endpoint_.avoid_until_ms = 0;
  auto* connection = new PooledConnection(*this, std::move(transport));
  busy_.push_front(*connection);
  hand_out(*connection);
}

void Pool::adopt(std::unique_ptr<net::Transport> transport) {
  ++cluster_.connections_;
  auto* connection = new PooledConnection(*this, std::move(transport));
  busy_.push_front(*connection);
  hand_out(*connection);
}

// The longest waiting request learns of the failure; the others' own attempts are on their way.
void Pool::on_connect_failed(Connecting& attempt, Error why) {
  attempt.unlink();
  environment_.loop.reap(std::unique_ptr<Connecting>(&attempt));
  --cluster_.connections_;
  endpoint_.avoid_until_ms = environment_.loop.now_ms() + Cluster::kAvoidMs;
  if (Waiter* waiter = waiters_.pop_front()) waiter->on_failed(why);
  connect_for_waiters();
  cluster_.connection_freed(*this);
}

void Pool::hand_out(PooledConnection& connection) {
  const ClusterSpec& spec = cluster_.spec();
  const bool used = connection.connection().streams_opened() > 0;
  if (used && !waiters_.empty() && (too_old(connection) || cluster_.starves_another(*this))) {
    close(connection);
    cluster_.connection_freed(*this);
    connect_for_waiters();
    return;
  }
  if (Waiter* waiter = waiters_.pop_front()) {
    waiter->on_ready(connection);
    return;
  }
  if (idle_.size() >= spec.max_idle_per_endpoint) {
    close(connection);
  } else {
    idle_.push_front(connection);
    if (spec.idle_timeout.count() != 0) connection.idle_.start(spec.idle_timeout);
  }
  cluster_.connection_freed(*this);
}

// The endpoint took back what on_connected had announced: a TLS 1.3 server's last word.
void Pool::refused(PooledConnection& connection) {
  const std::uint64_t now = environment_.loop.now_us();
  report_handshake(environment_.shard, environment_.log, telemetry::Direction::outbound,
                   *connection.transport_->handshake(), endpoint_.text, {now, now});
  endpoint_.avoid_until_ms = environment_.loop.now_ms() + Cluster::kAvoidMs;
}

void Pool::lost(PooledConnection& connection) {
  close(connection);
  connect_for_waiters();
  cluster_.connection_freed(*this);
}

void Pool::close(PooledConnection& connection) {
  connection.unlink();
  connection.pool_ = nullptr;
  connection.idle_.stop();
  --cluster_.connections_;
  environment_.loop.reap(std::unique_ptr<PooledConnection>(&connection));
}

bool Pool::close_an_idle_one() {
  if (idle_.empty()) return false;
  close(idle_.back());
  return true;
}

}  // namespace proxy::upstream
