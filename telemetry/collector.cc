// Implementation of Collector: draining shards, totals, expiry. The text is exposition.cc's.
#include "telemetry/collector.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <utility>

#include "telemetry/exposition.h"
#include "telemetry/process_stats.h"

namespace telemetry {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::size_t kReloadCells = 4;  // what x result

constexpr std::array<const char*, 7> kDnsOutcomes{
    "resolved", "not_found", "no_data", "server_failure", "timeout", "malformed", "failed"};
static_assert(kDnsOutcomes.size() == static_cast<std::size_t>(DnsOutcome::failed) + 1);

MetricFamily family_of(const Metric& metric, MetricType type) {
  MetricFamily family;
  family.name = metric.name;
  family.help = metric.help;
  family.type = type;
  return family;
}

void append_value(MetricFamily& family, double value, const LabelPairs& labels = {}) {
  ClientMetric metric;
  for (const auto& [name, text] : labels) metric.label.push_back({name, text});
  if (family.type == MetricType::Gauge) {
    metric.gauge.value = value;
  } else {
    metric.counter.value = value;
  }
  family.metric.push_back(std::move(metric));
}

}  // namespace

struct Collector::State {
  struct Worker {
    std::unique_ptr<Shard> shard;
    std::uint64_t in_flight = 0;  // as of the last update that was drained
  };
  struct DnsName {
    std::size_t addresses = 0;
    std::chrono::system_clock::time_point answered;
  };
  struct Totals {
    SeriesNumbers numbers{};
    Clock::time_point changed{};
  };

  explicit State(Options given)
      : options(std::move(given)),
        registry(options.label_sets, options.own),
        totals(registry.slots()) {}

  void drain(Clock::time_point now);
  void drain(Worker& worker, Clock::time_point now);
  void expire(Clock::time_point now);
  template <class Function>
  void for_series_of(std::uint32_t slot, Function function);
  std::unique_ptr<Snapshot> snapshot(Clock::time_point now);

  void append_ledger(std::vector<MetricFamily>& out) const;
  void append_counters(std::vector<MetricFamily>& out) const;
  void append_gauges(std::vector<MetricFamily>& out) const;
  void append_histograms(std::vector<MetricFamily>& out) const;
  void append_dns(std::vector<MetricFamily>& out) const;
  void append_process(Snapshot& result) const;

  template <class Read>
  std::uint64_t sum(std::uint64_t retired, Read read) const {
    for (const Worker& worker : workers) retired += read(*worker.shard);
    return retired;
  }

  const Options options;
  Registry registry;
  std::mutex mutex;  // everything below
  std::vector<Worker> workers;
  std::vector<std::unique_ptr<Totals>> totals;  // by slot; null: nothing was counted
  std::uint64_t started = 0;
  std::uint64_t completed = 0;
  std::uint64_t expired = 0;
  // What retired shards had counted.
  std::array<std::uint64_t, kCounterCells> old_counters{};
  std::array<std::uint64_t, kGaugeCells> old_gauges{};
  std::array<std::array<std::uint64_t, Shard::kHistogramCells>, kHistogramCount> old_histograms{};
  std::uint64_t old_in_flight = 0;
  std::map<std::string, DnsName> dns_names;
  std::map<std::string, std::size_t> dns_endpoints;
  // Not under the mutex:
  std::array<std::atomic<std::uint64_t>, kDnsOutcomes.size()> dns_lookups{};
  std::array<std::atomic<std::uint64_t>, kReloadCells> reloads{};
  std::atomic<std::uint64_t> stats_refused = 0;
  std::atomic<std::int64_t> certificate_expiry = 0;
};

// --- draining -----------------------------------------------------------------------------------

void Collector::State::drain(Worker& worker, Clock::time_point now) {
  Shard& shard = *worker.shard;
  const std::size_t bank = shard.flip();
  LedgerBank& ledger = shard.ledger(bank);
  if (ledger.touched.get() == 0) return;
  started += ledger.started.get();
  completed += ledger.completed.get();
  worker.in_flight = ledger.in_flight.get();
  for (Cell* cell : {&ledger.started, &ledger.completed, &ledger.touched}) cell->set(0);

  const std::size_t count = shard.series_count();
  for (std::size_t i = 0; i < count; ++i) {
    Series& series = shard.series(i);
    auto& cells = series.banks[bank].cells;
    if (cells[kRequestsCell].get() == 0) continue;
    auto& sums = totals[series.slot.load(std::memory_order_relaxed)];
    if (!sums) sums = std::make_unique<Totals>();
    sums->changed = now;
    for (std::size_t c = 0; c < kSeriesCells; ++c) {
      sums->numbers[c] += cells[c].get();
      cells[c].set(0);
    }
  }
}

