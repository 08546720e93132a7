// Implementation of registry.h.
#include "telemetry/registry.h"

#include <algorithm>

#include "telemetry/catalog.h"
#include "telemetry/utf8.h"

namespace telemetry {
namespace {

constexpr std::size_t kSpareNames = 256;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) noexcept {
  const std::uint64_t x = (a ^ b) * 0x9E3779B97F4A7C15U;
  return x ^ (x >> 29);
}

std::string cleaned(const std::string& value, std::uint64_t& replaced) {
  std::string copy = value;
  if (clean_label(copy)) ++replaced;
  return copy;
}

// Values joined so that no two lists give the same text.
template <class... Values>
std::string join(const Values&... values) {
  std::string joined;
  joined.reserve((values.size() + ...) + 4 * sizeof...(values));
  const auto append = [&joined](const std::string& value) {
    joined += static_cast<char>(value.size() & 0xFF);
    joined += static_cast<char>(value.size() >> 8);
    joined += value;
  };
  (append(values), ...);
  return joined;
}

}  // namespace

std::uint64_t hash_of(const SeriesKey& key) noexcept {
  const std::uint64_t small = std::uint64_t{key.flags} << 32 |
                              std::uint64_t{key.response_code} << 16 |
                              static_cast<std::uint16_t>(key.grpc_status);
  const std::uint64_t enums = static_cast<std::uint64_t>(key.kind) << 32 |
                              static_cast<std::uint64_t>(key.reporter) << 24 |
                              static_cast<std::uint64_t>(key.protocol) << 16 |
                              static_cast<std::uint64_t>(key.policy) << 8 | key.own;
  return mix(mix(mix(mix(0x51ED270B, key.peer), key.destination), small), enums);
}

SeriesKey overflow_key(const SeriesKey& key) noexcept {
  if (key.kind == SeriesKind::messages) return last_resort_key(key);
  SeriesKey overflow = key;
  overflow.peer = 0;
  overflow.destination = 0;
  overflow.own = 0;
  overflow.grpc_status = kOverflowGrpc;
  return overflow;
}

SeriesKey last_resort_key(const SeriesKey& key) noexcept {
  SeriesKey last;
  last.reporter = key.reporter;
  last.kind = key.kind;
  last.response_code = kOverflowCode;
  last.grpc_status = kOverflowGrpc;
  return last;
}

bool HostBudget::admit(const std::string& host) {
  if (full_.load(std::memory_order_acquire)) return hosts_.contains(host);
  const std::scoped_lock lock(mutex_);
  if (hosts_.contains(host)) return true;
  if (hosts_.size() == kMaxUnmatchedHosts) return false;
  hosts_.insert(host);
  if (hosts_.size() == kMaxUnmatchedHosts) full_.store(true, std::memory_order_release);
  return true;
}

// --- Table --------------------------------------------------------------------------------------

template <class Labels>
Registry::Table<Labels>::Table(std::size_t limit)
    : limit_(std::min<std::size_t>(limit, kIndexMask)),
      entries_(1),
      current_(std::make_unique<std::atomic<std::uint64_t>[]>(limit_ + 1)) {
  entries_.reserve(limit_ + 1);
}

template <class Labels>
std::uint64_t Registry::Table<Labels>::intern(std::string joined, const Labels& labels) {
  const auto known = ids_.find(joined);
  if (known != ids_.end()) return known->second;
  const std::size_t index = place();
  if (index == 0) return 0;
  const std::uint64_t generation =
      (current_[index].load(std::memory_order_relaxed) >> kIndexBits) + 1;
  const std::uint64_t id = generation << kIndexBits | index;
  current_[index].store(id, std::memory_order_relaxed);
  entries_[index] = {.joined = joined, .labels = std::make_shared<const Labels>(labels), .uses = 0};
  ids_.emplace(std::move(joined), id);
  ++unused_;
  return id;
}

// A place for one more entry: a new one, or that of the longest known entry nobody uses. 0: none.
template <class Labels>
std::size_t Registry::Table<Labels>::place() {
  if (entries_.size() <= limit_) {
    entries_.emplace_back();
    return entries_.size() - 1;
  }
  if (unused_ == 0) return 0;
  do {
    hand_ = hand_ % limit_ + 1;
  } while (entries_[hand_].uses != 0);
  ids_.erase(entries_[hand_].joined);
  --unused_;
  return hand_;
}

template <class Labels>
void Registry::Table<Labels>::add_use(std::uint64_t id) noexcept {
  if (!alive(id)) return;
  if (entries_[id & kIndexMask].uses++ == 0) --unused_;
}

template <class Labels>
void Registry::Table<Labels>::drop_use(std::uint64_t id) noexcept {
  if (!alive(id)) return;
  if (--entries_[id & kIndexMask].uses == 0) ++unused_;
}

template <class Labels>
std::shared_ptr<const Labels> Registry::Table<Labels>::labels(std::uint64_t id) const {
  return alive(id) ? entries_[id & kIndexMask].labels : nullptr;
}

// --- Registry -----------------------------------------------------------------------------------

Registry::Registry(std::size_t limit, const WorkloadLabels& own)
    : limit_(limit), parties_(limit + kSpareNames), destinations_(limit + kSpareNames) {
  intern_own(own);
  slots_.resize(slots());
  free_slots_.reserve(slots());
  for (std::size_t i = slots(); i > 0; --i) {
    free_slots_.push_back(static_cast<std::uint32_t>(i - 1));
  }
}

