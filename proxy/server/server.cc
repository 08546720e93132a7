// Server: starts the workers, answers signals, reloads, drains. All of it on the main thread.
// Not on the path of any request.
#include "proxy/server/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <map>
#include <optional>

#include "proxy/config/difference.h"
#include "proxy/net/file_watch.h"
#include "proxy/net/signal.h"
#include "proxy/server/listen.h"
#include "proxy/server/name_refresh.h"
#include "proxy/server/snapshot.h"
#include "proxy/server/stats_listener.h"
#include "proxy/server/version.h"
#include "proxy/server/worker.h"
#include "telemetry/access_log.h"
#include "telemetry/collector.h"
#include "telemetry/process_stats.h"

namespace proxy::server {
namespace {

// timeout(1) signals its child and then the group which that is in; a supervisor may do the same
// beside the user's Ctrl-C. What comes this soon after the first signal is no second word.
constexpr std::uint64_t kOneSignalMs = 100;

telemetry::Collector::Options collector_options(const config::Config& config) {
  telemetry::Collector::Options options;
  options.label_sets = config.stats.label_sets;
  options.idle_expiry = config.stats.idle_expiry;
  options.own = own_labels(config.workload);
  options.version = kVersion;
  return options;
}

telemetry::AccessLog::Options access_options(const config::Log& log) {
  telemetry::AccessLog::Options options;
  options.mode = static_cast<telemetry::AccessMode>(log.access);
  options.format = static_cast<telemetry::LineFormat>(log.format);
  return options;
}

std::string_view subject(telemetry::Reload what) {
  return what == telemetry::Reload::certificates ? "changed certificate files" : "configuration";
}

// By cluster, for those of which an endpoint is a name.
std::map<std::string, std::size_t> endpoints_of_names(const Snapshot& snapshot) {
  std::map<std::string, std::size_t> out;
  const auto& services = snapshot.config.outbound.services;
  for (std::size_t i = 0; i < services.size(); ++i) {
    if (!std::any_of(services[i].endpoints.begin(), services[i].endpoints.end(), is_name)) continue;
    const upstream::ClusterSpec& spec = *snapshot.outbound_clusters[i];
    out[spec.name] = spec.endpoints.size();
  }
  if (is_name(snapshot.config.inbound.app)) {
    const upstream::ClusterSpec& spec = *snapshot.inbound_clusters.front();
    out[spec.name] = spec.endpoints.size();
  }
  return out;
}

static_assert(static_cast<int>(config::AccessLog::all) ==
              static_cast<int>(telemetry::AccessMode::all));
static_assert(static_cast<int>(config::LogFormat::text) ==
              static_cast<int>(telemetry::LineFormat::text));

}  // namespace

class Server::State {
 public:
  State(config::LoadRequest load, const config::Config& config, telemetry::Log& log)
      : load_(std::move(load)),
        log_(log),
        tickets_(tls::make_ticket_secret()),
        collector_(collector_options(config)),
        access_log_(access_options(config.log)),
        agent_(
            loop_, config, [this] { leave("asked by /drain"); },
            [this] {
              phase_ = phase_ == Phase::ended ? Phase::ended : Phase::draining;
              end_now("asked by /quitquitquit");
            }),
        watch_(loop_, {}, [this] { reload(telemetry::Reload::certificates); }),
        names_(loop_, collector_, log, [this] { addresses_changed(); }),
        drain_timer_(loop_, [this] { drain_timer_fired(); }) {}
  ~State() { stop_workers(); }

  std::expected<void, StartError> start(const config::Config& config);
  int run();
  const std::vector<Listening>& listening() const noexcept { return listening_; }

 private:
  // Serving -> leaving (readiness 503, still accepting, for drain_delay) -> draining -> gone.
  enum class Phase : std::uint8_t { serving, leaving, draining, ended };

