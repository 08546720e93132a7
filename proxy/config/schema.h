// The configuration as plain values: what every key means, its unit, range, default and reader.
// Not how it is read from YAML, flags or the environment (keys.h, parse.h, sources.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace proxy::config {

using Milliseconds = std::chrono::milliseconds;

enum class Family : std::uint8_t { ipv4, ipv6 };

/// An IP address as text that inet_pton takes ("127.0.0.1", "::1", never with brackets).
struct IpAddress {
  std::string text;
  Family family = Family::ipv4;
  bool operator==(const IpAddress&) const = default;
};

/// Where to listen. Forms: ":8000" (127.0.0.1 and ::1), "*:8000" (0.0.0.0 and ::), "1.2.3.4:80",
/// "[::1]:80", "localhost:80" (127.0.0.1 and ::1). Port 0 = any free port. An empty `text` = not
/// set: this listener is not opened. Of the two-address forms a machine without IPv6 may leave out
/// the ipv6 one; any single address given must be bound.
struct ListenAddress {
  std::string text;                  ///< as written, for messages
  std::string host;                  ///< "", "*", or the literal without brackets
  std::uint16_t port = 0;            ///< 0..65535
  std::vector<IpAddress> addresses;  ///< what to bind, never empty when set
  [[nodiscard]] bool is_set() const noexcept { return !text.empty(); }
  bool operator==(const ListenAddress&) const = default;
};

/// Where to connect: "HOST:PORT", HOST an IP literal ("[::1]" in brackets) or a name. A bare
/// ":9898" is 127.0.0.1 and ::1, and so is localhost; they are tried in order. A name has no
/// `addresses` here: it is followed by DNS (server/name_refresh.h).
struct Endpoint {
  std::string text;        ///< as written, "HOST:PORT": upstream address in logs and messages
  std::string host;        ///< without brackets
  std::uint16_t port = 0;  ///< 1..65535
  std::vector<IpAddress> addresses;
  [[nodiscard]] bool is_set() const noexcept { return !text.empty(); }
  bool operator==(const Endpoint&) const = default;
};

/// Who this sidecar stands for: the labels of its own side in the metrics, and what it tells its
/// peers (telemetry labels, filter/peer_metadata). All text, at most 256 bytes, default empty.
struct Workload {
  std::string name;                           ///< workload.name: source_/destination_workload
  std::string namespace_name;                 ///< workload.namespace
  std::string app;                            ///< workload.app
  std::string version;                        ///< workload.version
  std::string canonical_service;              ///< default: app, else name
  std::string canonical_revision;             ///< default: version, else "latest"
  std::string cluster;                        ///< workload.cluster: CLUSTER_ID of Istio's metadata
  std::string service_account;                ///< workload.service_account
  std::map<std::string, std::string> labels;  ///< further labels told to peers; at most 64
  bool operator==(const Workload&) const = default;
};

/// Which HTTP version an upstream is spoken to in; `automatic`: the one the request came in.
enum class Protocol : std::uint8_t { automatic, http1, http2 };

/// How the listeners learn where a connection was going: not at all; from conntrack, to which the
/// nat rules told it (SO_ORIGINAL_DST); or inbound from the local address, since TPROXY leaves it.
enum class Interception : std::uint8_t { none, redirect, tproxy };

/// What the clients of a port say. `any` is found out from the first bytes (detect/); the others
/// wait for nothing: http is never connected before a request, tcp is connected at once.
enum class Traffic : std::uint8_t { any, http, tcp };

/// One of inbound.ports: what arrives for this port of the pod.
struct InboundPort {
  std::uint16_t port = 0;  ///< 1..65535; required
  Traffic traffic = Traffic::any;
  std::string service;  ///< as Inbound::service, for this port; default: that
  bool operator==(const InboundPort&) const = default;
};

/// Which address of the pod intercepted connections are passed on to.
enum class AppAddress : std::uint8_t { original, loopback };

/// What a ClientHello without an istio ALPN gets on the inbound listener.
enum class OtherTls : std::uint8_t { terminate, pass };

/// Traffic that arrives for the workload. Served when `listen` is set; then `app` is set too, but
/// under interception, where each connection goes to the port it was meant for.
struct Inbound {
  ListenAddress listen;  ///< server; not reloadable
  Endpoint app;          ///< upstream: the workload's own port
  /// destination_service (and, up to its first dot, destination_service_name) of what arrives; what
  /// Istio's control plane would say. Empty: the canonical service. route/
  std::string service;
  OtherTls other_tls = OtherTls::terminate;       ///< server/accept; pass = to the app as raw TCP
  Protocol protocol = Protocol::automatic;        ///< upstream/: how the app is spoken to
  AppAddress app_address = AppAddress::original;  ///< interception only; server/
  /// Ports that say what they carry; at most 256. Interception only. Empty: all are `service`'s;
  /// else what arrives at others is counted as InboundPassthroughCluster.
  std::vector<InboundPort> ports;
  bool operator==(const Inbound&) const = default;
};

