// Worker: accepts, applies snapshots, drains.
// What happens on a connection is in downstream_connection.cc.
#include "proxy/server/worker.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "proxy/net/original_destination.h"

namespace proxy::server {
namespace {
using namespace std::chrono_literals;
constexpr auto kLagPeriod = 500ms;
// Between the last SYN let in and the close of its port: time for its handshake to complete.
constexpr auto kLastHandshakes = 100ms;
// Left for scrapers, probes and the files of a reload, when clients would take all; a quarter of
// few.
constexpr std::size_t kSpareDescriptors = 16;

std::uint64_t random_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}
}  // namespace

Worker::Worker(std::shared_ptr<const Snapshot> snapshot, telemetry::Shard& shard,
               telemetry::AccessLog::Producer& access_log, telemetry::Log& log,
               std::function<void()> on_drained)
    : shard_(shard),
      rate_limited_log_(log, 5, 10'000'000),
      request_ids_(random_seed()),
      upstream_http2_(shard, telemetry::Side::upstream),
      filter_state_{shard, peers_, request_ids_},
      upstream_{loop_, shard, sessions_, rate_limited_log_, &upstream_http2_},
      exchange_{loop_, filter_state_, access_log},
      exchanges_(exchange_),
      originals_(upstream_),
      ports_timer_(loop_, [this] { close_ports(); }),
      lag_timer_(loop_, [this] { measure_lag(); }),
      on_drained_(std::move(on_drained)) {
  apply(std::move(snapshot));
}

Worker::~Worker() {
  const net::Loop::Turn turn(loop_);
  finish();
}

Result<> Worker::listen(telemetry::Direction direction, net::BoundSocket socket) {
  ports_.push_back(std::make_unique<Port>(*this, direction));
  return ports_.back()->listen(std::move(socket));
}

void Worker::start() {
  thread_ = std::thread([this] { run(); });
}

void Worker::run() {
  {
    const net::Loop::Turn turn(loop_);
    measure_lag();
  }
  loop_.run();
}

void Worker::join() {
  if (thread_.joinable()) thread_.join();
}

void Worker::set_snapshot(std::shared_ptr<const Snapshot> snapshot) {
  loop_.post([this, snapshot = std::move(snapshot)]() mutable {
    if (finished_) return;
    const bool reloaded = snapshot_->generation != snapshot->generation;
    apply(std::move(snapshot));
    if (!reloaded) return;  // other addresses: nothing that connections are judged by
    connections_.for_each([](DownstreamConnection& connection) { connection.snapshot_changed(); });
  });
}

void Worker::apply(std::shared_ptr<const Snapshot> snapshot) {
  const bool reloaded = snapshot_ == nullptr || snapshot_->generation != snapshot->generation;
  snapshot_ = std::move(snapshot);
  shard_.set_own(snapshot_->own);
  const std::array made = {
      make_rules(telemetry::Direction::inbound, snapshot_->inbound_routes,
                 snapshot_->inbound_filters, snapshot_->inbound_clusters),
      make_rules(telemetry::Direction::outbound, snapshot_->outbound_routes,
                 snapshot_->outbound_filters, snapshot_->outbound_clusters),
  };
  rules_ = made;
  if (reloaded) originals_.clear();  // those of the old rules are of no more use
}

// Clusters whose spec did not change, or in its endpoints alone, go over with their warm
// connections; the old rules keep the others for as long as an exchange needs them.
std::vector<std::shared_ptr<upstream::Cluster>> Worker::make_clusters(
    telemetry::Direction direction,
    const std::vector<std::shared_ptr<const upstream::ClusterSpec>>& specs) {
  using Shared = std::shared_ptr<upstream::Cluster>;
  const auto& old = rules_[static_cast<std::size_t>(direction)];
  std::vector<Shared> left = old == nullptr ? std::vector<Shared>{} : old->clusters;
  std::vector<Shared> clusters(specs.size());
  const auto take = [&](std::size_t i, auto fits) {
    if (clusters[i] != nullptr) return false;
    const auto fitting = [&](const Shared& each) { return each != nullptr && fits(each->spec()); };
    // Nearly always it stands where it stood.
    const auto same_place = left.begin() + static_cast<std::ptrdiff_t>(std::min(i, left.size()));
    const auto found = same_place != left.end() && fitting(*same_place)
                           ? same_place
                           : std::find_if(left.begin(), left.end(), fitting);
    if (found != left.end()) clusters[i] = std::move(*found);
    return clusters[i] != nullptr;
  };
  for (std::size_t i = 0; i < specs.size(); ++i) {
    take(i, [&](const auto& spec) { return &spec == specs[i].get() || spec.same_as(*specs[i]); });
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (take(i, [&](const auto& spec) { return spec.same_but_endpoints(*specs[i]); })) {
      clusters[i]->update(specs[i]);
    } else if (clusters[i] == nullptr) {
      clusters[i] = std::make_shared<upstream::Cluster>(upstream_, specs[i], random_seed());
    }
  }
  return clusters;
}

