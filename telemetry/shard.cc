// Implementation of shard.h: the update protocol and the table of series.
#include "telemetry/shard.h"

#include <algorithm>
#include <bit>
#include <thread>

#include "telemetry/utf8.h"

namespace telemetry {

Shard::Shard(Registry& registry)
    : registry_(registry),
      blocks_((registry.slots() + kBlock - 1) / kBlock),
      table_(std::bit_ceil(registry.slots() * 2)) {}

// --- labels -------------------------------------------------------------------------------------

PartyRef Shard::intern_peer(const PeerLabels& labels) {
  std::uint64_t replaced = 0;
  const PartyRef ref = registry_.intern_party(labels, replaced);
  if (replaced > 0) add(Counter::label_values_replaced, replaced);
  return ref;
}

DestinationRef Shard::intern_destination(const DestinationLabels& labels) {
  std::uint64_t replaced = 0;
  const DestinationRef ref = registry_.intern_destination(labels, replaced);
  if (replaced > 0) add(Counter::label_values_replaced, replaced);
  return ref;
}

DestinationRef Shard::intern_unmatched_host(std::string_view host, std::string_view service_name,
                                            std::string_view service_namespace) {
  scratch_.assign(host);
  scratch_.append(1, '\0').append(service_name).append(1, '\0').append(service_namespace);
  const auto known = unmatched_.find(scratch_);
  if (known != unmatched_.end() && alive(known->second)) return known->second;

  std::string service(host);
  const bool replaced = clean_label(service);
  if (host != HostBudget::kOther && !registry_.hosts().admit(service)) {
    add(Counter::hosts_folded);
    return intern_unmatched_host(HostBudget::kOther, service_name, service_namespace);
  }
  if (replaced) add(Counter::label_values_replaced);
  const DestinationRef ref =
      intern_destination({.service = std::move(service),
                          .service_name = std::string(service_name),
                          .service_namespace = std::string(service_namespace)});
  if (known != unmatched_.end()) {
    known->second = ref;
  } else if (unmatched_.size() < kMaxUnmatched) {
    unmatched_.emplace(scratch_, ref);
  }
  return ref;
}

// --- the update protocol ------------------------------------------------------------------------

std::size_t Shard::enter() noexcept {
  const std::uint64_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_seq_cst);
  return active_.load(std::memory_order_seq_cst);
}

void Shard::leave() noexcept {
  const std::uint64_t version = version_.load(std::memory_order_relaxed);
  version_.store(version + 1, std::memory_order_release);
}

std::size_t Shard::flip() noexcept {
  constexpr int kSpins = 1000;
  const std::size_t still = active_.load(std::memory_order_relaxed);
  active_.store(1 - still, std::memory_order_seq_cst);
  const std::uint64_t version = version_.load(std::memory_order_seq_cst);
  if (version % 2 == 0) return still;
  for (int spins = 0; version_.load(std::memory_order_acquire) == version; ++spins) {
    if (spins > kSpins) std::this_thread::yield();
  }
  return still;
}

void Shard::request_started(std::uint64_t in_flight) noexcept {
  LedgerBank& ledger = ledger_[enter()];
  ledger.started.add(1);
  ledger.in_flight.set(live_requests_ = in_flight);
  ledger.touched.set(1);
  leave();
}

void Shard::request_completed(const RequestFacts& facts, std::uint64_t in_flight,
                              SeriesCache& cache) noexcept {
  const SeriesKey key{.peer = facts.peer.id,
                      .destination = facts.destination.id,
                      .flags = facts.flags.bits(),
                      .response_code = facts.response_code,
                      .grpc_status = facts.grpc_status,
                      .reporter = facts.reporter,
                      .protocol = facts.protocol,
                      .policy = facts.policy,
                      .own = own_};
  std::size_t bank = 0;
  Series& series = enter_with(key, cache, bank);
  auto& cells = series.banks[bank].cells;
  cells[kRequestsCell].add(1);
  cells[kDurationCell + duration_bucket(facts.duration_us)].add(1);
  cells[kRequestBytesCell + size_bucket(facts.request_bytes)].add(1);
  cells[kResponseBytesCell + size_bucket(facts.response_bytes)].add(1);
  cells[kSumCell].add(facts.duration_us);
  cells[kSumCell + 1].add(facts.request_bytes);
  cells[kSumCell + 2].add(facts.response_bytes);
  LedgerBank& ledger = ledger_[bank];
  ledger.completed.add(1);
  ledger.in_flight.set(live_requests_ = in_flight);
  ledger.touched.set(1);
  leave();
  if (is_overflow(series.key)) add(Counter::requests_overflowed);
}

void Shard::messages_counted(const MessageFacts& facts, std::uint64_t in_flight,
                             SeriesCache& cache) noexcept {
  const SeriesKey key{.peer = facts.peer.id,
                      .destination = facts.destination.id,
                      .reporter = facts.reporter,
                      .own = own_,
                      .kind = SeriesKind::messages};
  std::size_t bank = 0;
  auto& cells = enter_with(key, cache, bank).banks[bank].cells;
  cells[kReportsCell].add(1);
  cells[kRequestMessagesCell].add(facts.request_messages);
  cells[kResponseMessagesCell].add(facts.response_messages);
  LedgerBank& ledger = ledger_[bank];
  ledger.in_flight.set(live_requests_ = in_flight);
  ledger.touched.set(1);
  leave();
}

