// PeerMetadata: Istio's exchange of x-envoy-peer-metadata(-id), so that each side of a hop can name
// the other in its metrics. Not the bytes in the headers: telemetry/peer_metadata.h.
#pragma once

#include <string>

#include "proxy/filter/filter.h"
#include "telemetry/peer_metadata.h"

namespace proxy::filter {

// What this sidecar tells its peers. The id differs whenever anything told differs, because
// Istio's own sidecars remember metadata by the id alone.
telemetry::OwnMetadata own_metadata(const config::Config& config);

// Reads and removes both headers from what the peer sent and sets Scope::peer; neither the
// workload nor a client of it ever sees them. Metadata is believed for labels, as Istio does;
// principals come from certificates only (but see telemetry::peer_labels for the client side).
class PeerMetadata : public Filter {
 protected:
  explicit PeerMetadata(const config::Config& config);

  // The peer by what `headers` say, by way of its memo.
  static telemetry::PartyRef identify(const http::HeaderMap& headers, PeerMemo& memo,
                                      WorkerState& worker, bool metadata_identity);
  static void remove(http::HeaderMap& headers) noexcept;

  std::string own_id_;
  std::string own_value_;
};

// The peer is downstream; it is answered with our id and metadata only if it sent its own.
class InboundPeerMetadata final : public PeerMetadata {
 public:
  explicit InboundPeerMetadata(const config::Config& config) : PeerMetadata(config) {}
  Result<> on_request(http::RequestHead& head, Scope& scope) const override;
  void on_response(http::ResponseHead& head, Scope& scope) const override;
  void on_local_reply(http::ResponseHead& head, Scope& scope) const override;
};

// The peer is upstream; every request tells it who we are.
class OutboundPeerMetadata final : public PeerMetadata {
 public:
  explicit OutboundPeerMetadata(const config::Config& config) : PeerMetadata(config) {}
  Result<> on_request(http::RequestHead& head, Scope& scope) const override;
  void on_response(http::ResponseHead& head, Scope& scope) const override;
};

}  // namespace proxy::filter