std::shared_ptr<const exchange::Rules> Worker::make_rules(
    telemetry::Direction direction, const route::Table& routes, const filter::Chain& filters,
    const std::vector<std::shared_ptr<const upstream::ClusterSpec>>& specs) {
  const auto rules = std::make_shared<exchange::Rules>();
  rules->snapshot = snapshot_;
  rules->config = &snapshot_->config;
  rules->routes = &routes;
  rules->filters = &filters;
  rules->direction = direction;
  if (direction == telemetry::Direction::outbound && snapshot_->client != nullptr) {
    rules->upstream_principal = snapshot_->client->spiffe_uri();
  }
  rules->clusters = make_clusters(direction, specs);
  for (const route::Plan& plan : routes.plans()) {
    rules->destinations.push_back(
        shard_.intern_destination({plan.service, plan.service_name, plan.service_namespace}));
  }
  return rules;
}

// --- accepting ----------------------------------------------------------------------------

void Worker::Port::on_accept(std::unique_ptr<net::TcpTransport> transport) {
  worker_.accept(direction_, std::move(transport));
}

void Worker::Port::on_accept_failed(int error) {
  worker_.shard_.add(telemetry::Counter::limits_hit, 1, telemetry::Limit::file_descriptors);
  worker_.rate_limited_log_.warning(
      LogKind::accept, worker_.loop_.now_us(),
      "connections wait to be accepted: {}; raise the hard limit of open files (ulimit -Hn)",
      std::strerror(error));
}

Worker::DescriptorShare Worker::descriptor_share(std::size_t clients) const {
  constexpr telemetry::GaugeCell<> kUpstream(telemetry::Gauge::upstream_connections_open);
  const std::size_t upstream = std::max<std::size_t>(clients, shard_.gauge(kUpstream.first));
  const std::size_t used = clients + upstream + net::Splice::open_pipe_ends();
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = RLIM_INFINITY;
  const std::size_t all = limit.rlim_cur - std::min<std::size_t>(limit.rlim_cur, own_descriptors_);
  const std::size_t spare = std::min(kSpareDescriptors, all / 4);
  return {used, (all - spare) / snapshot_->config.workers};
}

// Who is connected shall be served: accepting stops while there is still a descriptor for each
// client's upstream connection.
bool Worker::has_room() const {
  const std::size_t clients = connections_.size() + 1;
  if (clients == 1 || draining_) return true;
  const auto [used, size] = descriptor_share(clients);
  return used <= size;
}

// The other half is for clients that are still to come.
bool Worker::may_splice() const {
  const auto [used, size] = descriptor_share(connections_.size());
  return used + net::Splice::kPipeEnds <= size / 2;
}

// Where it was going, when that is not this listener. Inbound under TPROXY the local address says
// it; else conntrack does, and where that knows nothing no rule has touched the connection.
std::optional<net::SocketAddress> Worker::original_of(telemetry::Direction direction,
                                                      const net::TcpTransport& transport) const {
  const config::Interception by = snapshot_->config.interception;
  const int fd = transport.descriptor();
  if (by == config::Interception::none || fd < 0) return std::nullopt;
  const bool local =
      by == config::Interception::tproxy && direction == telemetry::Direction::inbound;
  auto original = local ? std::nullopt : net::original_destination(fd);
  return original ? original : net::local_address(fd);
}

