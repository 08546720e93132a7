// Pool: hands out connections with free slots, opens new ones for those who wait, forgets closed
// ones. Never more connections on their way than the requests waiting for one can need.
#include "proxy/upstream/pool.h"

#include "proxy/http/fault.h"
#include "proxy/http1/client_connection.h"
#include "proxy/upstream/handshake.h"

namespace proxy::upstream {
namespace {

// The rate-limited line for endpoints that do not speak HTTP/2; the server's end before it.
constexpr std::size_t kNotHttp2Line = 32;

}  // namespace

PooledConnection::PooledConnection(Pool& pool, std::unique_ptr<net::Transport> transport)
    : environment_(pool.environment_),
      pool_(&pool),
      transport_(transport.get()),
      connection_(make_codec(std::move(transport))),
      idle_(environment_.loop,
            [this] {
              if (barren_) {
                pool_->barren_too_long(*this);
              } else {
                pool_->idle_too_long(*this);
              }
            }),
      opened_ms_(environment_.loop.now_ms()),
      number_(++pool.cluster_.connection_numbers_) {
  environment_.shard.gauge_add(telemetry::Gauge::upstream_connections_open, 1);
}

PooledConnection::~PooledConnection() {
  environment_.shard.gauge_add(telemetry::Gauge::upstream_connections_open, -1);
}

std::unique_ptr<http::ClientConnection> PooledConnection::make_codec(
    std::unique_ptr<net::Transport> transport) {
  const ClusterSpec& spec = pool_->cluster_.spec();
  auto& owner = static_cast<http::ClientConnectionOwner&>(*this);
  if (pool_->codec_ == Codec::http2) {
    http2::ClientConnectionOptions options = spec.http2;
    if (environment_.http2 != nullptr) options.observer = environment_.http2;
    if (pool_->grants_nothing_) options.streams_before_settings = 0;
    auto made = std::make_unique<http2::ClientConnection>(std::move(transport), owner, options);
    http2_ = made.get();
    made->start();
    return made;
  }
  http1::ClientConnectionOptions options;
  options.limits = spec.message_limits;
  auto made = std::make_unique<http1::ClientConnection>(std::move(transport), owner, options);
  made->start();
  return made;
}

http::ClientStream* PooledConnection::open_stream(http::ResponseUser& user) {
  const bool reused = connection_->streams_opened() > 0;
  environment_.shard.add(
      telemetry::Counter::upstream_requests, 1,
      reused ? telemetry::ConnectionUse::reused : telemetry::ConnectionUse::fresh);
  http::ClientStream* stream = connection_->open_stream(user);
  pool_->place(*this);
  return stream;
}

void PooledConnection::on_available(http::ClientConnection&) {
  if (pool_ != nullptr) pool_->hand_out(*this);
}

void PooledConnection::on_closed(http::ClientConnection&, Error why) {
  if (pool_ == nullptr) return;
  // Not a word of HTTP/2 came (RFC 9113 3.4): there is no falling back, so it is said. A server
  // that just closes says so only in cleartext: within TLS it has more reasons to.
  const bool cleartext = pool_->cluster_.spec().connect.tls == nullptr;
  if (http2_ != nullptr && !http2_->settings_received() &&
      (why.code == Code::bad_response || (why.code == Code::upstream_closed && cleartext))) {
    environment_.log.warning(kNotHttp2Line, environment_.loop.now_us(),
                             "upstream {} does not speak HTTP/2 ({}); {}", pool_->endpoint_.text,
                             http::details_of(why), pool_->cluster_.spec().http1_advice);
  }
  if (why.code == Code::upstream_tls) pool_->refused(*this);
  pool_->lost(*this);
}

Pool::Pool(Environment& environment, Cluster& cluster, Endpoint& endpoint, Codec codec)
    : environment_(environment),
      cluster_(cluster),
      endpoint_(endpoint),
      codec_(codec),
      slots_each_(codec == Codec::http2 ? kUsualSlots : 1) {}

Pool::~Pool() {
  for (auto* list : {&idle_, &shared_, &barren_, &busy_}) {
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

// --- taking -------------------------------------------------------------------------------

bool Pool::too_old(const PooledConnection& connection) const {
  const auto max_age = static_cast<std::uint64_t>(cluster_.spec().max_age.count());
  return max_age != 0 && environment_.loop.now_ms() - connection.opened_ms_ > max_age;
}

bool Pool::suits(const PooledConnection& connection, const Waiter& waiter) const {
  if (connection.number() == waiter.refused_by) return false;
  return !waiter.upgrade || connection.takes_upgrades();
}

// Few connections are kept warm: one with streams comes before one without.
PooledConnection* Pool::take(const Waiter& waiter) {
  if (PooledConnection* connection = take_from(shared_, waiter)) return connection;
  return take_from(idle_, waiter);
}

PooledConnection* Pool::take_from(IntrusiveList<PooledConnection>& list, const Waiter& waiter) {
  while (true) {
    PooledConnection* found = nullptr;
    PooledConnection* over = nullptr;
    list.for_each([&](PooledConnection& connection) {
      if (found != nullptr || over != nullptr) return;
      // One that has just ended, or is about to, has no slots: we are told at the turn's end.
      if (too_old(connection) || connection.connection().free_slots() == 0) {
        over = &connection;
      } else if (suits(connection, waiter)) {
        found = &connection;
      }
    });
    if (over == nullptr) return found;
    // Not in the midst of the list: who gets the place may close others of it.
    retire(*over);
  }
}

void Pool::wait(Waiter& waiter) {
  // Nobody waited yet: the time to wait begins now, and not when the streams went.
  if (waiters_.empty() && barren()) {
    barren_.front().idle_.start(cluster_.spec().connect.connect_timeout);
  }
  waiters_.push_back(waiter);
}

void Pool::connect_for_waiters() {
  while (!barren() && expected_slots() < waiters_.size()) {
    if (!cluster_.may_connect(codec_)) return;
    ++cluster_.connections_;
    connecting_.push_back(
        *new Connecting(environment_, endpoint_, cluster_.first_spec_->connect, codec_, *this));
  }
}

void Pool::on_connected(Connecting& attempt, std::unique_ptr<net::Transport> transport) {
  attempt.unlink();
  environment_.loop.reap(std::unique_ptr<Connecting>(&attempt));
  endpoint_.avoid_until_ms = 0;
  add(std::move(transport));
}

void Pool::adopt(std::unique_ptr<net::Transport> transport) {
  ++cluster_.connections_;
  add(std::move(transport));
}

void Pool::add(std::unique_ptr<net::Transport> transport) {
  auto* connection = new PooledConnection(*this, std::move(transport));
  busy_.push_front(*connection);
  connection->counted_unsettled_ = !connection->settled();
  if (connection->counted_unsettled_) ++unsettled_;
  hand_out(*connection);
}

void Pool::on_connect_failed(Connecting& attempt, Error why) {
  attempt.unlink();
  environment_.loop.reap(std::unique_ptr<Connecting>(&attempt));
  --cluster_.connections_;
  fail_waiters(slots_each_, why);
  connect_for_waiters();
  cluster_.connection_freed(*this);
}

// Those that waited longest learn of the failure, as many as the connection would have served; the
// others' own attempts are on their way.
void Pool::fail_waiters(std::size_t most, Error why) {
  endpoint_.avoid_until_ms = environment_.loop.now_ms() + Cluster::kAvoidMs;
  for (std::size_t left = std::min(most, waiters_.size()); left > 0; --left) {
    if (Waiter* waiter = waiters_.pop_front()) waiter->on_failed(why);
  }
}

// --- handing out --------------------------------------------------------------------------

Waiter* Pool::next_waiter(const PooledConnection& connection) {
  Waiter* found = nullptr;
  waiters_.for_each([&](Waiter& waiter) {
    if (found == nullptr && suits(connection, waiter)) found = &waiter;
  });
  return found;
}

// The peer's settings have come: how many requests such a connection takes, and whether upgrades.
void Pool::learn(PooledConnection& connection) {
  if (!connection.counted_unsettled_ || !connection.settled()) return;
  connection.counted_unsettled_ = false;
  --unsettled_;
  const std::size_t limit = connection.http2_->stream_limit();
  grants_nothing_ = limit == 0;
  slots_each_ = grants_nothing_ ? kUsualSlots : limit;
  refuses_upgrades_ = !connection.takes_upgrades();
  if (refuses_upgrades_) move_upgrades_away(connection);
}

void Pool::move_upgrades_away(PooledConnection& because) {
  // Room for their connections is not made by closing this one: the caller goes on with it.
  because.barren_ = false;
  because.idle_.stop();
  busy_.push_front(because);
  waiters_.for_each([this](Waiter& waiter) {
    if (waiter.upgrade) cluster_.wait_for_http1(*this, waiter);
  });
}

void Pool::hand_out(PooledConnection& connection) {
  learn(connection);
  const bool used = connection.connection().streams_opened() > 0;
  const bool wanted = !waiters_.empty() || !connection.connection().idle();
  if (used && wanted && (too_old(connection) || cluster_.starves_another(*this))) {
    retire(connection);
    connect_for_waiters();
    return;
  }
  while (connection.connection().free_slots() > 0) {
    Waiter* waiter = next_waiter(connection);
    if (waiter == nullptr) break;
    waiter->unlink();
    waiter->on_ready(connection);
  }
  place(connection);
  connect_for_waiters();  // who waits may have counted on more slots than there are
  if (connection.connection().idle()) cluster_.connection_freed(*this);
}

// Into the list of its state.
void Pool::place(PooledConnection& connection) {
  const ClusterSpec& spec = cluster_.spec();
  if (!connection.retiring_ && connection.takes_none()) {
    place_barren(connection);
    return;
  }
  if (std::exchange(connection.barren_, false)) grants_nothing_ = false;
  connection.idle_.stop();
  if (connection.retiring_ || connection.connection().free_slots() == 0) {
    busy_.push_front(connection);
  } else if (draining_ && waiters_.empty()) {
    retire(connection);
  } else if (!connection.connection().idle()) {
    shared_.push_front(connection);
  } else if (idle_.size() >= spec.max_idle_per_endpoint) {
    retire(connection);
  } else {
    idle_.push_front(connection);
    if (spec.idle_timeout.count() != 0) connection.idle_.start(spec.idle_timeout);
  }
}

void Pool::place_barren(PooledConnection& connection) {
  grants_nothing_ = true;
  // Saying it again prolongs nothing.
  if (std::exchange(connection.barren_, true)) return;
  barren_.push_front(connection);
  connection.idle_.start(cluster_.spec().connect.connect_timeout);
}

// --- ends ---------------------------------------------------------------------------------

// No more requests for this one. With requests under way it closes when they are done.
void Pool::retire(PooledConnection& connection) {
  if (connection.connection().idle()) {
    close(connection);
    cluster_.connection_freed(*this);
    return;
  }
  connection.retiring_ = true;
  busy_.push_front(connection);
  connection.connection().begin_drain();
}

void Pool::set_draining(bool draining) {
  if (draining == draining_) return;
  draining_ = draining;
  if (!draining) return;
  for (auto* list : {&idle_, &shared_}) {
    while (!list->empty()) retire(list->front());
  }
}

void Pool::idle_too_long(PooledConnection& connection) {
  environment_.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::upstream_idle);
  if (!connection.multiplexed()) {
    close(connection);
    return;
  }
  // An HTTP/2 peer is told before its connection goes (RFC 9113 6.8).
  connection.retiring_ = true;
  busy_.push_front(connection);
  connection.connection().begin_drain();
}

void Pool::barren_too_long(PooledConnection& connection) {
  connection.barren_ = false;
  connection.retiring_ = true;
  busy_.push_front(connection);
  connection.connection().begin_drain();
  if (waiters_.empty()) return;
  environment_.shard.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::connect);
  fail_waiters(waiters_.size(), make_error(Code::connect_timeout, Side::upstream));
}

// The endpoint took back what on_connected had announced: a TLS 1.3 server's last word.
void Pool::refused(PooledConnection& connection) {
  const std::uint64_t now = environment_.loop.now_us();
  report_handshake(environment_.shard, environment_.log, telemetry::Direction::outbound,
                   *connection.transport_->handshake(), endpoint_.text, {now, now});
  endpoint_.avoid_until_ms = environment_.loop.now_ms() + Cluster::kAvoidMs;
}

void Pool::lost(PooledConnection& connection) {
  // Whoever says no settings speaks no HTTP/2, and nobody would hand this pool's upgrades out.
  if (connection.counted_unsettled_) move_upgrades_away(connection);
  // One that served nobody was as good as none: else the next would be opened at once, for ever.
  // One that we gave up ourselves says nothing to those who wait for another.
  const bool served = connection.retiring_ || connection.connection().streams_opened() > 0;
  close(connection);
  if (!served && !waiters_.empty()) {
    fail_waiters(slots_each_, make_error(Code::connect_failed, Side::upstream));
  }
  connect_for_waiters();
  cluster_.connection_freed(*this);
}

void Pool::close(PooledConnection& connection) {
  ASSERT(connection.pool_ == this);
  connection.unlink();
  connection.pool_ = nullptr;
  connection.idle_.stop();
  if (connection.counted_unsettled_) --unsettled_;
  --cluster_.connections_;
  environment_.loop.reap(std::unique_ptr<PooledConnection>(&connection));
}

bool Pool::close_an_idle_one(Codec wanted) {
  if (!idle_.empty()) {
    close(idle_.back());
    return true;
  }
  if (wanted != Codec::http1 || barren_.empty()) return false;
  close(barren_.back());
  return true;
}

}  // namespace proxy::upstream
