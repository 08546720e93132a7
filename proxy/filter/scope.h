// Scope: what a filter may know and say about one request besides its heads.
// Not a filter and not the exchange: plain facts that the exchange fills in and reads back.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/route/table.h"
#include "telemetry/peer_metadata.h"
#include "telemetry/shard.h"
#include "tls/identity.h"

namespace proxy::filter {

// Who is at the other end of one connection, interned, with the metadata it sent last: a peer that
// says the same with every request costs two comparisons. One for each downstream connection
// (inbound) and for each upstream connection (outbound). The principals never change in its life.
//
// The connection's owner fills in `base` once; the rest belongs to filters.
struct PeerMemo {
  // What is remembered in metadata_id and metadata.
  enum class Said : std::uint8_t { nothing, invalid, labels };

  // Unknown workload, but the principals of this connection: telemetry::peer_labels(nullptr, ...).
  telemetry::PeerLabels base;
  telemetry::PartyRef base_ref;  // interned `base`; read it with base_peer()
  telemetry::PartyRef ref;       // the peer by its metadata; only with Said::labels
  Said said = Said::nothing;
  std::string metadata_id;
  std::string metadata;  // at most PeerMetadataCache::kMaxCachedBytes, longer ones stay out

  std::string client_cert;      // our element of x-forwarded-client-cert; empty until it is needed
  std::uint64_t judged_by = 0;  // number of the Authorization that set `allowed_by`; 0 = none yet
  std::optional<telemetry::RuleRef> allowed_by;  // the first rule that lets the peer in
};

// The peer while it has not said who it is: `base`, interned at the first call and again when it
// was dropped since. Also for requests that end before any filter saw them.
telemetry::PartyRef base_peer(PeerMemo& memo, telemetry::Shard& shard);

// A generator of request ids, one a worker. Not for secrets.
class RequestIds {
 public:
  explicit RequestIds(std::uint64_t seed) noexcept;
  // A UUID version 4 in its canonical 36 characters, written to `out`.
  void make(char (&out)[36]) noexcept;

 private:
  std::uint64_t next() noexcept;

  std::array<std::uint64_t, 4> state_;
};

// The id of one request, kept outside of its head, which moves on to the codec.
class RequestId {
 public:
  static constexpr std::size_t kMaxBytes = 128;

  bool empty() const noexcept { return length_ == 0; }
  std::string_view view() const noexcept { return {text_.data(), length_}; }
  // False, and nothing is kept, unless `id` is 1 to kMaxBytes visible ASCII characters.
  bool keep(std::string_view id) noexcept;
  void make(RequestIds& ids) noexcept;

 private:
  std::array<char, kMaxBytes> text_;
  std::size_t length_ = 0;
};

// The worker's things that filters use; outlive every Scope.
struct WorkerState {
  telemetry::Shard& shard;
  telemetry::PeerMetadataCache& peers;
  RequestIds& request_ids;
};

struct Scope {
  WorkerState& worker;
  telemetry::Direction direction;
  const tls::PeerIdentity* identity = nullptr;  // verified downstream peer; null on plaintext
  std::string_view own_principal = {};          // our certificate's SPIFFE URI; may be empty
  PeerMemo* downstream_peer = nullptr;          // inbound: never null
  PeerMemo* upstream_peer = nullptr;            // outbound: set before on_response
  const route::Plan* plan = nullptr;            // set before on_request
  std::uint64_t upstream_us = 0;                // request sent to response head; before on_response
  unsigned attempt = 1;                         // 1 = first try

  // What the filters found out.
  telemetry::PartyRef peer{};  // the other end of the hop; unset when no peer said anything yet
  RequestId request_id{};      // empty until on_request or on_local_reply
  bool peer_sent_id = false;   // inbound: answer with our id / metadata only if asked so
  bool peer_sent_metadata = false;
  bool peer_named_operation = false;  // inbound: the request said x-envoy-decorator-operation
};

}  // namespace proxy::filter
