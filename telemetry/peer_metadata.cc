// Implementation of peer_metadata.h.
#include "telemetry/peer_metadata.h"

#include <algorithm>
#include <functional>
#include <utility>

#include <fmt/format.h>
#include "telemetry/protobuf_struct.h"  // first: it guards what all protobuf headers share

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/stubs/logging.h>

#include "telemetry/base64.h"

namespace telemetry {
namespace {

using google::protobuf::Struct;
using google::protobuf::Value;

// Each level of structs or lists costs protobuf up to three messages: entry, value, struct.
constexpr int kMaxMessageDepth = 3 * 8;

void set_string(Struct& into, const std::string& key, const std::string& value) {
  if (!value.empty()) (*into.mutable_fields())[key].set_string_value(value);
}

const std::string& string_of(const Struct& from, const std::string& key) {
  static const std::string empty;
  const auto found = from.fields().find(key);
  if (found == from.fields().end()) return empty;
  return found->second.kind_case() == Value::kStringValue ? found->second.string_value() : empty;
}

// The first value that is not empty, else what is there already: the word for a missing one.
void overwrite(std::string& value, const std::string& first, const std::string& second = {}) {
  if (!first.empty()) {
    value = first;
  } else if (!second.empty()) {
    value = second;
  }
}

std::uint64_t hash_of(std::string_view identity, std::string_view id, std::string_view value) {
  const std::hash<std::string_view> hash;
  return hash(identity) * 31 + hash(id) * 7 + hash(value);
}

}  // namespace

std::string node_id(const OwnMetadata& own) {
  const std::string& name_space = own.workload.workload_namespace;
  return fmt::format("sidecar~{}~{}.{}~{}.svc.cluster.local", own.ip, own.pod_name, name_space,
                     name_space);
}

std::string metadata_struct(const OwnMetadata& own) {
  Struct message;
  const WorkloadLabels& workload = own.workload;
  set_string(message, "NAME", own.pod_name);
  set_string(message, "NAMESPACE", workload.workload_namespace);
  set_string(message, "WORKLOAD_NAME", workload.workload);
  set_string(message, "CLUSTER_ID", workload.cluster);
  set_string(message, "IDENTITY", own.identity);
  set_string(message, "REGION", own.region);
  set_string(message, "AVAILABILITY_ZONE", own.zone);
  if (!own.owner_kind.empty()) {
    set_string(message, "OWNER",
               fmt::format("kubernetes://apis/apps/v1/namespaces/{}/{}s/{}",
                           workload.workload_namespace, own.owner_kind, workload.workload));
  }
  Struct& labels = *(*message.mutable_fields())["LABELS"].mutable_struct_value();
  for (const auto& [key, value] : own.labels) set_string(labels, key, value);
  set_string(labels, "service.istio.io/canonical-name", workload.canonical_service);
  set_string(labels, "service.istio.io/canonical-revision", workload.canonical_revision);
  set_string(labels, "app", workload.app);
  set_string(labels, "version", workload.version);

  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

std::string metadata_header(const OwnMetadata& own) {
  return base64_encode(metadata_struct(own));
}

std::string_view namespace_of_principal(std::string_view principal) noexcept {
  constexpr std::string_view kScheme = "spiffe://";
  if (!principal.starts_with(kScheme)) return {};
  const std::size_t path = principal.find('/', kScheme.size());
  if (path == std::string_view::npos) return {};
  std::string_view rest = principal.substr(path);
  if (!rest.starts_with("/ns/")) return {};
  rest.remove_prefix(4);
  const std::size_t end = rest.find('/');
  return end == std::string_view::npos ? std::string_view{} : rest.substr(0, end);
}

std::optional<PeerMetadata> decode_metadata_header(std::string_view value) {
  if (value.empty() || value.size() > kMaxMetadataBytes) return std::nullopt;
  const std::optional<std::string> bytes = base64_decode(value);
  if (!bytes) return std::nullopt;
  return decode_metadata_struct(*bytes);
}

std::optional<PeerMetadata> decode_metadata_struct(std::string_view bytes) {
  if (bytes.size() > kMaxMetadataBytes) return std::nullopt;
  Struct message;
  {
    // Bytes of strangers: protobuf would write a line to stderr for strings that are not UTF-8.
    const google::protobuf::LogSilencer silencer;
    google::protobuf::io::CodedInputStream coded(
        reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
    coded.SetRecursionLimit(kMaxMessageDepth);
    if (!message.ParseFromCodedStream(&coded) || !coded.ConsumedEntireMessage()) {
      return std::nullopt;
    }
  }
  PeerMetadata peer{.workload = unknown_peer(), .identity = string_of(message, "IDENTITY")};
  WorkloadLabels& workload = peer.workload;
  overwrite(workload.workload, string_of(message, "WORKLOAD_NAME"));
  overwrite(workload.workload_namespace, string_of(message, "NAMESPACE"));
  overwrite(workload.cluster, string_of(message, "CLUSTER_ID"));
  const auto found = message.fields().find("LABELS");
  if (found == message.fields().end() || !found->second.has_struct_value()) return peer;
  const Struct& labels = found->second.struct_value();
  overwrite(workload.canonical_service, string_of(labels, "service.istio.io/canonical-name"));
  overwrite(workload.canonical_revision, string_of(labels, "service.istio.io/canonical-revision"));
  overwrite(workload.app, string_of(labels, "app.kubernetes.io/name"), string_of(labels, "app"));
  overwrite(workload.version, string_of(labels, "app.kubernetes.io/version"),
            string_of(labels, "version"));
  return peer;
}

PeerLabels peer_labels(const PeerMetadata* metadata, std::string_view peer_principal,
                       std::string_view own_principal, SecurityPolicy policy,
                       bool metadata_identity) {
  PeerLabels labels;
  labels.policy = policy;
  if (metadata != nullptr) labels.workload = metadata->workload;
  if (!peer_principal.empty()) {
    labels.peer_principal = peer_principal;
  } else if (metadata_identity && metadata != nullptr && !metadata->identity.empty()) {
    labels.peer_principal = metadata->identity;
  }
  if (!own_principal.empty()) labels.own_principal = own_principal;
  const std::string_view name_space = namespace_of_principal(labels.peer_principal);
  if (!name_space.empty()) labels.workload.workload_namespace = name_space;
  return labels;
}

// --- the cache ----------------------------------------------------------------------------------

PeerMetadataCache::Found PeerMetadataCache::find(std::string_view identity, std::string_view id,
                                                 std::string_view value) {
  const auto found_in = [](Entry& entry, bool cached) {
    return Found{.metadata = entry.metadata ? &*entry.metadata : nullptr,
                 .cached = cached,
                 .user_word = &entry.user_word};
  };
  ++clock_;
  const std::uint64_t hash = hash_of(identity, id, value);
  const auto [begin, end] = entries_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    Entry& entry = it->second;
    if (entry.identity != identity || entry.id != id || entry.value != value) continue;
    entry.used = clock_;
    return found_in(entry, true);
  }
  std::optional<PeerMetadata> metadata = decode_metadata_header(value);
  const std::size_t bytes = identity.size() + id.size() + value.size();
  if (bytes > kMaxCachedBytes) {
    uncached_ = {};
    uncached_.metadata = std::move(metadata);
    return found_in(uncached_, false);
  }
  if (entries_.size() >= kCapacity) drop_oldest();
  Entry entry{.identity = std::string(identity),
              .id = std::string(id),
              .value = std::string(value),
              .metadata = std::move(metadata),
              .used = clock_};
  return found_in(entries_.emplace(hash, std::move(entry))->second, false);
}

void PeerMetadataCache::drop_oldest() {
  std::vector<std::uint64_t> uses;
  uses.reserve(entries_.size());
  for (const auto& [hash, entry] : entries_) uses.push_back(entry.used);
  std::nth_element(uses.begin(), uses.begin() + kDrop, uses.end());
  const std::uint64_t keep_from = uses[kDrop];
  std::erase_if(entries_, [keep_from](const auto& each) { return each.second.used < keep_from; });
}

}  // namespace telemetry
