// The process-wide tables behind all shards: interned label strings, the slots of label sets and
// the cap on them, hosts that match no service. Not on the hot path: every function here may lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "telemetry/facts.h"

namespace telemetry {

// What distinguishes one label set from another: small integers only.
struct SeriesKey {
  std::uint32_t peer = 0;
  std::uint32_t destination = 0;
  std::uint32_t flags = 0;
  std::uint16_t response_code = 0;
  std::int16_t grpc_status = kNoGrpc;
  Reporter reporter = Reporter::destination;
  Protocol protocol = Protocol::http;
  SecurityPolicy policy = SecurityPolicy::unknown;
  std::uint8_t own = 0;

  bool operator==(const SeriesKey&) const noexcept = default;
};
std::uint64_t hash_of(const SeriesKey& key) noexcept;

// An overflow key keeps reporter, protocol, code, flags and policy; every other label is
// "_overflow". The last resort keeps the reporter alone; it takes what exceeds kOverflowSets.
inline constexpr std::int16_t kOverflowGrpc = kNoGrpc + 1;
inline constexpr std::uint16_t kOverflowCode = 0xFFFF;
inline constexpr std::size_t kOverflowSets = 126;
inline constexpr std::size_t kLastResortSets = 2;
SeriesKey overflow_key(const SeriesKey& key) noexcept;
SeriesKey last_resort_key(const SeriesKey& key) noexcept;
constexpr bool is_overflow(const SeriesKey& key) noexcept {
  return key.grpc_status == kOverflowGrpc;
}

// Strings of an interned peer, cleaned: valid UTF-8, at most kMaxLabelBytes each.
struct Party {
  WorkloadLabels workload;
  std::string peer_principal;
  std::string own_principal;
};

// Hosts that match no service: the first kMaxUnmatchedHosts of the process keep their name.
// Thread-safe. Once full it never changes again and is read without a lock.
class HostBudget {
 public:
  static constexpr std::size_t kMaxUnmatchedHosts = 100;
  static constexpr std::string_view kOther = "_other";

  // Whether this host (already cleaned) may be a label value; else use kOther.
  bool admit(const std::string& host);

 private:
  std::atomic<bool> full_ = false;
  std::mutex mutex_;
  std::unordered_set<std::string> hosts_;
};

// Bounds by design: `limit` label sets plus kOverflowSets + kLastResortSets; limit + 256 peers and
// as many destinations. When a string table is full, the longest known entry without a label set
// gives up its place (its references then count as overflow); an entry with a label set keeps it,
// so that nobody can push an honest peer out by inventing names.
class Registry {
 public:
  explicit Registry(std::size_t limit);

  std::size_t limit() const noexcept { return limit_; }
  std::size_t slots() const noexcept { return limit_ + kOverflowSets + kLastResortSets; }

  // `replaced` grows by the number of values that had to be cleaned.
  PartyRef intern_party(const PeerLabels& labels, std::uint64_t& replaced);
  DestinationRef intern_destination(const DestinationLabels& labels, std::uint64_t& replaced);
  // False for the overflow reference and for one whose entry was given to somebody else. No lock.
  bool alive(PartyRef ref) const noexcept { return parties_.alive(ref.id); }
  bool alive(DestinationRef ref) const noexcept { return destinations_.alive(ref.id); }

  // Own labels: at most 255 different ones in the life of a process; then the last one stays.
  OwnRef intern_own(const WorkloadLabels& labels);
  // Names of authorization rules; after kMaxRules - 1 of them all others are "_other".
  RuleRef intern_rule(std::string_view name);
  HostBudget& hosts() noexcept { return hosts_; }

  // The slot where requests of this key are summed. Takes a slot if the key has none; when the
  // cap is reached, `key` becomes its overflow key. Always succeeds.
  std::uint32_t acquire(SeriesKey& key);

  // --- for the collector ---------------------------------------------------------------------
  struct Names {
    SeriesKey key;
    std::shared_ptr<const Party> party;  // null: overflow
    std::shared_ptr<const DestinationLabels> destination;
    std::shared_ptr<const WorkloadLabels> own;
  };
  Names names(std::uint32_t slot) const;
  std::vector<std::string> rule_names() const;
  // Two-step removal: what is acquired between the steps is not released.
  void begin_release(std::uint32_t slot);
  // True: the slot is free again and `before_unlock` ran while nobody could take it.
  template <class Function>
  bool finish_release(std::uint32_t slot, Function before_unlock) {
    const std::scoped_lock lock(mutex_);
    if (!release_locked(slot)) return false;
    before_unlock();
    return true;
  }
  void keep(std::uint32_t slot);  // takes begin_release back

 private:
  template <class Labels>
  class Table {
   public:
    explicit Table(std::size_t limit);
    std::uint32_t intern(std::string joined, const Labels& labels);
    bool alive(std::uint32_t id) const noexcept;
    void use(std::uint32_t id, int change) noexcept;
    std::shared_ptr<const Labels> labels(std::uint32_t id) const;

   private:
    struct Entry {
      std::string joined;
      std::shared_ptr<const Labels> labels;
      std::uint32_t uses = 0;  // label sets that name it
    };
    std::size_t place();
    std::size_t limit_;
    std::size_t hand_ = 1;  // where the search for an unused entry goes on: oldest first
    std::vector<Entry> entries_;
    std::unique_ptr<std::atomic<std::uint16_t>[]> generations_;
    std::unordered_map<std::string, std::uint32_t> ids_;
  };

  struct KeyHash {
    std::size_t operator()(const SeriesKey& key) const noexcept { return hash_of(key); }
  };
  struct Slot {
    SeriesKey key;
    bool taken = false;
    bool releasing = false;
  };
  std::uint32_t take_slot(const SeriesKey& key);
  bool release_locked(std::uint32_t slot);

  const std::size_t limit_;
  mutable std::mutex mutex_;
  Table<Party> parties_;
  Table<DestinationLabels> destinations_;
  std::vector<std::shared_ptr<const WorkloadLabels>> owns_;
  std::vector<std::string> rules_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::unordered_map<SeriesKey, std::uint32_t, KeyHash> ids_;
  std::size_t normal_sets_ = 0;
  std::size_t overflow_sets_ = 0;
  HostBudget hosts_;
};

}  // namespace telemetry
