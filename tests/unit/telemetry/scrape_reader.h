// Reads the text format strictly, for tests. Not a general parser: one line, one sample.
#pragma once

#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "telemetry/collector.h"

namespace telemetry::testing {

struct Sample {
  std::string name;
  std::vector<std::pair<std::string, std::string>> labels;
  double value = 0;

  std::string label(std::string_view wanted) const {
    for (const auto& [key, text] : labels) {
      if (key == wanted) return text;
    }
    return "(absent)";
  }
};

inline Sample read_sample(std::string_view line) {
  Sample sample;
  const auto fail = [line] { throw std::runtime_error("bad line: " + std::string(line)); };
  const std::size_t name_end = line.find_first_of("{ ");
  if (name_end == std::string_view::npos) fail();
  sample.name = line.substr(0, name_end);
  std::size_t at = name_end;
  if (line[at] == '{') {
    ++at;
    while (at < line.size() && line[at] != '}') {
      const std::size_t equals = line.find("=\"", at);
      if (equals == std::string_view::npos) fail();
      std::string key(line.substr(at, equals - at));
      std::string text;
      for (at = equals + 2; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\') {
          ++at;
          text += line[at] == 'n' ? '\n' : line[at];
        } else {
          text += line[at];
        }
      }
      sample.labels.emplace_back(std::move(key), std::move(text));
      ++at;
      if (at < line.size() && line[at] == ',') ++at;
    }
    ++at;
  }
  if (at >= line.size() || line[at] != ' ') fail();
  const std::string number(line.substr(at + 1));
  char* end = nullptr;
  sample.value = std::strtod(number.c_str(), &end);
  if (end == number.c_str() || *end != '\0') fail();
  return sample;
}

inline std::vector<Sample> read_samples(std::string_view text) {
  std::vector<Sample> samples;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos) throw std::runtime_error("last line without an end");
    const std::string_view line = text.substr(0, end);
    if (!line.starts_with('#')) samples.push_back(read_sample(line));
    text.remove_prefix(end + 1);
  }
  return samples;
}

inline std::string whole_text(Scrape scrape) {
  std::string text;
  while (scrape.next(text)) {
  }
  return text;
}

// Sum over all series of a name that have all the labels given.
inline double sum_of(const std::vector<Sample>& samples, std::string_view name,
                     const std::map<std::string, std::string>& labels = {}) {
  double sum = 0;
  for (const Sample& sample : samples) {
    if (sample.name != name) continue;
    bool all = true;
    for (const auto& [key, text] : labels) all = all && sample.label(key) == text;
    if (all) sum += sample.value;
  }
  return sum;
}

// The numbers of the ledger, without making text.
struct Ledger {
  double started = 0;
  double completed = 0;
  double in_flight = 0;
  double expired = 0;
  double requests = 0;   // sum of istio_requests_total
  double durations = 0;  // sum of the counts of the duration histogram
  double sent = 0;       // sum of istio_response_bytes

  bool balanced() const {
    return started == completed + in_flight && completed == requests + expired &&
           requests == durations;
  }
};

inline Ledger read_ledger(const Collector& collector) {
  Ledger ledger;
  for (const auto& family : collector.Collect()) {
    const auto& metrics = family.metric;
    if (family.name == "istio_requests_total") {
      for (const auto& metric : metrics) ledger.requests += metric.counter.value;
    } else if (family.name == "istio_request_duration_milliseconds") {
      for (const auto& metric : metrics) {
        ledger.durations += static_cast<double>(metric.histogram.sample_count);
      }
    } else if (family.name == "istio_response_bytes") {
      for (const auto& metric : metrics) ledger.sent += metric.histogram.sample_sum;
    } else if (family.name == "hoplite_requests_started_total") {
      ledger.started = metrics[0].counter.value;
    } else if (family.name == "hoplite_requests_completed_total") {
      ledger.completed = metrics[0].counter.value;
    } else if (family.name == "hoplite_requests_in_flight") {
      ledger.in_flight = metrics[0].gauge.value;
    } else if (family.name == "hoplite_requests_expired_total") {
      ledger.expired = metrics[0].counter.value;
    }
  }
  return ledger;
}

inline std::size_t count_of(const std::vector<Sample>& samples, std::string_view name) {
  std::size_t count = 0;
  for (const Sample& sample : samples) count += sample.name == name ? 1 : 0;
  return count;
}

}  // namespace telemetry::testing