PartyRef Registry::intern_party(const PeerLabels& labels, std::uint64_t& replaced) {
  const WorkloadLabels& w = labels.workload;
  const Party party{.workload = {.workload = cleaned(w.workload, replaced),
                                 .workload_namespace = cleaned(w.workload_namespace, replaced),
                                 .canonical_service = cleaned(w.canonical_service, replaced),
                                 .canonical_revision = cleaned(w.canonical_revision, replaced),
                                 .app = cleaned(w.app, replaced),
                                 .version = cleaned(w.version, replaced),
                                 .cluster = cleaned(w.cluster, replaced)},
                    .peer_principal = cleaned(labels.peer_principal, replaced),
                    .own_principal = cleaned(labels.own_principal, replaced)};
  const WorkloadLabels& c = party.workload;
  std::string joined =
      join(c.workload, c.workload_namespace, c.canonical_service, c.canonical_revision, c.app,
           c.version, c.cluster, party.peer_principal, party.own_principal);
  const std::scoped_lock lock(mutex_);
  return {parties_.intern(std::move(joined), party)};
}

DestinationRef Registry::intern_destination(const DestinationLabels& labels,
                                            std::uint64_t& replaced) {
  const DestinationLabels clean{.service = cleaned(labels.service, replaced),
                                .service_name = cleaned(labels.service_name, replaced),
                                .service_namespace = cleaned(labels.service_namespace, replaced)};
  std::string joined = join(clean.service, clean.service_name, clean.service_namespace);
  const std::scoped_lock lock(mutex_);
  return {destinations_.intern(std::move(joined), clean)};
}

OwnRef Registry::intern_own(const WorkloadLabels& labels) {
  std::uint64_t replaced = 0;
  WorkloadLabels clean = labels;
  for (std::string* value :
       {&clean.workload, &clean.workload_namespace, &clean.canonical_service,
        &clean.canonical_revision, &clean.app, &clean.version, &clean.cluster}) {
    *value = cleaned(*value, replaced);
  }
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = 0; i < owns_.size(); ++i) {
    if (*owns_[i] == clean) return {static_cast<std::uint8_t>(i)};
  }
  if (owns_.size() < kMaxOwns) owns_.push_back(std::make_shared<const WorkloadLabels>(clean));
  return {static_cast<std::uint8_t>(owns_.size() - 1)};
}

RuleRef Registry::intern_rule(std::string_view name) {
  std::string clean(name);
  clean_label(clean);
  const std::scoped_lock lock(mutex_);
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    if (rules_[i] == clean) return {static_cast<std::uint16_t>(i)};
  }
  if (rules_.size() == kMaxRules) return {kMaxRules - 1};
  if (rules_.size() == kMaxRules - 1) clean = "_other";
  rules_.push_back(std::move(clean));
  return {static_cast<std::uint16_t>(rules_.size() - 1)};
}

std::uint32_t Registry::acquire_locked(SeriesKey& key) {
  const auto known = ids_.find(key);
  if (known != ids_.end()) {
    slots_[known->second].releasing = false;
    return known->second;
  }
  const bool names_alive = parties_.alive(key.peer) && destinations_.alive(key.destination);
  if (!is_overflow(key) && names_alive && normal_sets_ < limit_) return take_slot(key);
  if (!is_overflow(key)) {
    key = overflow_key(key);
    return acquire_locked(key);
  }
  if (key.response_code != kOverflowCode && overflow_sets_ >= kOverflowSets) {
    key = last_resort_key(key);
    return acquire_locked(key);
  }
  return take_slot(key);
}

std::uint32_t Registry::take_slot(const SeriesKey& key) {
  const std::uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot] = {.key = key, .releasing = false};
  ids_.emplace(key, slot);
  if (!is_overflow(key)) {
    ++normal_sets_;
    parties_.add_use(key.peer);
    destinations_.add_use(key.destination);
  } else if (key.response_code != kOverflowCode) {
    ++overflow_sets_;
  }
  return slot;
}

bool Registry::release_locked(std::uint32_t slot) {
  if (!slots_[slot].releasing) return false;
  const SeriesKey key = slots_[slot].key;
  ids_.erase(key);
  if (!is_overflow(key)) {
    --normal_sets_;
    parties_.drop_use(key.peer);
    destinations_.drop_use(key.destination);
  } else if (key.response_code != kOverflowCode) {
    --overflow_sets_;
  }
  slots_[slot].releasing = false;
  free_slots_.push_back(slot);
  releases_.fetch_add(1, std::memory_order_release);
  return true;
}

Registry::Names Registry::names(std::uint32_t slot) const {
  const std::scoped_lock lock(mutex_);
  const SeriesKey& key = slots_[slot].key;
  Names names{.key = key, .party = nullptr, .destination = nullptr, .own = nullptr};
  if (is_overflow(key)) return names;
  names.party = parties_.labels(key.peer);
  names.destination = destinations_.labels(key.destination);
  names.own = owns_[key.own];
  return names;
}

std::vector<std::string> Registry::rule_names() const {
  const std::scoped_lock lock(mutex_);
  return rules_;
}

}  // namespace telemetry
