// Istio's peer metadata: the bytes of x-envoy-peer-metadata(-id), both ways, and a bounded cache of
// what peers sent. Not the headers' handling (proxy/filter) nor the TCP frame (proxy/tunnel).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "telemetry/labels.h"

namespace telemetry {

inline constexpr std::string_view kPeerMetadataHeader = "x-envoy-peer-metadata";
inline constexpr std::string_view kPeerMetadataIdHeader = "x-envoy-peer-metadata-id";
// A longer value is not looked at: the peer is unknown.
inline constexpr std::size_t kMaxMetadataBytes = 16 * 1024;
inline constexpr std::size_t kMaxNodeIdBytes = 512;

// Who we say we are. Empty fields are left out of the message.
struct OwnMetadata {
  WorkloadLabels workload;
  std::string pod_name;  // NAME
  std::string ip;
  std::string identity;    // spiffe://..., when known
  std::string owner_kind;  // "deployment", "pod", "job", "cronjob"; empty: no OWNER
  std::string region;
  std::string zone;
  std::map<std::string, std::string> labels;  // beyond those that WorkloadLabels gives
};

// sidecar~IP~POD.NS~NS.svc.cluster.local
std::string node_id(const OwnMetadata& own);
// A serialised google.protobuf.Struct, map entries by key: the same metadata, the same bytes.
std::string metadata_struct(const OwnMetadata& own);
// The header value: metadata_struct() in padded standard base64.
std::string metadata_header(const OwnMetadata& own);

// The namespace of spiffe://TRUST_DOMAIN/ns/NS/sa/SA; empty if it is not of this form.
std::string_view namespace_of_principal(std::string_view principal) noexcept;

// What a peer sent. `identity` is its IDENTITY field.
struct PeerMetadata {
  WorkloadLabels workload;  // missing values already as the labels want them (unknown_peer())
  std::string identity;
};
// Of a header value (padded or not) / of struct bytes. Nothing for what is too long, not base64,
// not a Struct or nested deeper than 8.
std::optional<PeerMetadata> decode_metadata_header(std::string_view value);
std::optional<PeerMetadata> decode_metadata_struct(std::string_view bytes);

// The labels of a peer: metadata (null when there was none) and the principals verified by TLS
// (empty when there were none). The namespace of a principal wins over the metadata's.
// `metadata_identity`: take the metadata's IDENTITY when the principal is missing (client side), as
// Istio does: of a peer without TLS it is a claim like all else that it says.
PeerLabels peer_labels(const PeerMetadata* metadata, std::string_view peer_principal,
                       std::string_view own_principal, SecurityPolicy policy,
                       bool metadata_identity = false);

// Per worker, not thread-safe. Keyed by identity, id and value together, so that no peer can be
// answered with what another one sent, and a peer that changes its value is decoded anew. At
// most kCapacity entries of at most kMaxMetadataBytes; when full, the kDrop least recently used
// ones go.
class PeerMetadataCache {
 public:
  static constexpr std::size_t kCapacity = 500;
  static constexpr std::size_t kDrop = 125;
  // Longer values are decoded each time rather than kept: the cache holds at most 2 MiB of them.
  static constexpr std::size_t kMaxCachedBytes = 4 * 1024;

  struct Found {
    const PeerMetadata* metadata;  // null: the value is invalid; valid until the next call
    bool cached;
    std::uint64_t* user_word;  // the caller's to keep an interned reference; 0 when new
  };
  // `identity`: the verified principal, empty for a peer without one.
  Found find(std::string_view identity, std::string_view id, std::string_view value);
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    std::string identity;
    std::string id;
    std::string value;
    std::optional<PeerMetadata> metadata;
    std::uint64_t used = 0;
    std::uint64_t user_word = 0;
  };
  void drop_oldest();

  std::unordered_multimap<std::uint64_t, Entry> entries_;
  Entry uncached_;
  std::uint64_t clock_ = 0;
};

}  // namespace telemetry
