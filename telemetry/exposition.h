// The numbers of one moment, and the prometheus families and text they make. Not the counting.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include "telemetry/registry.h"
#include "telemetry/series.h"

namespace telemetry {

using SeriesNumbers = std::array<std::uint64_t, kSeriesCells>;

struct Snapshot {
  struct Row {
    Registry::Names names;
    SeriesNumbers numbers{};
  };
  // The rows of one of Istio's families (0 .. kIstioFamilies - 1), which has a metric of each.
  const std::vector<Row>& rows_of(std::size_t family) const noexcept;
  std::vector<Row>& rows_of(SeriesKind kind) noexcept;

  std::vector<Row> rows;                      // of requests
  std::vector<Row> message_rows;              // of gRPC messages
  std::vector<Row> tcp_rows;                  // of TCP connections
  std::vector<prometheus::MetricFamily> own;  // all other families, complete
};

// The 25 labels of Istio's HTTP families in Istio's order; only the first 20 for messages,
// and no codes for TCP.
std::vector<prometheus::ClientMetric::Label> istio_labels(const Registry::Names& names);

// An Istio family (0 .. kIstioFamilies - 1) without metrics, and the metric of one row.
prometheus::MetricFamily istio_family(std::size_t family);
prometheus::ClientMetric istio_value(std::size_t family, const Snapshot::Row& row);

// Number of sample lines that the text of a family has.
std::size_t sample_lines(const prometheus::MetricFamily& family);
inline constexpr std::size_t kSamplesPerRow = 1 + 3 * (kBuckets + 2);
inline constexpr std::size_t kSamplesPerMessageRow = 2;
inline constexpr std::size_t kSamplesPerTcpRow = 4;

// Appends the text of one family; with `headings` off, its samples only.
void append_text(const prometheus::MetricFamily& family, bool headings, std::string& out);

}  // namespace telemetry
