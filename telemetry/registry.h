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

// Which families a label set belongs to.
enum class SeriesKind : std::uint8_t {
  requests,    // all 25 labels
  messages,    // gRPC messages: the first 20 labels; the rest of the key has its defaults
  connections  // TCP: the first 20, protocol, flags and policy; no code and no gRPC status
};

// What distinguishes one label set from another: small integers only.
struct SeriesKey {
  std::uint64_t peer = 0;
  std::uint64_t destination = 0;
  std::uint32_t flags = 0;
  std::uint16_t response_code = 0;
  std::int16_t grpc_status = kNoGrpc;
  Reporter reporter = Reporter::destination;
  Protocol protocol = Protocol::http;
  SecurityPolicy policy = SecurityPolicy::unknown;
  std::uint8_t own = 0;
  SeriesKind kind = SeriesKind::requests;

  bool operator==(const SeriesKey&) const noexcept = default;
};
std::uint64_t hash_of(const SeriesKey& key) noexcept;

// An overflow key keeps reporter, protocol, code, flags and policy; every other label is
// "_overflow". The last resort keeps the reporter alone; it takes what exceeds kOverflowSets, and
// all messages that overflow.
inline constexpr std::int16_t kOverflowGrpc = kNoGrpc + 1;
inline constexpr std::uint16_t kOverflowCode = 0xFFFF;
inline constexpr std::size_t kOverflowSets = 126;
inline constexpr std::size_t kLastResortSets = 6;  // reporter x kind
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
  static constexpr std::size_t kMaxOwns = 255;

  explicit Registry(std::size_t limit, const WorkloadLabels& own = {});  // own: OwnRef{0}

  std::size_t limit() const noexcept { return limit_; }
  std::size_t slots() const noexcept { return limit_ + kOverflowSets + kLastResortSets; }

  // `replaced` grows by the number of values that had to be cleaned.
  PartyRef intern_party(const PeerLabels& labels, std::uint64_t& replaced);
  DestinationRef intern_destination(const DestinationLabels& labels, std::uint64_t& replaced);
  // False for the overflow reference and for one whose entry was given to somebody else. No lock.
  bool alive(PartyRef ref) const noexcept { return parties_.alive(ref.id); }
  bool alive(DestinationRef ref) const noexcept { return destinations_.alive(ref.id); }

  // Own labels: at most kMaxOwns different ones in the life of a process; then the last one stays.
  OwnRef intern_own(const WorkloadLabels& labels);
  // Names of authorization rules; after kMaxRules - 1 of them all others are "_other".
  RuleRef intern_rule(std::string_view name);
  HostBudget& hosts() noexcept { return hosts_; }

  // The slot where requests of this key are summed. Takes a slot if the key has none; when the
  // cap is reached or a reference is dead, `key` becomes its overflow key. Always succeeds.
  // `use(key, slot)` runs before anybody can release the slot.
  template <class Function>
  std::uint32_t acquire(SeriesKey& key, Function use) {
    const std::scoped_lock lock(mutex_);
    const std::uint32_t slot = acquire_locked(key);
    use(key, slot);
    return slot;
  }
  // Changes whenever a slot becomes free: a key that overflowed may ask again then.
  std::uint64_t releases() const noexcept { return releases_.load(std::memory_order_acquire); }

  // --- for the collector ---------------------------------------------------------------------
  struct Names {
    SeriesKey key;
    std::shared_ptr<const Party> party;  // null: overflow
    std::shared_ptr<const DestinationLabels> destination;
    std::shared_ptr<const WorkloadLabels> own;
  };
  Names names(std::uint32_t slot) const;
  std::vector<std::string> rule_names() const;
  // Two-step removal: a slot acquired between the steps is not released. The functions run while
  // nobody can acquire anything.
  template <class Function>
  void begin_release(std::uint32_t slot, Function before_unlock) {
    const std::scoped_lock lock(mutex_);
    slots_[slot].releasing = true;
    before_unlock();
  }
  template <class Function>
  bool finish_release(std::uint32_t slot, Function before_unlock) {
    const std::scoped_lock lock(mutex_);
    if (!release_locked(slot)) return false;
    before_unlock();
    return true;
  }

 private:
  // An id of the tables: a place in the low bits, above it how often that place was given anew.
  static constexpr unsigned kIndexBits = 24;
  static constexpr std::uint64_t kIndexMask = (1U << kIndexBits) - 1;

  template <class Labels>
  class Table {
   public:
    explicit Table(std::size_t limit);
    std::uint64_t intern(std::string joined, const Labels& labels);
    bool alive(std::uint64_t id) const noexcept {
      const std::size_t index = id & kIndexMask;
      return id != 0 && index <= limit_ && current_[index].load(std::memory_order_relaxed) == id;
    }
    void add_use(std::uint64_t id) noexcept;
    void drop_use(std::uint64_t id) noexcept;
    std::shared_ptr<const Labels> labels(std::uint64_t id) const;

   private:
    struct Entry {
      std::string joined;
      std::shared_ptr<const Labels> labels;
      std::uint32_t uses = 0;  // label sets that name it
    };
    std::size_t place();

    const std::size_t limit_;
    std::size_t hand_ = 0;        // where the search for an unused entry goes on: oldest first
    std::size_t unused_ = 0;      // entries that no label set names
    std::vector<Entry> entries_;  // entry 0 stands for overflow
    std::unique_ptr<std::atomic<std::uint64_t>[]> current_;  // the id that each entry has now
    std::unordered_map<std::string, std::uint64_t> ids_;
  };

  struct KeyHash {
    std::size_t operator()(const SeriesKey& key) const noexcept { return hash_of(key); }
  };
  struct Slot {
    SeriesKey key;
    bool releasing = false;
  };
  std::uint32_t acquire_locked(SeriesKey& key);
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
  std::atomic<std::uint64_t> releases_ = 0;
  HostBudget hosts_;
};

}  // namespace telemetry