bool Worker::is_loop(telemetry::Direction direction, const net::SocketAddress& original,
                     const net::TcpTransport& transport) const {
  // Our own connection to the app came back to us.
  if (direction == telemetry::Direction::inbound &&
      net::is_passthrough_source(transport.peer_address())) {
    return true;
  }
  return std::any_of(own_listeners_.begin(), own_listeners_.end(), [&](const auto& own) {
    if (own.port() != original.port() || own.is_ipv6() != original.is_ipv6()) return false;
    return own.same_host(original) || (own.is_any() && net::is_local(original));
  });
}

void Worker::accept(telemetry::Direction direction, std::unique_ptr<net::TcpTransport> transport) {
  const std::size_t limit = snapshot_->config.limits.connections;
  if (connections_.size() >= limit) {
    shard_.add(telemetry::Counter::limits_hit, 1, telemetry::Limit::connections);
    rate_limited_log_.warning(LogKind::limit, loop_.now_us(),
                              "refused a connection: limits.connections ({} a worker) is reached",
                              limit);
    transport->abort_on_close();
    return;
  }
  const auto original = original_of(direction, *transport);
  if (original && is_loop(direction, *original, *transport)) {
    shard_.add(telemetry::Counter::loops_refused);
    rate_limited_log_.warning(LogKind::loop, loop_.now_us(),
                              "refused a connection from {} to {}: it would come back to us",
                              transport->peer_address().text(), original->text());
    transport->abort_on_close();
    return;
  }
  auto connection =
      std::make_unique<DownstreamConnection>(*this, direction, std::move(transport), original);
  connections_.push_back(*connection);
  DownstreamConnection& accepted = *connection.release();
  accepted.begin();
  if (draining_) accepted.begin_drain();
}

void Worker::downstream_closed() {
  // Who is asked first has the places that all who close in this round of the loop leave; in turns,
  // or one direction would starve the other.
  bool retried = false;
  for (std::size_t i = 0; i < ports_.size(); ++i) {
    if (ports_[(retried_first_ + i) % ports_.size()]->retry()) retried = true;
  }
  if (retried) ++retried_first_;
  if (draining_ && ports_.empty() && connections_.empty()) finish();
}

// --- the end ------------------------------------------------------------------------------

void Worker::begin_drain() {
  loop_.post([this] {
    if (draining_) return;
    draining_ = true;
    // Closing a port resets whoever is between its SYN and our accept: none may be.
    for (const auto& port : ports_) port->stop_new();
    ports_timer_.start(kLastHandshakes);
    connections_.for_each([](DownstreamConnection& connection) { connection.begin_drain(); });
  });
}

void Worker::close_ports() {
  for (const auto& port : ports_) port->finish();
  ports_.clear();
  if (connections_.empty()) finish();
}

void Worker::abort_all() {
  loop_.post([this] {
    if (draining_ && !connections_.empty()) {
      shard_.add(telemetry::Counter::timeouts, 1, telemetry::Timeout::drain);
    }
    draining_ = true;
    ports_.clear();
    connections_.for_each([](DownstreamConnection& connection) {
      connection.abort(make_error(Code::drain_deadline, Side::local));
    });
    if (connections_.empty()) finish();
  });
}

// Nothing is served any more: let go of all that holds handles, then the loop ends by itself.
void Worker::finish() {
  if (finished_) return;
  finished_ = true;
  lag_timer_.stop();
  ports_timer_.stop();
  ports_.clear();
  rules_ = {};
  originals_.clear();
  if (on_drained_) on_drained_();
  loop_.stop();
}

void Worker::measure_lag() {
  const std::uint64_t now = loop_.precise_now_us();
  if (lag_due_us_ != 0) {
    shard_.observe(telemetry::Histogram::event_loop_lag, now > lag_due_us_ ? now - lag_due_us_ : 0);
  }
  const auto period = std::chrono::duration_cast<std::chrono::microseconds>(kLagPeriod).count();
  // The timer itself fires up to two of its milliseconds late.
  lag_due_us_ = now + static_cast<std::uint64_t>(period) + 2000;
  lag_timer_.start(kLagPeriod);
}

}  // namespace proxy::server
