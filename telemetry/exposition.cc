// Implementation of exposition.h and of Scrape.
#include "telemetry/exposition.h"

#include <limits>
#include <ostream>
#include <streambuf>
#include <utility>

#include <fmt/format.h>
#include <prometheus/text_serializer.h>

#include "telemetry/catalog.h"
#include "telemetry/collector.h"

namespace telemetry {
namespace {

using Label = prometheus::ClientMetric::Label;

constexpr std::string_view kOverflow = "_overflow";

// Lets the serializer write straight into a string, leaving out the first `skip` lines.
class StringSink final : public std::streambuf {
 public:
  StringSink(std::string& out, int skip) : out_(out), skip_(skip) {}

 protected:
  int_type overflow(int_type ch) override {
    if (traits_type::eq_int_type(ch, traits_type::eof())) return traits_type::not_eof(ch);
    const char byte = traits_type::to_char_type(ch);
    xsputn(&byte, 1);
    return ch;
  }
  std::streamsize xsputn(const char* bytes, std::streamsize count) override {
    std::string_view text(bytes, static_cast<std::size_t>(count));
    while (skip_ > 0 && !text.empty()) {
      const std::size_t end = text.find('\n');
      if (end == std::string_view::npos) return count;
      text.remove_prefix(end + 1);
      --skip_;
    }
    out_ += text;
    return count;
  }

 private:
  std::string& out_;
  int skip_;
};

struct End {
  const WorkloadLabels& workload;
  const std::string& principal;
};

constexpr std::string_view kUnknown = "unknown";

void append_source(std::vector<Label>& labels, const End& side) {
  labels.push_back({"source_workload", side.workload.workload});
  labels.push_back({"source_canonical_service", side.workload.canonical_service});
  labels.push_back({"source_canonical_revision", side.workload.canonical_revision});
  labels.push_back({"source_workload_namespace", side.workload.workload_namespace});
  labels.push_back({"source_principal", side.principal});
  labels.push_back({"source_app", side.workload.app});
  labels.push_back({"source_version", side.workload.version});
  labels.push_back({"source_cluster", side.workload.cluster});
}

void append_destination(std::vector<Label>& labels, const End& side,
                        const DestinationLabels& destination) {
  labels.push_back({"destination_workload", side.workload.workload});
  labels.push_back({"destination_workload_namespace", side.workload.workload_namespace});
  labels.push_back({"destination_principal", side.principal});
  labels.push_back({"destination_app", side.workload.app});
  labels.push_back({"destination_version", side.workload.version});
  labels.push_back({"destination_service", destination.service});
  labels.push_back({"destination_canonical_service", side.workload.canonical_service});
  labels.push_back({"destination_canonical_revision", side.workload.canonical_revision});
  labels.push_back({"destination_service_name", destination.service_name});
  // Istio: where no service is known to say it, that of the workload.
  labels.push_back({"destination_service_namespace", destination.service_namespace == kUnknown
                                                         ? side.workload.workload_namespace
                                                         : destination.service_namespace});
  labels.push_back({"destination_cluster", side.workload.cluster});
}

std::string grpc_text(std::int16_t status) {
  if (status == kNoGrpc) return {};
  if (status == kOverflowGrpc) return std::string(kOverflow);
  return fmt::format_int(status).str();
}

prometheus::ClientMetric::Histogram histogram(const SeriesNumbers& numbers, std::size_t first,
                                              double sum) {
  prometheus::ClientMetric::Histogram histogram;
  histogram.bucket.reserve(kBuckets);
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    count += numbers[first + i];
    const double bound =
        i < kIstioBounds.size() ? kIstioBounds[i] : std::numeric_limits<double>::infinity();
    histogram.bucket.push_back({.cumulative_count = count, .upper_bound = bound});
  }
  histogram.sample_count = count;
  histogram.sample_sum = sum;
  return histogram;
}

}  // namespace

const std::vector<Snapshot::Row>& Snapshot::rows_of(std::size_t family) const noexcept {
  if (family >= kFirstTcpFamily) return tcp_rows;
  return family < kRequestFamilies ? rows : message_rows;
}

std::vector<Snapshot::Row>& Snapshot::rows_of(SeriesKind kind) noexcept {
  if (kind == SeriesKind::connections) return tcp_rows;
  return kind == SeriesKind::messages ? message_rows : rows;
}