void Collector::State::drain(Clock::time_point now) {
  for (Worker& worker : workers) drain(worker, now);
}

template <class Function>
void Collector::State::for_series_of(std::uint32_t slot, Function function) {
  for (Worker& worker : workers) {
    const std::size_t count = worker.shard->series_count();
    for (std::size_t i = 0; i < count; ++i) {
      Series& series = worker.shard->series(i);
      if (series.slot.load(std::memory_order_relaxed) == slot) function(series);
    }
  }
}

// Idle label sets leave in two steps. First they are marked; after the next flip every worker has
// seen the mark, so that nothing more can be counted in them. Then they go, unless something was
// counted or asked for between. What they held moves to `expired`, so the ledger still balances.
void Collector::State::expire(Clock::time_point now) {
  std::vector<std::uint32_t> idle;
  for (std::size_t slot = 0; slot < totals.size(); ++slot) {
    if (totals[slot] && now - totals[slot]->changed >= options.idle_expiry) {
      idle.push_back(static_cast<std::uint32_t>(slot));
    }
  }
  if (idle.empty()) return;
  for (const std::uint32_t slot : idle) {
    registry.begin_release(slot, [this, slot] {
      for_series_of(slot, [](Series& series) {
        if (series.state.load(std::memory_order_relaxed) == Series::State::live) {
          series.state.store(Series::State::retiring, std::memory_order_release);
        }
      });
    });
  }
  drain(now);
  for (const std::uint32_t slot : idle) {
    if (totals[slot]->changed == now) continue;  // it was counted in: revived by its next use
    const bool counts_requests = registry.names(slot).key.kind == SeriesKind::requests;
    registry.finish_release(slot, [this, slot, counts_requests] {
      for_series_of(slot, [](Series& series) {
        series.state.store(Series::State::unused, std::memory_order_release);
      });
      if (counts_requests) expired += totals[slot]->numbers[kRequestsCell];
      totals[slot].reset();
    });
  }
}

// --- families -----------------------------------------------------------------------------------

void Collector::State::append_ledger(std::vector<MetricFamily>& out) const {
  std::uint64_t in_flight = old_in_flight;
  for (const Worker& worker : workers) in_flight += worker.in_flight;
  const auto add = [&out](ProcessMetric id, MetricType type, std::uint64_t value) {
    out.push_back(family_of(metric(id), type));
    append_value(out.back(), static_cast<double>(value));
  };
  add(ProcessMetric::requests_started, MetricType::Counter, started);
  add(ProcessMetric::requests_completed, MetricType::Counter, completed);
  add(ProcessMetric::requests_in_flight, MetricType::Gauge, in_flight);
  add(ProcessMetric::requests_expired, MetricType::Counter, expired);
}

void Collector::State::append_counters(std::vector<MetricFamily>& out) const {
  const std::vector<std::string> rules = registry.rule_names();
  for (std::size_t id = 0; id < kCounterWidths.size(); ++id) {
    const Metric& about = metric(static_cast<Counter>(id));
    out.push_back(family_of(about, MetricType::Counter));
    const std::size_t width = about.space == LabelSpace::rule        ? rules.size()
                              : about.space == LabelSpace::rule_mode ? rules.size() * 2
                                                                     : kCounterWidths[id];
    for (std::size_t i = 0; i < width; ++i) {
      const std::size_t cell = kCounterOffsets[id] + i;
      const std::uint64_t value =
          sum(old_counters[cell], [cell](const Shard& shard) { return shard.counter(cell); });
      const LabelPairs labels =
          about.space == LabelSpace::rule ? LabelPairs{{"rule", rules[i]}}
          : about.space == LabelSpace::rule_mode
              ? LabelPairs{{"rule", rules[i / 2]}, {"mode", i % 2 == 0 ? "enforced" : "audit"}}
              : cell_labels(about.space, i);
      append_value(out.back(), static_cast<double>(value), labels);
    }
    if (width == 0) out.pop_back();
  }
}

void Collector::State::append_gauges(std::vector<MetricFamily>& out) const {
  for (std::size_t id = 0; id < kGaugeWidths.size(); ++id) {
    const Metric& about = metric(static_cast<Gauge>(id));
    out.push_back(family_of(about, MetricType::Gauge));
    for (std::size_t i = 0; i < kGaugeWidths[id]; ++i) {
      const std::size_t cell = kGaugeOffsets[id] + i;
      const std::uint64_t value =
          sum(old_gauges[cell], [cell](const Shard& shard) { return shard.gauge(cell); });
      append_value(out.back(), static_cast<double>(static_cast<std::int64_t>(value)),
                   cell_labels(about.space, i));
    }
  }
}