void Shard::tcp_counted(const TcpFacts& facts, SeriesCache& cache) noexcept {
  const SeriesKey key{.peer = facts.peer.id,
                      .destination = facts.destination.id,
                      .flags = facts.flags.bits(),
                      .reporter = facts.reporter,
                      .protocol = Protocol::tcp,
                      .policy = facts.policy,
                      .own = own_,
                      .kind = SeriesKind::connections};
  std::size_t bank = 0;
  auto& cells = enter_with(key, cache, bank).banks[bank].cells;
  cells[kReportsCell].add(1);
  cells[kTcpCell].add(facts.opened ? 1 : 0);
  cells[kTcpCell + 1].add(facts.closed ? 1 : 0);
  cells[kTcpCell + 2].add(facts.sent_bytes);
  cells[kTcpCell + 3].add(facts.received_bytes);
  LedgerBank& ledger = ledger_[bank];
  ledger.in_flight.set(live_requests_);
  ledger.touched.set(1);
  leave();
}

Series& Shard::enter_with(const SeriesKey& key, SeriesCache& cache, std::size_t& bank) noexcept {
  Series* series = &find(key, cache);
  bank = enter();
  while (series->state.load(std::memory_order_relaxed) != Series::State::live) {
    leave();  // it is being expired: ask for it again, outside, because that may lock
    series = &find(key, cache);
    bank = enter();
  }
  return *series;
}

// --- the table of series ------------------------------------------------------------------------

Series* Shard::lookup(const SeriesKey& key) noexcept {
  const std::size_t mask = table_.size() - 1;
  for (std::size_t i = hash_of(key) & mask; table_[i] != 0; i = (i + 1) & mask) {
    Series& candidate = series(table_[i] - 1);
    if (candidate.key == key) return &candidate;
  }
  return nullptr;
}

Series* Shard::live(const SeriesKey& key) noexcept {
  Series* found = lookup(key);
  if (found == nullptr || found->state.load(std::memory_order_relaxed) != Series::State::live) {
    return nullptr;
  }
  return found;
}

Series& Shard::find(const SeriesKey& key, SeriesCache& cache) {
  Series* found = cache.series;
  if (found != nullptr && found->key == key &&
      found->state.load(std::memory_order_relaxed) == Series::State::live) {
    return *found;
  }
  found = live(key);
  Overflowed& remembered = overflowed_[hash_of(key) % overflowed_.size()];
  if (found == nullptr && remembered.asked == key && remembered.releases == registry_.releases()) {
    found = live(remembered.got);
  }
  if (found == nullptr) {
    SeriesKey got = key;
    const std::uint64_t releases = registry_.releases();
    registry_.acquire(got, [this, &found](const SeriesKey& granted, std::uint32_t slot) {
      found = &place(granted);
      found->slot.store(slot, std::memory_order_relaxed);
      found->state.store(Series::State::live, std::memory_order_release);
    });
    if (got != key) remembered = {.asked = key, .got = got, .releases = releases};
  }
  cache.series = found;
  return *found;
}

// The series of this key: the one it has, one that expired, or a new one. There is always room:
// series that are not unused have different slots, and the registry has slots() of them.
Series& Shard::place(const SeriesKey& key) {
  if (Series* known = lookup(key)) return *known;
  const std::size_t count = count_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < count; ++i) {
    if (series(i).state.load(std::memory_order_acquire) != Series::State::unused) continue;
    series(i).key = key;
    rebuild_table();
    return series(i);
  }
  auto& block = blocks_[count / kBlock];
  if (!block) block = std::make_unique<Series[]>(kBlock);
  series(count).key = key;
  insert(count);
  count_.store(count + 1, std::memory_order_release);
  return series(count);
}

void Shard::rebuild_table() noexcept {
  std::fill(table_.begin(), table_.end(), 0);
  for (std::size_t i = 0; i < count_.load(std::memory_order_relaxed); ++i) insert(i);
}

void Shard::insert(std::size_t index) noexcept {
  const std::size_t mask = table_.size() - 1;
  std::size_t i = hash_of(series(index).key) & mask;
  while (table_[i] != 0) i = (i + 1) & mask;
  table_[i] = static_cast<std::uint32_t>(index + 1);
}

// --- own metrics --------------------------------------------------------------------------------

void Shard::observe(Histogram histogram, std::uint64_t microseconds) noexcept {
  auto& cells = histograms_[static_cast<std::size_t>(histogram)];
  const auto* bound = std::lower_bound(kOwnBoundsUs.begin(), kOwnBoundsUs.end(), microseconds);
  cells[static_cast<std::size_t>(bound - kOwnBoundsUs.begin())].add(1);
  cells.back().add(microseconds);
}

void Shard::add_allowed(RuleRef rule) noexcept {
  counters_[kCounterOffsets[static_cast<std::size_t>(Counter::requests_allowed)] + rule.id].add(1);
}

void Shard::add_denied(RuleRef rule, DenyMode mode) noexcept {
  const std::size_t cell = rule.id * kLabelCount<DenyMode> + static_cast<std::size_t>(mode);
  counters_[kCounterOffsets[static_cast<std::size_t>(Counter::requests_denied)] + cell].add(1);
}

}  // namespace telemetry