std::vector<Label> istio_labels(const Registry::Names& names) {
  static const std::string overflow(kOverflow);
  static const WorkloadLabels overflow_workload{overflow, overflow, overflow, overflow,
                                                overflow, overflow, overflow};
  static const DestinationLabels overflow_destination{overflow, overflow, overflow};
  const SeriesKey& key = names.key;
  const bool known = names.party && names.destination && names.own;
  const End own =
      known ? End{*names.own, names.party->own_principal} : End{overflow_workload, overflow};
  const End peer = known ? End{names.party->workload, names.party->peer_principal}
                         : End{overflow_workload, overflow};
  const bool outbound = key.reporter == Reporter::source;
  const bool last_resort = key.response_code == kOverflowCode;

  std::vector<Label> labels;
  labels.reserve(25);
  labels.push_back({"reporter", std::string(text(key.reporter))});
  append_source(labels, outbound ? own : peer);
  append_destination(labels, outbound ? peer : own,
                     known ? *names.destination : overflow_destination);
  if (key.kind == SeriesKind::messages) return labels;
  const auto kept = [last_resort](const std::string& value) {
    return last_resort ? overflow : value;
  };
  labels.push_back({"request_protocol", kept(std::string(text(key.protocol)))});
  if (key.kind == SeriesKind::requests) {
    labels.push_back({"response_code", kept(fmt::format_int(key.response_code).str())});
    labels.push_back({"grpc_response_status", grpc_text(key.grpc_status)});
  }
  labels.push_back({"response_flags", kept(text(Flags::from_bits(key.flags)))});
  labels.push_back({"connection_security_policy", kept(std::string(text(key.policy)))});
  return labels;
}

prometheus::MetricFamily istio_family(std::size_t family) {
  const Metric& metric = istio_metric(family);
  prometheus::MetricFamily result;
  result.name = metric.name;
  result.help = metric.help;
  const bool counter = family == 0 || family >= kRequestFamilies;
  result.type = counter ? prometheus::MetricType::Counter : prometheus::MetricType::Histogram;
  return result;
}

prometheus::ClientMetric istio_value(std::size_t family, const Snapshot::Row& row) {
  prometheus::ClientMetric value;
  value.label = istio_labels(row.names);
  const SeriesNumbers& numbers = row.numbers;
  if (family == 0) {
    value.counter.value = static_cast<double>(numbers[kRequestsCell]);
    return value;
  }
  if (family >= kFirstTcpFamily) {
    value.counter.value = static_cast<double>(numbers[kTcpCell + family - kFirstTcpFamily]);
    return value;
  }
  if (family >= kRequestFamilies) {
    const std::size_t cell = kRequestMessagesCell + family - kRequestFamilies;
    value.counter.value = static_cast<double>(numbers[cell]);
    return value;
  }
  constexpr std::array<std::size_t, 3> kFirst{kDurationCell, kRequestBytesCell, kResponseBytesCell};
  const double sum = static_cast<double>(numbers[kSumCell + family - 1]);
  value.histogram = histogram(numbers, kFirst[family - 1], family == 1 ? sum / 1000 : sum);
  return value;
}

std::size_t sample_lines(const prometheus::MetricFamily& family) {
  if (family.type != prometheus::MetricType::Histogram) return family.metric.size();
  std::size_t lines = 0;
  for (const auto& metric : family.metric) lines += metric.histogram.bucket.size() + 2;
  return lines;
}

void append_text(const prometheus::MetricFamily& family, bool headings, std::string& out) {
  StringSink sink(out, headings ? 0 : 2);  // # HELP and # TYPE
  std::ostream stream(&sink);
  prometheus::TextSerializer().Serialize(stream, {family});
}

Scrape::Scrape(std::unique_ptr<const Snapshot> snapshot) : snapshot_(std::move(snapshot)) {}
Scrape::Scrape(Scrape&&) noexcept = default;
Scrape& Scrape::operator=(Scrape&&) noexcept = default;
Scrape::~Scrape() = default;

bool Scrape::next(std::string& out) {
  const std::size_t start = out.size();
  while (family_ < kIstioFamilies) {
    const auto& rows = snapshot_->rows_of(family_);
    if (rows.empty()) {
      ++family_;
      continue;
    }
    prometheus::MetricFamily family = istio_family(family_);
    family.metric.push_back(istio_value(family_, rows[row_]));
    append_text(family, row_ == 0, out);
    if (++row_ == rows.size()) {
      row_ = 0;
      ++family_;
    }
    if (out.size() - start >= kPieceBytes) return true;
  }
  const auto& own = snapshot_->own;
  while (family_ - kIstioFamilies < own.size()) {
    const prometheus::MetricFamily& family = own[family_ - kIstioFamilies];
    ++family_;
    if (!with_process_ && family.name.starts_with("process_")) continue;
    append_text(family, true, out);
    if (out.size() - start >= kPieceBytes) return true;
  }
  return out.size() > start;
}

}  // namespace telemetry