void Collector::State::append_histograms(std::vector<MetricFamily>& out) const {
  for (std::size_t id = 0; id < kHistogramCount; ++id) {
    const auto read = [this, id](std::size_t cell) {
      return sum(old_histograms[id][cell],
                 [id, cell](const Shard& shard) { return shard.histogram(id, cell); });
    };
    ClientMetric value;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i <= kOwnBoundsUs.size(); ++i) {
      count += read(i);
      const double bound = i < kOwnBoundsUs.size() ? static_cast<double>(kOwnBoundsUs[i]) / 1e6
                                                   : std::numeric_limits<double>::infinity();
      value.histogram.bucket.push_back({.cumulative_count = count, .upper_bound = bound});
    }
    value.histogram.sample_count = count;
    value.histogram.sample_sum = static_cast<double>(read(Shard::kHistogramCells - 1)) / 1e6;
    out.push_back(family_of(metric(static_cast<Histogram>(id)), MetricType::Histogram));
    out.back().metric.push_back(std::move(value));
  }
}

void Collector::State::append_dns(std::vector<MetricFamily>& out) const {
  out.push_back(family_of(metric(ProcessMetric::dns_lookups), MetricType::Counter));
  for (std::size_t i = 0; i < dns_lookups.size(); ++i) {
    append_value(out.back(), static_cast<double>(dns_lookups[i].load(std::memory_order_relaxed)),
                 {{"outcome", kDnsOutcomes[i]}});
  }
  MetricFamily addresses = family_of(metric(ProcessMetric::dns_addresses), MetricType::Gauge);
  MetricFamily answers = family_of(metric(ProcessMetric::dns_last_answer), MetricType::Gauge);
  for (const auto& [name, known] : dns_names) {
    append_value(addresses, static_cast<double>(known.addresses), {{"host", name}});
    const std::chrono::duration<double> answered = known.answered.time_since_epoch();
    if (answered.count() != 0) append_value(answers, answered.count(), {{"host", name}});
  }
  MetricFamily endpoints = family_of(metric(ProcessMetric::dns_endpoints), MetricType::Gauge);
  for (const auto& [service, count] : dns_endpoints) {
    append_value(endpoints, static_cast<double>(count), {{"service", service}});
  }
  for (MetricFamily* family : {&addresses, &answers, &endpoints}) {
    if (!family->metric.empty()) out.push_back(std::move(*family));
  }
}

void Collector::State::append_process(Snapshot& result) const {
  std::vector<MetricFamily>& out = result.own;
  const auto add = [&out](ProcessMetric id, MetricType type, double value,
                          const LabelPairs& labels = {}) {
    out.push_back(family_of(metric(id), type));
    append_value(out.back(), value, labels);
  };
  add(ProcessMetric::stats_refused, MetricType::Counter,
      static_cast<double>(stats_refused.load(std::memory_order_relaxed)));
  out.push_back(family_of(metric(ProcessMetric::reloads), MetricType::Counter));
  for (std::size_t i = 0; i < kReloadCells; ++i) {
    append_value(out.back(), static_cast<double>(reloads[i].load(std::memory_order_relaxed)),
                 {{"what", i / 2 == 0 ? "configuration" : "certificates"},
                  {"result", i % 2 == 0 ? "accepted" : "rejected"}});
  }
  if (const std::int64_t expiry = certificate_expiry.load(std::memory_order_relaxed); expiry != 0) {
    add(ProcessMetric::certificate_expiry, MetricType::Gauge, static_cast<double>(expiry));
  }
  add(ProcessMetric::label_sets, MetricType::Gauge,
      static_cast<double>(result.rows.size() + result.message_rows.size() +
                          result.tcp_rows.size()));
  add(ProcessMetric::label_sets_limit, MetricType::Gauge, static_cast<double>(options.label_sets));
  add(ProcessMetric::workers, MetricType::Gauge, static_cast<double>(workers.size()));
  add(ProcessMetric::build_info, MetricType::Gauge, 1, {{"version", options.version}});
  add(ProcessMetric::istio_build, MetricType::Gauge, 1,
      {{"component", "proxy"}, {"tag", options.istio_version}});
  if (const auto stats = read_process_stats()) {
    add(ProcessMetric::process_cpu, MetricType::Counter, stats->cpu_seconds);
    add(ProcessMetric::process_start_time, MetricType::Gauge, stats->start_unix_seconds);
    const auto add_count = [&add](ProcessMetric id, std::uint64_t value) {
      add(id, MetricType::Gauge, static_cast<double>(value));
    };
    add_count(ProcessMetric::process_resident, stats->resident_bytes);
    add_count(ProcessMetric::process_virtual, stats->virtual_bytes);
    add_count(ProcessMetric::process_open_fds, stats->open_fds);
    add_count(ProcessMetric::process_max_fds, stats->max_fds);
  }
  std::size_t lines = result.rows.size() * kSamplesPerRow +
                      result.message_rows.size() * kSamplesPerMessageRow +
                      result.tcp_rows.size() * kSamplesPerTcpRow + 1;  // and this one
  for (const MetricFamily& family : out) lines += sample_lines(family);
  add(ProcessMetric::series, MetricType::Gauge, static_cast<double>(lines));
}

