// Names and label texts of the metrics of metrics.def. Not their values.
#include "telemetry/catalog.h"

namespace telemetry {
namespace {

using Texts = std::span<const std::string_view>;

constexpr std::array<std::string_view, 2> kDirections{"inbound", "outbound"};
constexpr std::array<std::string_view, 10> kCauses{
    "ok",        "resumed", "no_certificate", "unknown_ca", "expired",
    "wrong_san", "version", "not_tls",        "timeout",    "other"};
constexpr std::array<std::string_view, 7> kOutcomes{"ok",      "refused", "timeout", "unreachable",
                                                    "resolve", "tls",     "other"};
constexpr std::array<std::string_view, 13> kRefused{
    "start_line",        "method", "target",    "version", "host",     "header", "content_length",
    "transfer_encoding", "chunk",  "head_size", "body",    "response", "other"};
constexpr std::array<std::string_view, 7> kLimits{
    "connections",      "requests_per_connection", "head", "upstream_connections",
    "pending_requests", "file_descriptors",        "other"};
constexpr std::array<std::string_view, 9> kTimeouts{"header",        "body_idle", "request",
                                                    "connect",       "tls",       "idle",
                                                    "upstream_idle", "drain",     "grpc_deadline"};
constexpr std::array<std::string_view, 2> kWays{"received", "sent"};
constexpr std::array<std::string_view, 2> kUses{"fresh", "reused"};
constexpr std::array<std::string_view, 4> kMetadata{"decoded", "cached", "absent", "invalid"};
constexpr std::array<std::string_view, 5> kDetected{"tls", "http1", "http2", "tcp", "server_first"};
constexpr std::array<std::string_view, 2> kSides{"downstream", "upstream"};
constexpr std::array<std::string_view, 15> kHttp2Codes{"NO_ERROR",
                                                       "PROTOCOL_ERROR",
                                                       "INTERNAL_ERROR",
                                                       "FLOW_CONTROL_ERROR",
                                                       "SETTINGS_TIMEOUT",
                                                       "STREAM_CLOSED",
                                                       "FRAME_SIZE_ERROR",
                                                       "REFUSED_STREAM",
                                                       "CANCEL",
                                                       "COMPRESSION_ERROR",
                                                       "CONNECT_ERROR",
                                                       "ENHANCE_YOUR_CALM",
                                                       "INADEQUATE_SECURITY",
                                                       "HTTP_1_1_REQUIRED",
                                                       "other"};
constexpr std::array<std::string_view, 16> kFloods{
    "rapid_reset", "provoked_reset", "refused_streams", "continuation",
    "settings",    "ping",           "empty_data",      "zero_window",
    "hpack_bomb",  "header_list",    "window_overflow", "window_update",
    "priority",    "goaway",         "extension",       "outbound_queue"};
static_assert(kCauses.size() == kLabelCount<HandshakeCause>);
static_assert(kOutcomes.size() == kLabelCount<ConnectOutcome>);
static_assert(kRefused.size() == kLabelCount<RefusedKind>);
static_assert(kLimits.size() == kLabelCount<Limit>);
static_assert(kTimeouts.size() == kLabelCount<Timeout>);
static_assert(kMetadata.size() == kLabelCount<MetadataResult>);
static_assert(kDetected.size() == kLabelCount<Detected>);
static_assert(kSides.size() == kLabelCount<Side>);
static_assert(kHttp2Codes.size() == kLabelCount<Http2Code>);
static_assert(kFloods.size() == kLabelCount<Flood>);

LabelPairs one(std::string_view name, Texts texts, std::size_t cell) {
  return {{std::string(name), std::string(texts[cell])}};
}

LabelPairs two(std::string_view name, Texts texts, std::string_view second, Texts second_texts,
               std::size_t cell) {
  return {{std::string(name), std::string(texts[cell / second_texts.size()])},
          {std::string(second), std::string(second_texts[cell % second_texts.size()])}};
}

#define ISTIO_COUNTER(id, name, help)
#define ISTIO_HISTOGRAM(id, name, help)
#define OWN_COUNTER(id, name, help, space) Metric{name, help, LabelSpace::space},
#define OWN_GAUGE(id, name, help, space)
#define OWN_HISTOGRAM(id, name, help)
#define PROCESS_COUNTER(id, name, help)
#define PROCESS_GAUGE(id, name, help)
constexpr auto kCounters = std::to_array<Metric>({
#include "telemetry/metrics.def"
});
#undef OWN_COUNTER
#undef OWN_GAUGE
#define OWN_COUNTER(id, name, help, space)
#define OWN_GAUGE(id, name, help, space) Metric{name, help, LabelSpace::space},
constexpr auto kGauges = std::to_array<Metric>({
#include "telemetry/metrics.def"
});
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#define OWN_GAUGE(id, name, help, space)
#define OWN_HISTOGRAM(id, name, help) Metric{name, help},
constexpr auto kHistograms = std::to_array<Metric>({
#include "telemetry/metrics.def"
});
#undef OWN_HISTOGRAM
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE
#define OWN_HISTOGRAM(id, name, help)
#define PROCESS_COUNTER(id, name, help) Metric{name, help},
#define PROCESS_GAUGE(id, name, help) Metric{name, help},
constexpr auto kProcess = std::to_array<Metric>({
#include "telemetry/metrics.def"
});
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE
#undef ISTIO_COUNTER
#undef ISTIO_HISTOGRAM
#define PROCESS_COUNTER(id, name, help)
#define PROCESS_GAUGE(id, name, help)
#define ISTIO_COUNTER(id, name, help) Metric{name, help},
#define ISTIO_HISTOGRAM(id, name, help) Metric{name, help},
constexpr auto kIstio = std::to_array<Metric>({
#include "telemetry/metrics.def"
});
static_assert(kIstio.size() == kIstioFamilies);
#undef ISTIO_COUNTER
#undef ISTIO_HISTOGRAM
#undef OWN_COUNTER
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE
#define ISTIO_COUNTER(id, name, help) name,
#define ISTIO_HISTOGRAM(id, name, help) name,
#define OWN_COUNTER(id, name, help, space) name,
#define OWN_GAUGE(id, name, help, space) name,
#define OWN_HISTOGRAM(id, name, help) name,
#define PROCESS_COUNTER(id, name, help) name,
#define PROCESS_GAUGE(id, name, help) name,
constexpr auto kNames = std::to_array<std::string_view>({
#include "telemetry/metrics.def"
});

}  // namespace

const Metric& metric(Counter id) noexcept {
  return kCounters[static_cast<std::size_t>(id)];
}
const Metric& metric(Gauge id) noexcept {
  return kGauges[static_cast<std::size_t>(id)];
}
const Metric& metric(Histogram id) noexcept {
  return kHistograms[static_cast<std::size_t>(id)];
}
const Metric& metric(ProcessMetric id) noexcept {
  return kProcess[static_cast<std::size_t>(id)];
}
const Metric& istio_metric(std::size_t family) noexcept {
  return kIstio[family];
}
std::span<const std::string_view> metric_names() noexcept {
  return kNames;
}

LabelPairs cell_labels(LabelSpace space, std::size_t cell) {
  switch (space) {
    case LabelSpace::none:
      return {};
    case LabelSpace::direction:
      return one("direction", kDirections, cell);
    case LabelSpace::direction_cause:
      return two("direction", kDirections, "cause", kCauses, cell);
    case LabelSpace::connect_outcome:
      return one("outcome", kOutcomes, cell);
    case LabelSpace::connection_use:
      return one("connection", kUses, cell);
    case LabelSpace::direction_way:
      return two("direction", kDirections, "way", kWays, cell);
    case LabelSpace::direction_refused:
      return two("direction", kDirections, "kind", kRefused, cell);
    case LabelSpace::limit:
      return one("limit", kLimits, cell);
    case LabelSpace::timeout:
      return one("timeout", kTimeouts, cell);
    case LabelSpace::rule:
    case LabelSpace::rule_mode:
      return {};
    case LabelSpace::metadata_result:
      return one("result", kMetadata, cell);
    case LabelSpace::direction_detected:
      return two("direction", kDirections, "protocol", kDetected, cell);
    case LabelSpace::side:
      return one("side", kSides, cell);
    case LabelSpace::side_way_code: {
      LabelPairs labels = two("side", kSides, "way", kWays, cell / kHttp2Codes.size());
      labels.emplace_back("code", kHttp2Codes[cell % kHttp2Codes.size()]);
      return labels;
    }
    case LabelSpace::flood:
      return one("kind", kFloods, cell);
  }
  return {};
}

}  // namespace telemetry
