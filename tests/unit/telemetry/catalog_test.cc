// The golden list of metric names, and that the README's table names exactly these.
#include "telemetry/catalog.h"

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/support/catch.h"

using namespace telemetry;

TEST_CASE("golden list of metrics", "[unit]") {
  const std::set<std::string> golden{"istio_requests_total",
                                     "istio_request_duration_milliseconds",
                                     "istio_request_bytes",
                                     "istio_response_bytes",
                                     "istio_request_messages_total",
                                     "istio_response_messages_total",
                                     "istio_build",
                                     "hoplite_requests_started_total",
                                     "hoplite_requests_completed_total",
                                     "hoplite_requests_in_flight",
                                     "hoplite_requests_expired_total",
                                     "hoplite_connections_accepted_total",
                                     "hoplite_connections_open",
                                     "hoplite_connection_duration_seconds",
                                     "hoplite_tls_handshakes_total",
                                     "hoplite_tls_handshake_duration_seconds",
                                     "hoplite_upstream_connects_total",
                                     "hoplite_upstream_connect_duration_seconds",
                                     "hoplite_upstream_connections_open",
                                     "hoplite_upstream_requests_total",
                                     "hoplite_retries_total",
                                     "hoplite_bytes_total",
                                     "hoplite_messages_refused_total",
                                     "hoplite_limits_hit_total",
                                     "hoplite_timeouts_total",
                                     "hoplite_requests_allowed_total",
                                     "hoplite_requests_denied_total",
                                     "hoplite_peer_metadata_total",
                                     "istio_tcp_connections_opened_total",
                                     "istio_tcp_connections_closed_total",
                                     "istio_tcp_sent_bytes_total",
                                     "istio_tcp_received_bytes_total",
                                     "hoplite_tcp_connections_open",
                                     "hoplite_tcp_peer_metadata_total",
                                     "hoplite_spliced_bytes_total",
                                     "hoplite_detections_total",
                                     "hoplite_eager_connects_total",
                                     "hoplite_loops_refused_total",
                                     "hoplite_access_log_lines_total",
                                     "hoplite_access_log_dropped_total",
                                     "hoplite_label_values_replaced_total",
                                     "hoplite_hosts_folded_total",
                                     "hoplite_requests_overflowed_total",
                                     "hoplite_http2_streams_open",
                                     "hoplite_http2_resets_total",
                                     "hoplite_http2_goaways_total",
                                     "hoplite_http2_flow_control_stalls_total",
                                     "hoplite_http2_floods_total",
                                     "hoplite_event_loop_lag_seconds",
                                     "hoplite_stats_connections_refused_total",
                                     "hoplite_dns_lookups_total",
                                     "hoplite_dns_addresses",
                                     "hoplite_dns_last_answer_timestamp_seconds",
                                     "hoplite_dns_endpoints",
                                     "hoplite_reloads_total",
                                     "hoplite_certificate_expiry_timestamp_seconds",
                                     "hoplite_label_sets",
                                     "hoplite_label_sets_limit",
                                     "hoplite_series",
                                     "hoplite_workers",
                                     "hoplite_build_info",
                                     "process_cpu_seconds_total",
                                     "process_resident_memory_bytes",
                                     "process_virtual_memory_bytes",
                                     "process_open_fds",
                                     "process_max_fds",
                                     "process_start_time_seconds"};
  std::set<std::string> names;
  for (const std::string_view name : metric_names()) {
    CHECK(names.emplace(name).second);
  }
  CHECK(names == golden);
}

TEST_CASE("the README's table names exactly the metrics there are", "[unit]") {
  std::ifstream readme(HOPLITE_SOURCE_DIR "/telemetry/README.md");
  REQUIRE(readme);
  std::vector<std::string> rows;
  std::string line;
  bool table = false;
  while (std::getline(readme, line)) {
    if (line.starts_with("| metric |")) table = true;
    if (line.empty()) table = false;
    if (!table || !line.starts_with("| `")) continue;
    const std::size_t end = line.find('`', 3);
    REQUIRE(end != std::string::npos);
    rows.push_back(line.substr(3, end - 3));
  }
  const std::set<std::string> in_table(rows.begin(), rows.end());
  CHECK(in_table.size() == rows.size());
  CHECK(in_table == std::set<std::string>(metric_names().begin(), metric_names().end()));
}

TEST_CASE("each cell of a label space has labels of its own", "[unit]") {
  for (std::size_t i = 0; i <= static_cast<std::size_t>(LabelSpace::flood); ++i) {
    const auto space = static_cast<LabelSpace>(i);
    if (space == LabelSpace::rule || space == LabelSpace::rule_mode) continue;
    std::set<LabelPairs> seen;
    for (std::size_t cell = 0; cell < cells(space); ++cell) {
      CHECK(seen.insert(cell_labels(space, cell)).second);
    }
  }
  CHECK(cell_labels(LabelSpace::direction_cause,
                    cell_of(Direction::outbound, HandshakeCause::wrong_san)) ==
        LabelPairs{{"direction", "outbound"}, {"cause", "wrong_san"}});
  CHECK(cell_labels(LabelSpace::direction_way, cell_of(Direction::outbound, Way::received)) ==
        LabelPairs{{"direction", "outbound"}, {"way", "received"}});
  CHECK(cell_labels(LabelSpace::direction_refused,
                    cell_of(Direction::inbound, RefusedKind::transfer_encoding)) ==
        LabelPairs{{"direction", "inbound"}, {"kind", "transfer_encoding"}});
  CHECK(cell_labels(LabelSpace::side_way_code,
                    cell_of(Side::upstream, Way::received, Http2Code::refused_stream)) ==
        LabelPairs{{"side", "upstream"}, {"way", "received"}, {"code", "REFUSED_STREAM"}});
}
