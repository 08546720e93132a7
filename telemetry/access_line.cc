// One access log line from the facts of one request. Runs on the writer thread.
#include <ctime>
#include <iterator>

#include <fmt/format.h>

#include "telemetry/access_log.h"
#include "telemetry/utf8.h"

namespace telemetry {
namespace {

void append_time(std::string& out, std::uint64_t unix_us) {
  const std::time_t seconds = static_cast<std::time_t>(unix_us / 1'000'000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  fmt::format_to(std::back_inserter(out), "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}Z",
                 utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                 utc.tm_sec, unix_us % 1'000'000);
}

void append_ms(std::string& out, std::uint64_t microseconds) {
  fmt::format_to(std::back_inserter(out), "{}.{:03}", microseconds / 1000, microseconds % 1000);
}

void member(std::string& out, std::string_view name, std::string_view text) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":", name);
  append_json(out, text);
}

void member(std::string& out, std::string_view name, std::uint64_t number) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":{}", name, number);
}

void member_ms(std::string& out, std::string_view name, std::uint64_t microseconds, bool known) {
  fmt::format_to(std::back_inserter(out), ",\"{}\":", name);
  if (known) {
    append_ms(out, microseconds);
  } else {
    out += "null";
  }
}

void append_json_line(const RequestFacts& facts, std::string& out) {
  out += "{\"start\":\"";
  append_time(out, facts.start_unix_us);
  out += '"';
  member(out, "reporter", text(facts.reporter));
  member(out, "method", facts.method);
  member(out, "authority", facts.authority);
  member(out, "path", facts.path);
  member(out, "protocol", facts.protocol_text);
  member(out, "code", std::uint64_t{facts.response_code});
  if (facts.grpc_status != kNoGrpc) {
    fmt::format_to(std::back_inserter(out), ",\"grpc_status\":{}", facts.grpc_status);
  }
  member(out, "flags", text(facts.flags));
  member(out, "details", facts.response_code_details);
  member(out, "bytes_received", facts.request_bytes);
  member(out, "bytes_sent", facts.response_bytes);
  member_ms(out, "duration_ms", facts.duration_us, true);
  member_ms(out, "upstream_ms", facts.upstream_us, facts.upstream_us != 0);
  member_ms(out, "first_byte_ms", facts.first_byte_us, facts.first_byte_us != 0);
  member(out, "peer_principal", facts.peer_principal);
  member(out, "upstream_address", facts.upstream_address);
  member(out, "request_id", facts.request_id);
  if (!facts.trace_id.empty()) member(out, "trace_id", facts.trace_id);
  out += "}\n";
}

// A field of a text line: "-" when empty, in quotes when a space or a quote would split it.
void word(std::string& out, std::string_view field) {
  out += ' ';
  if (field.empty()) {
    out += '-';
  } else if (field.find_first_of(" \"") != std::string_view::npos) {
    append_json(out, field);
  } else {
    append_printable(out, field);
  }
}

void append_text_line(const RequestFacts& facts, std::string& out) {
  append_time(out, facts.start_unix_us);
  word(out, text(facts.reporter));
  word(out, facts.method);
  word(out, facts.authority);
  word(out, facts.path);
  word(out, facts.protocol_text);
  fmt::format_to(std::back_inserter(out), " {}", facts.response_code);
  word(out, text(facts.flags));
  fmt::format_to(std::back_inserter(out), " {} {} ", facts.request_bytes, facts.response_bytes);
  append_ms(out, facts.duration_us);
  for (const std::uint64_t part : {facts.upstream_us, facts.first_byte_us}) {
    out += ' ';
    if (part == 0) {
      out += '-';
    } else {
      append_ms(out, part);
    }
  }
  word(out, facts.peer_principal);
  word(out, facts.upstream_address);
  word(out, facts.request_id);
  word(out, facts.trace_id);
  word(out, facts.response_code_details);
  out += '\n';
}

}  // namespace

void format_line(const RequestFacts& facts, LineFormat format, std::string& out) {
  if (format == LineFormat::json) {
    append_json_line(facts, out);
  } else {
    append_text_line(facts, out);
  }
}

}  // namespace telemetry
