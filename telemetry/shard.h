// The metrics of one worker: cells that only its thread writes. Not their merging (collector.h).
//
// Threads: everything public belongs to the worker's thread, but for reader functions, which
// belong to the collector. One request costs two exchanges on the version and plain adds; no lock,
// no lookup, no allocation once its label set exists.
//
// How a scrape is exact: label sets and the ledger have two banks. The worker writes the active
// one, and marks by an odd version that it is inside an update. The reader makes the other bank
// active and waits for the update under way, if any; from then on nobody writes the first bank,
// which it adds to its totals and clears. So totals always end between two updates. The worker
// never waits for the reader. Both sides store first and load the other's word afterwards, all
// four sequentially consistent, so that one of them sees the other.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "telemetry/catalog.h"
#include "telemetry/facts.h"
#include "telemetry/registry.h"
#include "telemetry/series.h"

namespace telemetry {

// Remembers the series of the caller's last request, so that the next one of the same label set
// looks nothing up. One for each connection or route, or one for the worker; all are right. Must
// not outlive the shard.
struct SeriesCache {
  Series* series = nullptr;
};

class Shard {
 public:
  explicit Shard(Registry& registry);
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  // --- labels: at most once for each connection, route or new metadata -----------------------
  PartyRef intern_peer(const PeerLabels& labels);
  DestinationRef intern_destination(const DestinationLabels& labels);
  // A destination named by a client and matched by no service: `host` is the service if it is one
  // of the first hundred of the process, else "_other" is.
  DestinationRef intern_unmatched_host(std::string_view host, std::string_view service_name,
                                       std::string_view service_namespace);
  // False when the labels were dropped since (only refs without a label set are, and only when the
  // table is full): intern again. Cheap.
  bool alive(PartyRef ref) const noexcept { return registry_.alive(ref); }
  bool alive(DestinationRef ref) const noexcept { return registry_.alive(ref); }
  // Labels of our own side from now on.
  void set_own(OwnRef own) noexcept { own_ = own.id; }

  // --- the ledger ----------------------------------------------------------------------------
  // `in_flight` is the length of the list of live exchanges after the event, never computed.
  void request_started(std::uint64_t in_flight) noexcept;
  void request_completed(const RequestFacts& facts, std::uint64_t in_flight,
                         SeriesCache& cache) noexcept;
  void messages_counted(const MessageFacts& facts, std::uint64_t in_flight,
                        SeriesCache& cache) noexcept;
  void tcp_counted(const TcpFacts& facts, SeriesCache& cache) noexcept;

  // --- own metrics: add(Counter::retries), add(Counter::limits_hit, 1, Limit::connections) ---
  template <class... Labels>
  void add(std::type_identity_t<CounterCell<Labels...>> counter, std::uint64_t n,
           Labels... labels) noexcept {
    counters_[counter.first + cell_of(labels...)].add(n);
  }
  void add(CounterCell<> counter) noexcept { counters_[counter.first].add(1); }
  template <class... Labels>
  void gauge_add(std::type_identity_t<GaugeCell<Labels...>> gauge, std::int64_t change,
                 Labels... labels) noexcept {
    gauges_[gauge.first + cell_of(labels...)].add(static_cast<std::uint64_t>(change));
  }
  void observe(Histogram histogram, std::uint64_t microseconds) noexcept;
  void add_allowed(RuleRef rule) noexcept;
  void add_denied(RuleRef rule, DenyMode mode) noexcept;

  // --- for the collector ---------------------------------------------------------------------
  // Makes the other bank active; afterwards the bank returned is still. It may spin, then yield.
  std::size_t flip() noexcept;
  LedgerBank& ledger(std::size_t bank) noexcept { return ledger_[bank]; }
  std::size_t series_count() const noexcept { return count_.load(std::memory_order_acquire); }
  Series& series(std::size_t index) noexcept { return blocks_[index / kBlock][index % kBlock]; }
  std::uint64_t counter(std::size_t cell) const noexcept { return counters_[cell].get(); }
  std::uint64_t gauge(std::size_t cell) const noexcept { return gauges_[cell].get(); }
  // Cells of an own histogram: one bucket more than kOwnBoundsUs, then the sum in microseconds.
  static constexpr std::size_t kHistogramCells = kOwnBoundsUs.size() + 2;
  std::uint64_t histogram(std::size_t id, std::size_t cell) const noexcept {
    return histograms_[id][cell].get();
  }

 private:
  static constexpr std::size_t kBlock = 32;
  static constexpr std::size_t kMaxUnmatched = 512;

  // A key that got an overflow key when `releases` slots had been released.
  struct Overflowed {
    SeriesKey asked;
    SeriesKey got;
    std::uint64_t releases = ~std::uint64_t{0};
  };

  std::size_t enter() noexcept;
  void leave() noexcept;
  // Enters with a live series of this key in hand; `bank` is the one to write.
  Series& enter_with(const SeriesKey& key, SeriesCache& cache, std::size_t& bank) noexcept;
  Series& find(const SeriesKey& key, SeriesCache& cache);
  Series* lookup(const SeriesKey& key) noexcept;
  Series* live(const SeriesKey& key) noexcept;
  Series& place(const SeriesKey& key);
  void rebuild_table() noexcept;
  void insert(std::size_t index) noexcept;

  Registry& registry_;
  std::uint8_t own_ = 0;
  std::uint64_t live_requests_ = 0;  // as told last

  alignas(64) std::atomic<std::uint64_t> version_ = 0;
  alignas(64) std::atomic<std::size_t> active_ = 0;
  std::array<LedgerBank, 2> ledger_;
  std::array<Cell, kCounterCells> counters_;
  std::array<Cell, kGaugeCells> gauges_;
  std::array<std::array<Cell, kHistogramCells>, kHistogramCount> histograms_;

  std::vector<std::unique_ptr<Series[]>> blocks_;  // full length from the start
  std::atomic<std::size_t> count_ = 0;
  std::vector<std::uint32_t> table_;  // open addressing; index + 1, 0 = empty
  std::array<Overflowed, 64> overflowed_;
  std::unordered_map<std::string, DestinationRef> unmatched_;  // at most kMaxUnmatched
  std::string scratch_;
};

}  // namespace telemetry
