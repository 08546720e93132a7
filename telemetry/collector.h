// Sums the shards at a scrape and gives the exposition. Not the HTTP listener that serves it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include "telemetry/facts.h"
#include "telemetry/registry.h"
#include "telemetry/shard.h"

namespace telemetry {

struct Snapshot;

// One scrape: numbers of one moment, turned into text piece by piece. Independent of the collector
// and of other scrapes once made.
//
// Peak memory: the numbers (about 600 bytes a label set, so 0.7 MB at the default cap) and one
// piece of text. A piece is at most kPieceBytes and one label set more; a label set is 67 lines of
// about 900 bytes with usual names. The whole text (60 MB at the default cap) never exists.
class Scrape {
 public:
  static constexpr std::size_t kPieceBytes = 64 * 1024;

  explicit Scrape(std::unique_ptr<const Snapshot> snapshot);
  Scrape(Scrape&&) noexcept;
  Scrape& operator=(Scrape&&) noexcept;
  ~Scrape();

  // Appends the next piece of the text format 0.0.4 to `out`. False: nothing was left to append.
  bool next(std::string& out);
  // Without the metrics of our own process (process_*), where another's stand beside ours.
  void leave_out_process() noexcept { with_process_ = false; }

 private:
  std::unique_ptr<const Snapshot> snapshot_;
  std::size_t family_ = 0;
  std::size_t row_ = 0;
  bool with_process_ = true;
};

// Thread-safe. Scrapes block each other shortly and never a worker.
class Collector final : public prometheus::Collectable {
 public:
  struct Options {
    std::size_t label_sets = 1000;
    std::chrono::microseconds idle_expiry{0};  // 0: label sets stay for ever
    WorkloadLabels own{};
    std::string version{};                  // of hoplite_build_info
    std::string istio_version = "unknown";  // tag of istio_build
  };
  explicit Collector(Options options);
  ~Collector() override;

  Registry& registry() noexcept;

  // A shard for a new worker; it lives until retire() and is used by one thread at a time.
  Shard& add_shard();
  // Folds the shard in and frees it. The worker's thread must have ended.
  void retire(Shard& shard);

  void count_reload(Reload what, ReloadResult result) noexcept;
  void count_dns_lookup(DnsOutcome outcome) noexcept;
  // What an endpoint's name is known to be: how many addresses, and when that was last answered
  // (the epoch: never).
  void set_dns_name(const std::string& name, std::size_t addresses,
                    std::chrono::system_clock::time_point answered);
  void forget_dns_name(const std::string& name);
  // By service, how many endpoints; in the place of what was set before.
  void set_dns_endpoints(std::map<std::string, std::size_t> endpoints);
  // A connection to a stats listener was turned away.
  void count_stats_refused() noexcept;
  // End of the workload certificate in use, Unix seconds; 0: there is none, nothing is shown.
  void set_certificate_expiry(std::int64_t unix_seconds) noexcept;

  using Clock = std::chrono::steady_clock;
  Scrape scrape(Clock::time_point now = Clock::now());
  // Everything at once, for users of prometheus-cpp; needs memory for all labels.
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace telemetry