/// What is bound for no service gets. `refuse`: requests 502, connections closed, counted as
/// BlackHoleCluster. `passthrough`: on to where it was going (interception only),
/// PassthroughCluster.
enum class UnknownHost : std::uint8_t { refuse, passthrough };

/// Where a service's connections go: to its endpoints, or to where each was going.
enum class Resolution : std::uint8_t { endpoints, original };

enum class Balance : std::uint8_t { round_robin, least_request };

enum class ServiceTlsMode : std::uint8_t { off, mutual };

/// How a service's endpoints are spoken to (upstream/ builds a tls client context from it).
struct ServiceTls {
  /// Default: mutual when mtls.cert is set, else off.
  ServiceTlsMode mode = ServiceTlsMode::off;
  /// Exact SPIFFE ids of which the server must show one; empty = any identity of mtls.trust_domain.
  std::vector<std::string> sans;
  /// SNI; empty = Istio's form outbound_.PORT_._.HOST with the first exact host.
  std::string sni;
  bool operator==(const ServiceTls&) const = default;
};

/// One service of outbound.services (route/ matches hosts and port, upstream/ the rest).
struct Service {
  /// destination_service_name; default: the first host up to its first dot.
  std::string name;
  /// destination_service_namespace; default: empty (then the peer's, then unknown).
  std::string namespace_name;
  /// 1..64 Host values in lower case without port: exact, or "*.suffix" (one or more labels).
  std::vector<std::string> hosts;
  /// The service's port: Host may name this port or none. 1..65535, default 80.
  std::uint16_t port = 80;
  std::vector<Endpoint> endpoints;  ///< 0..256; none: requests get 503 UH
  /// Its cluster IPs, and CIDRs ("10.0.0.0/8"), at most 64: with `port`, what intercepted
  /// connections are matched by; route/.
  std::vector<std::string> addresses;
  Traffic traffic = Traffic::any;                 ///< server/
  Resolution resolution = Resolution::endpoints;  ///< route/, server/
  Balance balance = Balance::round_robin;
  Protocol protocol = Protocol::automatic;  ///< upstream/
  /// HTTP/1 requests share HTTP/2 connections. Only with tls.mode mutual, and not with protocol
  /// http1. upstream/
  bool upgrade = false;
  ServiceTls tls;
  bool operator==(const Service&) const = default;
};

/// Traffic that the workload sends. Served when `listen` is set.
struct Outbound {
  ListenAddress listen;                            ///< server; not reloadable
  UnknownHost unknown_host = UnknownHost::refuse;  ///< route/, exchange/
  std::vector<Service> services;                   ///< at most 1,000
  bool operator==(const Outbound&) const = default;
};

/// How names of endpoints are found out (net/resolver.h).
struct Dns {
  std::vector<std::string> servers;  ///< "IP" or "IP:PORT", at most 8; none: /etc/resolv.conf's
  bool operator==(const Dns&) const = default;
};

/// Finding out what an intercepted connection speaks (server/).
struct Detection {
  /// A client that has said nothing for so long gets the original destination connected as TCP.
  Milliseconds eager_after{10};
  bool operator==(const Detection&) const = default;
};

enum class MtlsMode : std::uint8_t { off, permissive, strict };

/// A rule of mtls.allow: `*` in the principal stands for any run of bytes.
struct AllowRule {
  std::string name;       ///< label of the counter; default: the principal itself
  std::string principal;  ///< "spiffe://cluster.local/ns/shop/sa/*", or "*"
  bool operator==(const AllowRule&) const = default;
};

/// Identity and trust. `mode` is the inbound listener's; cert, key and ca serve both directions.
struct Mtls {
  MtlsMode mode = MtlsMode::off;               ///< server/accept
  std::string cert;                            ///< path, PEM chain, leaf first (tls/)
  std::string key;                             ///< path, PEM private key (tls/)
  std::string ca;                              ///< path, PEM trust anchors (tls/)
  std::string trust_domain = "cluster.local";  ///< tls/verify
  std::vector<AllowRule> allow;                ///< filter/; empty = every verified peer
  bool audit = false;                          ///< filter/: true = count denials, deny nobody
  bool operator==(const Mtls&) const = default;
};

/// connection_security_policy on the source: `unknown` as Istio, or what was verified.
enum class SourcePolicy : std::uint8_t { unknown, verified };

struct Stats {
  ListenAddress listen;        ///< default 127.0.0.1:15090; not reloadable (server/stats_listener)
  ListenAddress ready_listen;  ///< /healthz/ready only, e.g. *:15021; default none; not reloadable
  SourcePolicy source_security_policy = SourcePolicy::unknown;  ///< telemetry/record
  /// Label sets (one set = one combination of labels of the HTTP families) before the overflow
  /// set takes the rest. 10..100,000, default 1,000; not reloadable (telemetry/shard).
  std::size_t label_sets = 1000;
  /// A label set without traffic for this long leaves the scrape; 0 = never (telemetry/shard).
  Milliseconds idle_expiry{0};
  bool operator==(const Stats&) const = default;
};

