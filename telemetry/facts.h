// What the layers above tell: facts about requests, connections, handshakes, connects.
// Not how they are counted: record.h maps them onto metrics, access_log.h onto lines.
#pragma once

#include <cstdint>
#include <limits>
#include <string_view>

#include "telemetry/labels.h"

namespace telemetry {

// Interned labels: valid in every shard of the collector that made them. A reference whose labels
// were dropped meanwhile (registry.h says when) counts as overflow; Shard::alive() tells.
struct PartyRef {
  std::uint64_t id = 0;  // index in the low 24 bits, a generation above; 0 = overflow
  constexpr bool operator==(const PartyRef&) const noexcept = default;
};
struct DestinationRef {
  std::uint64_t id = 0;
  constexpr bool operator==(const DestinationRef&) const noexcept = default;
};
struct RuleRef {
  std::uint16_t id = 0;
};
struct OwnRef {
  std::uint8_t id = 0;
};

// grpc_status of a request that is not gRPC, or whose status nobody said: an empty label.
inline constexpr std::int16_t kNoGrpc = std::numeric_limits<std::int16_t>::min();

// One finished request. Byte counts are those of the downstream side, heads and framing included.
struct RequestFacts {
  Reporter reporter = Reporter::destination;
  Protocol protocol = Protocol::http;
  SecurityPolicy policy = SecurityPolicy::unknown;
  std::uint16_t response_code = 0;  // 0: no response was produced
  std::int16_t grpc_status = kNoGrpc;
  PartyRef peer;
  DestinationRef destination;
  Flags flags;
  std::uint64_t start_unix_us = 0;
  std::uint64_t duration_us = 0;    // first byte of the request line to the end of the stream
  std::uint64_t first_byte_us = 0;  // until the response head went out; 0: it never did
  std::uint64_t upstream_us = 0;    // until the upstream's response head came; 0: it never did
  std::uint64_t request_bytes = 0;
  std::uint64_t response_bytes = 0;

  // For the access log only; may be empty; read during the call alone. Bytes as they came: the
  // log escapes them.
  std::string_view method;
  std::string_view authority;
  std::string_view path;
  std::string_view protocol_text;  // "HTTP/1.1"
  std::string_view upstream_address;
  std::string_view request_id;
  std::string_view trace_id;  // empty when no traceparent came
  std::string_view peer_principal;
  std::string_view response_code_details;
};

// Messages of one gRPC stream that no report has told of yet. Told while the stream lives and at
// its end, also when there are none, so that the series are there from the first report on.
struct MessageFacts {
  Reporter reporter = Reporter::destination;
  PartyRef peer;
  DestinationRef destination;
  std::uint64_t request_messages = 0;
  std::uint64_t response_messages = 0;
};

// What happened to one TCP connection since it was told of last. Its labels, the flags among them,
// are those of the moment it was first told of, and never change. Bytes are the downstream's.
struct TcpFacts {
  Reporter reporter = Reporter::destination;
  SecurityPolicy policy = SecurityPolicy::unknown;
  PartyRef peer;
  DestinationRef destination;
  Flags flags;
  bool opened = false;
  bool closed = false;
  std::uint64_t sent_bytes = 0;
  std::uint64_t received_bytes = 0;
};

// How a TLS handshake ended. `ok` and `resumed` are the good ends.
enum class HandshakeCause : std::uint8_t {
  ok,
  resumed,
  no_certificate,
  unknown_ca,
  expired,
  wrong_san,
  version,
  not_tls,
  timeout,
  other
};
struct HandshakeFacts {
  Direction direction = Direction::inbound;  // inbound: we were the server
  HandshakeCause cause = HandshakeCause::ok;
  std::uint64_t duration_us = 0;
};

// One downstream connection, told at its end.
struct ConnectionFacts {
  Direction direction = Direction::inbound;
  std::uint64_t duration_us = 0;
  std::uint64_t requests = 0;
};

// How an attempt to connect upstream ended; `ok` is counted when the connection is usable, that
// is after its TLS handshake.
enum class ConnectOutcome : std::uint8_t { ok, refused, timeout, unreachable, resolve, tls, other };
struct ConnectFacts {
  ConnectOutcome outcome = ConnectOutcome::ok;
  std::uint64_t duration_us = 0;
};

// Why a message was refused before it was a request (inbound words: what the peer sent).
enum class RefusedKind : std::uint8_t {
  start_line,
  method,
  target,
  version,
  host,
  header,
  content_length,
  transfer_encoding,
  chunk,
  head_size,
  body,
  response,
  other
};

enum class Limit : std::uint8_t {
  connections,
  requests_per_connection,
  head,  // its bytes or its number of fields
  upstream_connections,
  pending_requests,
  file_descriptors,
  other
};

enum class Timeout : std::uint8_t {
  header,
  body_idle,
  request,
  connect,
  tls,
  idle,
  upstream_idle,
  drain,
  grpc_deadline
};

enum class ReloadResult : std::uint8_t { accepted, rejected };
enum class Reload : std::uint8_t { configuration, certificates };
// How a lookup of an endpoint's name ended.
enum class DnsOutcome : std::uint8_t {
  resolved,
  not_found,
  no_data,
  server_failure,
  timeout,
  malformed,
  failed
};
enum class DenyMode : std::uint8_t { enforced, audit };
enum class Way : std::uint8_t { received, sent };
enum class ConnectionUse : std::uint8_t { fresh, reused };
enum class MetadataResult : std::uint8_t { decoded, cached, absent, invalid };
// What an intercepted connection was found to speak; server_first: its destination spoke first.
enum class Detected : std::uint8_t { tls, http1, http2, tcp, server_first };

// Which of its two connections an exchange's HTTP/2 is spoken on.
enum class Side : std::uint8_t { downstream, upstream };
// The error codes of RFC 9113 7, in their order.
enum class Http2Code : std::uint8_t {
  no_error,
  protocol_error,
  internal_error,
  flow_control_error,
  settings_timeout,
  stream_closed,
  frame_size_error,
  refused_stream,
  cancel,
  compression_error,
  connect_error,
  enhance_your_calm,
  inadequate_security,
  http_1_1_required,
  other
};
// What an HTTP/2 peer did too much of.
enum class Flood : std::uint8_t {
  rapid_reset,
  provoked_reset,
  refused_streams,
  continuation,
  settings,
  ping,
  empty_data,
  zero_window,
  hpack_bomb,
  header_list,
  window_overflow,
  window_update,
  priority,
  goaway,
  extension,
  outbound_queue
};

}  // namespace telemetry
