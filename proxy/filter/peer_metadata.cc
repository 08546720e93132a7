// The exchange of peer metadata over HTTP headers, and the memory that makes it cheap.
// Not the interning of labels: telemetry/shard.h.
#include "proxy/filter/peer_metadata.h"

#include <cstdint>

#include <fmt/format.h>

namespace proxy::filter {
namespace {

using http::NameId;
using telemetry::MetadataResult;

// FNV-1a: the same configuration gives the same name on every machine and in every build.
std::uint32_t hash_of(std::string_view bytes) noexcept {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return static_cast<std::uint32_t>(hash ^ (hash >> 32));
}

// PeerLabels say "unknown" for what telemetry::peer_labels() takes as empty.
std::string_view known(std::string_view principal) noexcept {
  return principal == "unknown" ? std::string_view() : principal;
}

// Interim responses carry no metadata; what an app put there goes no further either.
bool is_interim(const http::ResponseHead& head) noexcept {
  return head.status < 200 && head.status != 101;
}

// Decodes what the memo does not know yet. Remembers it unless it is too long to keep for every
// connection.
MetadataResult learn(std::string_view id, std::string_view value, PeerMemo& memo,
                     WorkerState& worker, bool metadata_identity) {
  const std::string_view principal = known(memo.base.peer_principal);
  const auto found = worker.peers.find(principal, id, value);
  const bool keep = id.size() + value.size() <= telemetry::PeerMetadataCache::kMaxCachedBytes;
  memo.metadata_id.assign(keep ? id : std::string_view());
  memo.metadata.assign(keep ? value : std::string_view());
  if (found.metadata == nullptr) {
    memo.said = keep ? PeerMemo::Said::invalid : PeerMemo::Said::nothing;
    return MetadataResult::invalid;
  }
  memo.ref = worker.shard.intern_peer(telemetry::peer_labels(found.metadata, principal,
                                                             known(memo.base.own_principal),
                                                             memo.base.policy, metadata_identity));
  memo.said = keep ? PeerMemo::Said::labels : PeerMemo::Said::nothing;
  return found.cached ? MetadataResult::cached : MetadataResult::decoded;
}

MetadataResult recall(std::string_view id, std::string_view value, PeerMemo& memo,
                      WorkerState& worker, bool metadata_identity) {
  const bool same =
      memo.said != PeerMemo::Said::nothing && memo.metadata_id == id && memo.metadata == value;
  if (same && memo.said == PeerMemo::Said::invalid) return MetadataResult::invalid;
  if (same && worker.shard.alive(memo.ref)) return MetadataResult::cached;
  if (value.size() > telemetry::kMaxMetadataBytes || id.size() > telemetry::kMaxNodeIdBytes) {
    return MetadataResult::invalid;
  }
  return learn(id, value, memo, worker, metadata_identity);
}

}  // namespace

telemetry::OwnMetadata own_metadata(const config::Config& config) {
  const config::Workload& from = config.workload;
  telemetry::OwnMetadata own;
  own.workload.workload = from.name;
  own.workload.workload_namespace = from.namespace_name;
  own.workload.canonical_service = from.canonical_service;
  own.workload.canonical_revision = from.canonical_revision;
  own.workload.app = from.app;
  own.workload.version = from.version;
  own.workload.cluster = from.cluster;
  own.labels = from.labels;
  own.ip = config.inbound.listen.addresses.empty() ? "0.0.0.0"
                                                   : config.inbound.listen.addresses.front().text;
  // Without a certificate nobody could check the claim.
  if (!config.mtls.cert.empty() && !from.namespace_name.empty() && !from.service_account.empty()) {
    own.identity = fmt::format("spiffe://{}/ns/{}/sa/{}", config.mtls.trust_domain,
                               from.namespace_name, from.service_account);
  }
  const std::string name = from.name.empty() ? "hoplite" : from.name;
  own.pod_name = fmt::format("{}-{:08x}", name, hash_of(telemetry::metadata_struct(own)));
  return own;
}

PeerMetadata::PeerMetadata(const config::Config& config) {
  const telemetry::OwnMetadata own = own_metadata(config);
  own_id_ = telemetry::node_id(own);
  own_value_ = telemetry::metadata_header(own);
}

telemetry::PartyRef PeerMetadata::identify(const http::HeaderMap& headers, PeerMemo& memo,
                                           WorkerState& worker, bool metadata_identity) {
  const http::HeaderMap::Field* value = headers.find(NameId::x_envoy_peer_metadata);
  MetadataResult result = MetadataResult::absent;
  if (value != nullptr) {
    const auto id = headers.get(NameId::x_envoy_peer_metadata_id).value_or(std::string_view());
    result = recall(id, headers.value(*value), memo, worker, metadata_identity);
  }
  worker.shard.add(telemetry::Counter::peer_metadata, 1, result);
  const bool spoke = result == MetadataResult::cached || result == MetadataResult::decoded;
  return spoke ? memo.ref : base_peer(memo, worker.shard);
}

void PeerMetadata::remove(http::HeaderMap& headers) noexcept {
  headers.remove(NameId::x_envoy_peer_metadata);
  headers.remove(NameId::x_envoy_peer_metadata_id);
}

// --- inbound ------------------------------------------------------------------------------------

Result<> InboundPeerMetadata::on_request(http::RequestHead& head, Scope& scope) const {
  scope.peer_sent_id = head.headers.find(NameId::x_envoy_peer_metadata_id) != nullptr;
  scope.peer_sent_metadata = head.headers.find(NameId::x_envoy_peer_metadata) != nullptr;
  scope.peer = identify(head.headers, *scope.downstream_peer, scope.worker, false);
  if (scope.peer_sent_id || scope.peer_sent_metadata) remove(head.headers);
  return {};
}

void InboundPeerMetadata::on_response(http::ResponseHead& head, Scope& scope) const {
  remove(head.headers);
  if (!is_interim(head)) on_local_reply(head, scope);
}

void InboundPeerMetadata::on_local_reply(http::ResponseHead& head, Scope& scope) const {
  if (scope.peer_sent_id) head.headers.add(NameId::x_envoy_peer_metadata_id, own_id_);
  if (scope.peer_sent_metadata) head.headers.add(NameId::x_envoy_peer_metadata, own_value_);
}

// --- outbound -----------------------------------------------------------------------------------

Result<> OutboundPeerMetadata::on_request(http::RequestHead& head, Scope&) const {
  remove(head.headers);
  head.headers.add(NameId::x_envoy_peer_metadata_id, own_id_);
  head.headers.add(NameId::x_envoy_peer_metadata, own_value_);
  return {};
}

void OutboundPeerMetadata::on_response(http::ResponseHead& head, Scope& scope) const {
  if (!is_interim(head)) {
    scope.peer = identify(head.headers, *scope.upstream_peer, scope.worker, true);
  }
  remove(head.headers);
}

}  // namespace proxy::filter