/// What Istio's agent does beside the proxy (server/agent_listener): one port for the metrics of
/// proxy and app, for the app's probes, and to ask for the end.
struct Agent {
  ListenAddress listen;            ///< e.g. *:15020; default none; not reloadable
  ListenAddress admin_listen;      ///< metrics and health on loopback, 15000; default none
  std::uint16_t metrics_port = 0;  ///< where the app has its metrics; 0 = it has none
  std::string metrics_path = "/metrics";
  std::string app_address = "127.0.0.1";  ///< IP at which metrics and probes reach the app
  /// The app's probes, as Istio's ISTIO_KUBE_APP_PROBERS has them: JSON, from the path on `listen`
  /// to the probe as it was.
  std::string probers;
  bool operator==(const Agent&) const = default;
};

enum class AccessLog : std::uint8_t { off, errors, all };
enum class LogFormat : std::uint8_t { json, text };
enum class LogLevel : std::uint8_t { debug, info, warning, error };

struct Log {
  AccessLog access = AccessLog::errors;  ///< exchange/: errors = code 0, >= 400, or a flag
  LogFormat format = LogFormat::json;    ///< telemetry/access_log: form of the access log
  LogLevel level = LogLevel::info;       ///< telemetry/log: least level of the program log
  bool operator==(const Log&) const = default;
};

/// Counts and sizes. "Per worker" limits are each worker's own: workers share nothing.
struct Limits {
  std::size_t head_bytes = 60 * 1024;       ///< start line + headers; 1 KiB..1 MiB; http1/
  std::size_t header_count = 100;           ///< header lines, trailers alike; 10..1,000; http1/
  std::size_t connections = 10'000;         ///< downstream, per worker; 1..1,000,000; server/
  std::size_t requests_per_connection = 0;  ///< downstream; 0 = off, ..10^9; http1/, http2/
  /// Requests at a time on one HTTP/2 connection, downstream and upstream; 1..100,000; http2/
  std::size_t http2_streams = 1000;
  /// RST_STREAMs that an HTTP/2 peer may send in 10 s; 1..1,000,000;
  /// http2/
  std::size_t http2_resets = 1000;
  std::size_t upstream_connections = 1024;  ///< per service and worker; 1..1,000,000; upstream/
  std::size_t upstream_pending = 1024;      ///< waiting requests, same scope; 0..1,000,000
  std::size_t upstream_idle_connections = 1024;  ///< kept per endpoint and worker; 0..1,000,000
  /// Retries under way, in percent of the requests in flight to that service (at least 3 are
  /// always allowed); 0 = no retries, ..100; upstream/retry_budget.
  std::size_t retry_budget = 20;
  bool operator==(const Limits&) const = default;
};

/// 0 = off where allowed ("may be 0"); else 1 ms..24 h.
struct Timeouts {
  Milliseconds header{10'000};  ///< first byte of a head to its last; http1/ (408)
  /// From a request's head on: nothing of it or of its response moves; may be 0 (SI)
  Milliseconds body_idle{60'000};
  /// Nothing moves in an upgraded connection (WebSocket), or in one passed through as TCP; may be
  /// 0.
  Milliseconds tunnel_idle{3'600'000};
  Milliseconds request{0};             ///< whole request, head to last byte; may be 0 (504 UT)
  Milliseconds connect{5'000};         ///< TCP connect upstream; upstream/ (503 UF)
  Milliseconds tls{10'000};            ///< detection + handshake, each side; server/, upstream/
  Milliseconds idle{75'000};           ///< downstream without a request; may be 0; http1/
  Milliseconds upstream_idle{55'000};  ///< pooled connection unused; may be 0 = no limit
  /// An HTTP/2 connection, either side, on which nothing arrives gets a PING; may be 0
  Milliseconds http2_keepalive{360'000};
  Milliseconds upstream_max_age{
      3'600'000};               ///< pooled connection since connect; may be 0 = no limit
  Milliseconds drain{30'000};   ///< from SIGTERM (after drain_delay) to the abort
  Milliseconds drain_delay{0};  ///< readiness 503 this long before draining; may be 0
  bool operator==(const Timeouts&) const = default;
};

struct Config {
  Workload workload;
  Inbound inbound;
  Outbound outbound;
  Interception interception = Interception::none;  ///< not reloadable; server/
  Detection detection;
  Dns dns;
  Mtls mtls;
  Stats stats;
  Agent agent;
  Log log;
  Limits limits;
  Timeouts timeouts;
  unsigned workers = 1;  ///< 1..64; default: the cores, at most 2; not reloadable (server/)
  bool operator==(const Config&) const = default;
};

}  // namespace proxy::config
