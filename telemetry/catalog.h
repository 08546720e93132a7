// Ids of the metrics of metrics.def: names, help, label spaces, bucket bounds.
// Not their values: shard.h holds those.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "telemetry/facts.h"

namespace telemetry {

// Sets of label values that are known when compiling. One cell each.
enum class LabelSpace : std::uint8_t {
  none,
  direction,
  direction_cause,
  connect_outcome,
  connection_use,
  direction_way,
  direction_refused,
  limit,
  timeout,
  rule,
  rule_mode,
  metadata_result,
  direction_detected,
  side,
  side_way_code,
  flood
};

#define ISTIO_COUNTER(id, name, help)
#define ISTIO_HISTOGRAM(id, name, help)
#define OWN_COUNTER(id, name, help, space)
#define OWN_GAUGE(id, name, help, space)
#define OWN_HISTOGRAM(id, name, help)
#define PROCESS_COUNTER(id, name, help)
#define PROCESS_GAUGE(id, name, help)

enum class Counter : std::uint8_t {
#undef OWN_COUNTER
#define OWN_COUNTER(id, name, help, space) id,
#include "telemetry/metrics.def"
#undef OWN_COUNTER
#define OWN_COUNTER(id, name, help, space)
};
enum class Gauge : std::uint8_t {
#undef OWN_GAUGE
#define OWN_GAUGE(id, name, help, space) id,
#include "telemetry/metrics.def"
#undef OWN_GAUGE
#define OWN_GAUGE(id, name, help, space)
};
enum class Histogram : std::uint8_t {
#undef OWN_HISTOGRAM
#define OWN_HISTOGRAM(id, name, help) id,
#include "telemetry/metrics.def"
#undef OWN_HISTOGRAM
#define OWN_HISTOGRAM(id, name, help)
};
enum class ProcessMetric : std::uint8_t {
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE
#define PROCESS_COUNTER(id, name, help) id,
#define PROCESS_GAUGE(id, name, help) id,
#include "telemetry/metrics.def"
};

#undef ISTIO_COUNTER
#undef ISTIO_HISTOGRAM
#undef OWN_COUNTER
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE

// At most this many authorization rules have a name of their own; later ones are "_other".
inline constexpr std::size_t kMaxRules = 128;

// How many values a label enumeration has; used to number the cells of a label space.
template <class Label>
inline constexpr std::size_t kLabelCount = 0;
template <>
inline constexpr std::size_t kLabelCount<Direction> = 2;
template <>
inline constexpr std::size_t kLabelCount<HandshakeCause> = 10;
template <>
inline constexpr std::size_t kLabelCount<ConnectOutcome> = 7;
template <>
inline constexpr std::size_t kLabelCount<RefusedKind> = 13;
template <>
inline constexpr std::size_t kLabelCount<Limit> = 7;
template <>
inline constexpr std::size_t kLabelCount<Timeout> = 9;
template <>
inline constexpr std::size_t kLabelCount<DenyMode> = 2;
template <>
inline constexpr std::size_t kLabelCount<Way> = 2;
template <>
inline constexpr std::size_t kLabelCount<ConnectionUse> = 2;
template <>
inline constexpr std::size_t kLabelCount<MetadataResult> = 4;
template <>
inline constexpr std::size_t kLabelCount<Detected> = 5;
template <>
inline constexpr std::size_t kLabelCount<Side> = 2;
template <>
inline constexpr std::size_t kLabelCount<Http2Code> = 15;
template <>
inline constexpr std::size_t kLabelCount<Flood> = 16;

constexpr std::size_t cells(LabelSpace space) noexcept {
  switch (space) {
    case LabelSpace::none:
      return 1;
    case LabelSpace::direction:
      return 2;
    case LabelSpace::direction_cause:
      return 2 * kLabelCount<HandshakeCause>;
    case LabelSpace::connect_outcome:
      return kLabelCount<ConnectOutcome>;
    case LabelSpace::connection_use:
      return kLabelCount<ConnectionUse>;
    case LabelSpace::direction_way:
      return 4;
    case LabelSpace::direction_refused:
      return 2 * kLabelCount<RefusedKind>;
    case LabelSpace::limit:
      return kLabelCount<Limit>;
    case LabelSpace::timeout:
      return kLabelCount<Timeout>;
    case LabelSpace::rule:
      return kMaxRules;
    case LabelSpace::rule_mode:
      return kMaxRules * 2;
    case LabelSpace::metadata_result:
      return kLabelCount<MetadataResult>;
    case LabelSpace::direction_detected:
      return 2 * kLabelCount<Detected>;
    case LabelSpace::side:
      return kLabelCount<Side>;
    case LabelSpace::side_way_code:
      return kLabelCount<Side> * kLabelCount<Way> * kLabelCount<Http2Code>;
    case LabelSpace::flood:
      return kLabelCount<Flood>;
  }
  return 0;
}

// The label space whose cells these label types number, in this order.
template <class... Labels>
inline constexpr LabelSpace kSpaceOf = LabelSpace::rule_mode;
template <>
inline constexpr LabelSpace kSpaceOf<> = LabelSpace::none;
template <>
inline constexpr LabelSpace kSpaceOf<Direction> = LabelSpace::direction;
template <>
inline constexpr LabelSpace kSpaceOf<Direction, HandshakeCause> = LabelSpace::direction_cause;
template <>
inline constexpr LabelSpace kSpaceOf<ConnectOutcome> = LabelSpace::connect_outcome;
template <>
inline constexpr LabelSpace kSpaceOf<ConnectionUse> = LabelSpace::connection_use;
template <>
inline constexpr LabelSpace kSpaceOf<Direction, Way> = LabelSpace::direction_way;
template <>
inline constexpr LabelSpace kSpaceOf<Direction, RefusedKind> = LabelSpace::direction_refused;
template <>
inline constexpr LabelSpace kSpaceOf<Limit> = LabelSpace::limit;
template <>
inline constexpr LabelSpace kSpaceOf<Timeout> = LabelSpace::timeout;
template <>
inline constexpr LabelSpace kSpaceOf<MetadataResult> = LabelSpace::metadata_result;
template <>
inline constexpr LabelSpace kSpaceOf<Direction, Detected> = LabelSpace::direction_detected;
template <>
inline constexpr LabelSpace kSpaceOf<Side> = LabelSpace::side;
template <>
inline constexpr LabelSpace kSpaceOf<Side, Way, Http2Code> = LabelSpace::side_way_code;
template <>
inline constexpr LabelSpace kSpaceOf<Flood> = LabelSpace::flood;

struct Metric {
  std::string_view name;
  std::string_view help;
  LabelSpace space = LabelSpace::none;
};

const Metric& metric(Counter id) noexcept;
const Metric& metric(Gauge id) noexcept;
const Metric& metric(Histogram id) noexcept;
const Metric& metric(ProcessMetric id) noexcept;
// Istio's families: the counter of requests, the three histograms, the two of gRPC messages, then
// the four of TCP connections.
inline constexpr std::size_t kRequestFamilies = 4;
inline constexpr std::size_t kFirstTcpFamily = kRequestFamilies + 2;
inline constexpr std::size_t kIstioFamilies = kFirstTcpFamily + 4;
const Metric& istio_metric(std::size_t family) noexcept;

// Every metric name, in the order of metrics.def.
std::span<const std::string_view> metric_names() noexcept;

using LabelPairs = std::vector<std::pair<std::string, std::string>>;

// The labels of one cell of a label space. Rules are not here: their names come at run time.
LabelPairs cell_labels(LabelSpace space, std::size_t cell);

// Number of the cell of these label values within their space; order as in LabelSpace's name.
template <class... Labels>
constexpr std::size_t cell_of(Labels... labels) noexcept {
  static_assert(((kLabelCount<Labels> > 0) && ...));
  std::size_t cell = 0;
  ((cell = cell * kLabelCount<Labels> + static_cast<std::size_t>(labels)), ...);
  return cell;
}

// First cell of each metric within a shard's arrays, and the sizes of these.
#define ISTIO_COUNTER(id, name, help)
#define ISTIO_HISTOGRAM(id, name, help)
#define OWN_COUNTER(id, name, help, space) cells(LabelSpace::space),
#define OWN_GAUGE(id, name, help, space)
#define OWN_HISTOGRAM(id, name, help)
#define PROCESS_COUNTER(id, name, help)
#define PROCESS_GAUGE(id, name, help)
inline constexpr auto kCounterWidths = std::to_array<std::size_t>({
#include "telemetry/metrics.def"
});
#undef OWN_COUNTER
#define OWN_COUNTER(id, name, help, space) LabelSpace::space,
inline constexpr auto kCounterSpaces = std::to_array<LabelSpace>({
#include "telemetry/metrics.def"
});
#undef OWN_COUNTER
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#define OWN_COUNTER(id, name, help, space)
#define OWN_GAUGE(id, name, help, space) cells(LabelSpace::space),
#define OWN_HISTOGRAM(id, name, help)
inline constexpr auto kGaugeWidths = std::to_array<std::size_t>({
#include "telemetry/metrics.def"
});
#undef OWN_GAUGE
#define OWN_GAUGE(id, name, help, space) LabelSpace::space,
inline constexpr auto kGaugeSpaces = std::to_array<LabelSpace>({
#include "telemetry/metrics.def"
});
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#define OWN_GAUGE(id, name, help, space)
#define OWN_HISTOGRAM(id, name, help) 1,
inline constexpr std::size_t kHistogramCount = std::to_array<std::size_t>({
#include "telemetry/metrics.def"
                                                                          })
                                                   .size();
#undef ISTIO_COUNTER
#undef ISTIO_HISTOGRAM
#undef OWN_COUNTER
#undef OWN_GAUGE
#undef OWN_HISTOGRAM
#undef PROCESS_COUNTER
#undef PROCESS_GAUGE

template <std::size_t N>
constexpr std::array<std::size_t, N + 1> running_sums(const std::array<std::size_t, N>& widths) {
  std::array<std::size_t, N + 1> sums{};
  for (std::size_t i = 0; i < N; ++i) sums[i + 1] = sums[i] + widths[i];
  return sums;
}
inline constexpr auto kCounterOffsets = running_sums(kCounterWidths);
inline constexpr auto kGaugeOffsets = running_sums(kGaugeWidths);
inline constexpr std::size_t kCounterCells = kCounterOffsets.back();
inline constexpr std::size_t kGaugeCells = kGaugeOffsets.back();

// Istio's bounds: milliseconds of a duration, bytes of a size.
inline constexpr std::array<double, 19> kIstioBounds{
    0.5,  1,    5,     10,    25,    50,     100,    250,     500,    1000,
    2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000};
// Bounds of our own durations, in microseconds.
inline constexpr std::array<std::uint64_t, 16> kOwnBoundsUs{
    100,   250,    500,    1000,   2500,    5000,    10000,   25000,
    50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000};

// A counter or gauge that takes exactly these labels; anything else does not compile.
template <class... Labels>
struct CounterCell {
  consteval CounterCell(Counter id)  // NOLINT: written as the bare enumerator
      : first(kCounterOffsets[static_cast<std::size_t>(id)]) {
    if (kCounterSpaces[static_cast<std::size_t>(id)] != kSpaceOf<Labels...>) throw "other labels";
  }
  std::size_t first;
};
template <class... Labels>
struct GaugeCell {
  consteval GaugeCell(Gauge id)  // NOLINT: written as the bare enumerator
      : first(kGaugeOffsets[static_cast<std::size_t>(id)]) {
    if (kGaugeSpaces[static_cast<std::size_t>(id)] != kSpaceOf<Labels...>) throw "other labels";
  }
  std::size_t first;
};

}  // namespace telemetry