  std::expected<void, StartError> start_workers(const config::Config& config);
  std::expected<void, StartError> start_stats(const config::ListenAddress& listen,
                                              StatsListener::Pages pages, std::string_view what);
  void handle_signals();
  void watch_files(const config::Config& config);
  std::expected<config::Config, std::string> wanted(telemetry::Reload what) const;
  void reload(telemetry::Reload what);
  void reject(telemetry::Reload what, std::string problems);
  void take(telemetry::Reload what, const config::Config& config, const Contexts& contexts);
  void set_snapshot(const config::Config& config, const Contexts& contexts,
                    std::uint64_t generation);
  void addresses_changed();
  void note_expiry();
  void terminate();
  void leave(std::string_view why);
  void begin_drain();
  void drain_timer_fired();
  void end_now(std::string_view why);
  void worker_drained();
  void stop_workers();

  net::Loop loop_;
  config::LoadRequest load_;
  telemetry::Log& log_;
  tls::TicketSecret tickets_;
  telemetry::Collector collector_;
  telemetry::AccessLog access_log_;
  std::shared_ptr<const Snapshot> snapshot_;
  std::vector<Listening> listening_;
  std::vector<net::SocketAddress> own_;  // the same, workers' duplicates included
  std::vector<telemetry::Shard*> shards_;
  std::vector<std::unique_ptr<Worker>> workers_;
  AgentPages agent_;
  std::vector<std::unique_ptr<StatsListener>> stats_;
  std::vector<std::unique_ptr<net::Signal>> signals_;
  net::FileWatch watch_;
  std::vector<std::string> watched_;
  NameRefresh names_;
  std::array<bool, 2> reload_due_{};  // by Reload: asked for while another waited for names
  net::Timer drain_timer_;
  std::size_t drained_ = 0;
  Phase phase_ = Phase::serving;
  std::optional<std::uint64_t> signalled_ms_;  // when we were first asked to leave
};

std::expected<void, StartError> Server::State::start(const config::Config& config) {
  watch_files(config);  // before they are read
  bool found_out = false;
  names_.follow(names_in(config), config.dns.servers, [&found_out] { found_out = true; });
  while (!found_out) loop_.run_once(true);
  const auto contexts = make_contexts(config, tickets_);
  if (!contexts) return std::unexpected(StartError{contexts.error(), {}});
  reload_due_ = {};  // files that changed during the wait have just been read
  set_snapshot(config, *contexts, 1);
  // Signals first: from the moment a port is open, whoever started us may ask us to leave. What
  // came before, the caller has held back.
  handle_signals();
  if (auto started = start_workers(config); !started) return started;
  if (config.stats.listen.is_set()) {
    auto started = start_stats(config.stats.listen, StatsListener::Pages::all, "stats");
    if (!started) return started;
  }
  if (config.stats.ready_listen.is_set()) {
    auto started =
        start_stats(config.stats.ready_listen, StatsListener::Pages::ready_only, "ready");
    if (!started) return started;
  }
  if (config.agent.listen.is_set()) {
    auto started = start_stats(config.agent.listen, StatsListener::Pages::agent, "agent");
    if (!started) return started;
  }
  if (config.agent.admin_listen.is_set()) {
    auto started = start_stats(config.agent.admin_listen, StatsListener::Pages::all, "admin");
    if (!started) return started;
  }
  const auto process = telemetry::read_process_stats();
  for (const auto& worker : workers_) {
    worker->set_own_listeners(own_);
    worker->set_own_descriptors(process ? process->open_fds : 0);
    worker->start();
  }
  return {};
}

std::expected<void, StartError> Server::State::start_workers(const config::Config& config) {
  for (unsigned index = 0; index < config.workers; ++index) {
    telemetry::Shard& shard = collector_.add_shard();
    shards_.push_back(&shard);
    workers_.push_back(
        std::make_unique<Worker>(snapshot_, shard, access_log_.add_producer(shard), log_,
                                 [this] { loop_.post([this] { worker_drained(); }); }));
  }
  const std::array<std::pair<telemetry::Direction, const config::ListenAddress*>, 2> listeners = {{
      {telemetry::Direction::inbound, &config.inbound.listen},
      {telemetry::Direction::outbound, &config.outbound.listen},
  }};
  for (const auto& [direction, listen] : listeners) {
    if (!listen->is_set()) continue;
    const char* what = direction == telemetry::Direction::inbound ? "inbound" : "outbound";
    const bool transparent = config.interception == config::Interception::tproxy &&
                             direction == telemetry::Direction::inbound;
    auto sets = open_listener(*listen, what, config.workers, listening_, transparent);
    if (!sets) return std::unexpected(sets.error());
    for (std::size_t index = 0; index < workers_.size(); ++index) {
      for (net::BoundSocket& socket : (*sets)[index]) {
        const std::string address = socket.address().text();
        own_.push_back(socket.address());
        if (!workers_[index]->listen(direction, std::move(socket))) {
          return std::unexpected(StartError{"can't listen on " + address, {}});
        }
      }
    }
  }
  return {};
}

std::expected<void, StartError> Server::State::start_stats(const config::ListenAddress& listen,
                                                           StatsListener::Pages pages,
                                                           std::string_view what) {
  auto sets = open_listener(listen, what, 1, listening_);
  if (!sets) return std::unexpected(sets.error());
  stats_.push_back(std::make_unique<StatsListener>(
      loop_, collector_, pages, [this] { return phase_ == Phase::serving; }, &agent_));
  for (net::BoundSocket& socket : sets->front()) {
    const std::string address = socket.address().text();
    own_.push_back(socket.address());
    if (!stats_.back()->listen(std::move(socket))) {
      return std::unexpected(StartError{"can't listen on " + address, {}});
    }
  }
  return {};
}

void Server::State::handle_signals() {
  const auto on = [this](int number, std::function<void()> what) {
    signals_.push_back(std::make_unique<net::Signal>(loop_, number, std::move(what)));
  };
  on(SIGTERM, [this] { terminate(); });
  on(SIGINT, [this] { terminate(); });
  on(SIGHUP, [this] { reload(telemetry::Reload::configuration); });
}

int Server::State::run() {
  loop_.run();
  stop_workers();
  return 0;
}

// --- reload -------------------------------------------------------------------------------

void Server::State::watch_files(const config::Config& config) {
  std::vector<std::string> files;
  for (const std::string* path : {&config.mtls.cert, &config.mtls.key, &config.mtls.ca}) {
    if (!path->empty()) files.push_back(*path);
  }
  // Watching the same files anew would miss a change since they were read.
  if (files == watched_) return;
  watched_ = files;
  watch_.watch(std::move(files));
}

// What the configuration is to be: read anew, but for changed certificate files the one in force,
// as what an operator has begun to edit waits for SIGHUP.
std::expected<config::Config, std::string> Server::State::wanted(telemetry::Reload what) const {
  if (what == telemetry::Reload::certificates) return snapshot_->config;
  config::Loaded loaded = config::load(load_);
  if (!loaded.ok()) return std::unexpected(config::render(loaded.diagnostics));
  const auto fixed = config::not_reloadable(snapshot_->config, loaded.config, loaded.origins);
  if (!fixed.empty()) return std::unexpected(config::render(fixed));
  return std::move(loaded.config);
}

void Server::State::reject(telemetry::Reload what, std::string problems) {
  collector_.count_reload(what, telemetry::ReloadResult::rejected);
  while (problems.ends_with('\n')) problems.pop_back();
  log_.error("{} not taken, the present state stays in force: {}", subject(what), problems);
}

// All or nothing: whatever is wrong keeps the present state, with a line for each problem.
void Server::State::reload(telemetry::Reload what) {
  // Before the first snapshot is made, too: files may change meanwhile.
  if (snapshot_ == nullptr || names_.waiting()) {
    reload_due_[static_cast<std::size_t>(what)] = true;
    return;
  }
  auto config = wanted(what);
  if (!config) {
    reject(what, config.error());
    return;
  }
  auto contexts = make_contexts(*config, tickets_);
  if (!contexts) {
    reject(what, contexts.error());
    return;
  }
  const auto names = names_in(*config);
  const auto servers = config->dns.servers;
  names_.follow(
      names, servers, [this, what, config = std::move(*config), contexts = std::move(*contexts)] {
        take(what, config, contexts);
        for (const auto due : {telemetry::Reload::configuration, telemetry::Reload::certificates}) {
          if (std::exchange(reload_due_[static_cast<std::size_t>(due)], false)) reload(due);
        }
      });
}

void Server::State::take(telemetry::Reload what, const config::Config& config,
                         const Contexts& contexts) {
  set_snapshot(config, contexts, snapshot_->generation + 1);
  agent_.configure(snapshot_->config);
  const config::Log& log = snapshot_->config.log;
  access_log_.set_mode(static_cast<telemetry::AccessMode>(log.access));
  access_log_.set_format(static_cast<telemetry::LineFormat>(log.format));
  log_.set_level(static_cast<telemetry::LogLevel>(log.level));
  watch_files(snapshot_->config);
  collector_.count_reload(what, telemetry::ReloadResult::accepted);
  log_.info("{} taken (generation {})", subject(what), snapshot_->generation);
}

void Server::State::set_snapshot(const config::Config& config, const Contexts& contexts,
                                 std::uint64_t generation) {
  snapshot_ = make_snapshot(
      config, contexts, generation,
      [this](const std::string& name) { return names_.addresses(name); }, collector_.registry(),
      snapshot_.get());
  for (const auto& worker : workers_) worker->set_snapshot(snapshot_);
  collector_.set_dns_endpoints(endpoints_of_names(*snapshot_));
  note_expiry();
}

// Before the start, and while a reload waits for names, what comes next takes them in.
void Server::State::addresses_changed() {
  if (snapshot_ == nullptr || names_.waiting()) return;
  set_snapshot(snapshot_->config, *snapshot_, snapshot_->generation);
}

void Server::State::note_expiry() {
  const auto* context = snapshot_->client.get();
  collector_.set_certificate_expiry(
      context == nullptr ? 0 : context->not_after().time_since_epoch().count());
}

// --- leaving ------------------------------------------------------------------------------

void Server::State::terminate() {
  const std::uint64_t now = loop_.now_ms();
  if (!signalled_ms_) {
    signalled_ms_ = now;
    leave("asked by a signal");
  } else if (now - *signalled_ms_ >= kOneSignalMs) {
    end_now("asked a second time");
  }
}

// Kubernetes' preStop hook asks first, by /drain, and its signal is then no second word.
void Server::State::leave(std::string_view why) {
  if (phase_ != Phase::serving) return;
  phase_ = Phase::leaving;
  const auto delay = snapshot_->config.timeouts.drain_delay;
  log_.info("leaving ({}): not ready any more; draining in {} ms, for {} ms at most", why,
            delay.count(), snapshot_->config.timeouts.drain.count());
  if (delay.count() == 0) {
    begin_drain();
  } else {
    drain_timer_.start(delay);
  }
}

void Server::State::begin_drain() {
  phase_ = Phase::draining;
  drain_timer_.start(snapshot_->config.timeouts.drain);
  for (const auto& worker : workers_) worker->begin_drain();
  if (workers_.empty()) loop_.stop();
}

void Server::State::drain_timer_fired() {
  if (phase_ == Phase::leaving) {
    begin_drain();
  } else {
    end_now("timeouts.drain is over");
  }
}

void Server::State::end_now(std::string_view why) {
  if (phase_ == Phase::ended) return;
  phase_ = Phase::ended;
  log_.warning("ending the remaining connections: {}", why);
  for (const auto& worker : workers_) worker->abort_all();
}

void Server::State::worker_drained() {
  if (++drained_ < workers_.size()) return;
  if (phase_ == Phase::draining) log_.info("drained");
  loop_.stop();
}

void Server::State::stop_workers() {
  for (const auto& worker : workers_) {
    worker->abort_all();
    worker->join();
  }
  workers_.clear();
  for (telemetry::Shard* shard : shards_) collector_.retire(*shard);
  shards_.clear();
}

// --- the public face ----------------------------------------------------------------------

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}
Server::~Server() = default;

std::expected<std::unique_ptr<Server>, StartError> Server::start(config::LoadRequest load,
                                                                 const config::Loaded& loaded,
                                                                 telemetry::Log& log) {
  auto state = std::make_unique<State>(std::move(load), loaded.config, log);
  if (auto started = state->start(loaded.config); !started) {
    return std::unexpected(started.error());
  }
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

const std::vector<Listening>& Server::listening() const noexcept {
  return state_->listening();
}

int Server::run() {
  return state_->run();
}

}  // namespace proxy::server