std::unique_ptr<Snapshot> Collector::State::snapshot(Clock::time_point now) {
  const std::scoped_lock lock(mutex);
  drain(now);
  if (options.idle_expiry.count() > 0) expire(now);
  auto result = std::make_unique<Snapshot>();
  result->rows.reserve(static_cast<std::size_t>(std::count_if(
      totals.begin(), totals.end(), [](const auto& sums) { return sums != nullptr; })));
  for (std::size_t slot = 0; slot < totals.size(); ++slot) {
    if (!totals[slot]) continue;
    Registry::Names names = registry.names(static_cast<std::uint32_t>(slot));
    auto& rows = result->rows_of(names.key.kind);
    rows.push_back({.names = std::move(names), .numbers = totals[slot]->numbers});
  }
  append_ledger(result->own);
  append_counters(result->own);
  append_gauges(result->own);
  append_histograms(result->own);
  append_dns(result->own);
  append_process(*result);
  return result;
}

// --- Collector ----------------------------------------------------------------------------------

Collector::Collector(Options options) : state_(std::make_unique<State>(std::move(options))) {}
Collector::~Collector() = default;

Registry& Collector::registry() noexcept {
  return state_->registry;
}

Shard& Collector::add_shard() {
  const std::scoped_lock lock(state_->mutex);
  state_->workers.push_back({.shard = std::make_unique<Shard>(state_->registry)});
  return *state_->workers.back().shard;
}

void Collector::retire(Shard& shard) {
  State& state = *state_;
  const std::scoped_lock lock(state.mutex);
  const auto worker = std::find_if(state.workers.begin(), state.workers.end(),
                                   [&](const auto& each) { return each.shard.get() == &shard; });
  if (worker == state.workers.end()) return;
  state.drain(*worker, Clock::now());
  state.old_in_flight += worker->in_flight;
  for (std::size_t i = 0; i < kCounterCells; ++i) state.old_counters[i] += shard.counter(i);
  for (std::size_t i = 0; i < kGaugeCells; ++i) state.old_gauges[i] += shard.gauge(i);
  for (std::size_t id = 0; id < kHistogramCount; ++id) {
    for (std::size_t i = 0; i < Shard::kHistogramCells; ++i) {
      state.old_histograms[id][i] += shard.histogram(id, i);
    }
  }
  state.workers.erase(worker);
}

void Collector::count_reload(Reload what, ReloadResult result) noexcept {
  const std::size_t cell = static_cast<std::size_t>(what) * 2 + static_cast<std::size_t>(result);
  state_->reloads[cell].fetch_add(1, std::memory_order_relaxed);
}

void Collector::count_stats_refused() noexcept {
  state_->stats_refused.fetch_add(1, std::memory_order_relaxed);
}

void Collector::count_dns_lookup(DnsOutcome outcome) noexcept {
  state_->dns_lookups[static_cast<std::size_t>(outcome)].fetch_add(1, std::memory_order_relaxed);
}

void Collector::set_dns_name(const std::string& name, std::size_t addresses,
                             std::chrono::system_clock::time_point answered) {
  const std::scoped_lock lock(state_->mutex);
  state_->dns_names[name] = {addresses, answered};
}

void Collector::forget_dns_name(const std::string& name) {
  const std::scoped_lock lock(state_->mutex);
  state_->dns_names.erase(name);
}

void Collector::set_dns_endpoints(std::map<std::string, std::size_t> endpoints) {
  const std::scoped_lock lock(state_->mutex);
  state_->dns_endpoints = std::move(endpoints);
}

void Collector::set_certificate_expiry(std::int64_t unix_seconds) noexcept {
  state_->certificate_expiry.store(unix_seconds, std::memory_order_relaxed);
}

Scrape Collector::scrape(Clock::time_point now) {
  return Scrape(state_->snapshot(now));
}

std::vector<MetricFamily> Collector::Collect() const {
  const std::unique_ptr<Snapshot> snapshot = state_->snapshot(Clock::now());
  std::vector<MetricFamily> families;
  for (std::size_t id = 0; id < kIstioFamilies; ++id) {
    const std::vector<Snapshot::Row>& rows = snapshot->rows_of(id);
    if (rows.empty()) continue;
    families.push_back(istio_family(id));
    for (const Snapshot::Row& row : rows) {
      families.back().metric.push_back(istio_value(id, row));
    }
  }
  std::move(snapshot->own.begin(), snapshot->own.end(), std::back_inserter(families));
  return families;
}

}  // namespace telemetry
