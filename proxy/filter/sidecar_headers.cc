// Every header of spec 3.5, with Envoy's rules for what is kept and what is overwritten.
// Nothing is allocated here but by the head itself, and once for each TLS connection.
#include "proxy/filter/sidecar_headers.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

#include <fmt/format.h>

#include "proxy/http/text.h"

namespace proxy::filter {
namespace {

using http::HeaderMap;
using http::NameId;

// What Envoy takes out of requests that are not internal; each after "x-envoy-".
constexpr std::string_view kControlPrefix = "x-envoy-";
constexpr std::array<std::string_view, 14> kControl{"force-trace",
                                                    "hedge-on-per-try-timeout",
                                                    "ip-tags",
                                                    "max-retries",
                                                    "original-url",
                                                    "retriable-header-names",
                                                    "retriable-status-codes",
                                                    "retry-grpc-on",
                                                    "retry-on",
                                                    "upstream-alt-stat-name",
                                                    "upstream-rq-per-try-timeout-ms",
                                                    "upstream-rq-timeout-alt-response",
                                                    "upstream-rq-timeout-ms",
                                                    "upstream-stream-duration-ms"};

// More names than fit are left out of x-forwarded-client-cert: a certificate may hold thousands.
constexpr std::size_t kMaxClientCert = 8 * 1024;

bool is_control(NameId id, std::string_view name) noexcept {
  if (id == NameId::x_envoy_internal || id == NameId::x_envoy_expected_rq_timeout_ms) return true;
  if (id != NameId::other || name.size() <= kControlPrefix.size()) return false;
  if (!http::equals_ignore_case(name.substr(0, kControlPrefix.size()), kControlPrefix)) {
    return false;
  }
  const std::string_view rest = name.substr(kControlPrefix.size());
  return std::any_of(kControl.begin(), kControl.end(), [rest](std::string_view each) {
    return http::equals_ignore_case(rest, each);
  });
}

void strip_control(HeaderMap& headers) noexcept {
  for (std::size_t i = 0; i < headers.fields().size(); ++i) {
    const HeaderMap::Field& field = headers.fields()[i];
    if (!field.removed && is_control(field.id, headers.name(field))) headers.remove_at(i);
  }
}

// set() may allocate for long values, and the place of these fields does not matter.
void replace(HeaderMap& headers, NameId id, std::string_view value) {
  headers.remove(id);
  headers.add(id, value);
}

void replace(HeaderMap& headers, NameId id, std::uint64_t number) {
  std::array<char, 20> digits;
  const char* end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  replace(headers, id, std::string_view(digits.data(), end));
}

// The first id that a client sent is kept if it is one; several would name two requests at once.
void give_request_id(HeaderMap& headers, Scope& scope) {
  const HeaderMap::Field* sent = headers.find(NameId::x_request_id);
  const bool kept = sent != nullptr && scope.request_id.keep(headers.value(*sent));
  if (kept && headers.count(NameId::x_request_id) == 1) return;
  if (!kept) scope.request_id.make(scope.worker.request_ids);
  replace(headers, NameId::x_request_id, scope.request_id.view());
}

// A value with a separator in it stands in quotes, and a quote is escaped (Envoy's rules), so that
// no name in a certificate can look like another element.
void append_pair(std::string& element, std::string_view key, std::string_view value) {
  if (!element.empty()) element += ';';
  element += key;
  element += '=';
  const bool quoted = value.find_first_of(",;=\"") != std::string_view::npos;
  if (quoted) element += '"';
  for (const char c : value) {
    if (c == '"') element += '\\';
    element += c < ' ' || c > '~' ? '?' : c;
  }
  if (quoted) element += '"';
}

std::string client_cert_of(const tls::PeerIdentity& peer, std::string_view own_principal) {
  std::string element;
  if (!own_principal.empty()) append_pair(element, "By", own_principal);
  append_pair(element, "Hash", peer.sha256_hex);
  // RFC 2253 text comes with its quotes escaped; it is always in quotes, as Envoy has it.
  element += ";Subject=\"";
  for (const char c : peer.subject) element += c < ' ' || c > '~' ? '?' : c;
  element += '"';
  append_pair(element, "URI", peer.spiffe_uri);
  for (const std::string& name : peer.dns_sans) {
    if (element.size() + name.size() > kMaxClientCert) break;
    append_pair(element, "DNS", name);
  }
  return element;
}

// All values that came, then ours, as one field: APPEND_FORWARD.
void forward_client_cert(HeaderMap& headers, Scope& scope) {
  if (scope.identity == nullptr) {
    headers.remove(NameId::x_forwarded_client_cert);
    return;
  }
  PeerMemo& memo = *scope.downstream_peer;
  if (memo.client_cert.empty()) {
    memo.client_cert = client_cert_of(*scope.identity, scope.own_principal);
  }
  if (headers.find(NameId::x_forwarded_client_cert) == nullptr) {
    headers.add(NameId::x_forwarded_client_cert, memo.client_cert);
    return;
  }
  std::string& block = headers.block();
  const http::Text name = headers.put(http::name_text(NameId::x_forwarded_client_cert));
  block += ": ";
  http::Text value{static_cast<std::uint32_t>(block.size()), 0};
  for (std::size_t i = 0; i < headers.fields().size(); ++i) {
    const HeaderMap::Field field = headers.fields()[i];
    if (field.removed || field.id != NameId::x_forwarded_client_cert) continue;
    block.append(block, field.value.offset, field.value.length);
    if (field.value.length > 0) block += ',';
    headers.remove_at(i);
  }
  block += memo.client_cert;
  value.length = static_cast<std::uint32_t>(block.size()) - value.offset;
  block += "\r\n";
  headers.add_in_place(NameId::x_forwarded_client_cert, name, value);
}

bool is_interim(const http::ResponseHead& head) noexcept {
  return head.status < 200 && head.status != 101;
}

// Tells a client outside of the mesh what it reached; one inside has said it in its request.
void name_operation(HeaderMap& headers, const Scope& scope) {
  if (scope.peer_named_operation || scope.plan == nullptr || scope.plan->operation.empty()) return;
  headers.add(NameId::x_envoy_decorator_operation, scope.plan->operation);
}

}  // namespace

void set_attempt_count(http::RequestHead& head, unsigned attempt) {
  replace(head.headers, NameId::x_envoy_attempt_count, attempt);
}

SidecarHeaders::SidecarHeaders(const config::Config& config, std::string_view server)
    : server_(server) {
  const auto timeout = config.timeouts.request.count();
  if (timeout > 0) timeout_ms_ = fmt::to_string(timeout);
}

void SidecarHeaders::prepare(http::RequestHead& head, Scope& scope, std::string_view scheme) const {
  HeaderMap& headers = head.headers;
  strip_control(headers);
  give_request_id(headers, scope);
  if (headers.find(NameId::x_forwarded_proto) == nullptr) {
    headers.add(NameId::x_forwarded_proto, scheme);
  }
  set_attempt_count(head, scope.attempt);
  if (!timeout_ms_.empty()) headers.add(NameId::x_envoy_expected_rq_timeout_ms, timeout_ms_);
}

void SidecarHeaders::answer(http::ResponseHead& head, const Scope& scope) const {
  head.headers.remove(NameId::x_envoy_decorator_operation);
  if (is_interim(head)) return;
  replace(head.headers, NameId::x_envoy_upstream_service_time, scope.upstream_us / 1000);
  head.headers.set(NameId::server, server_);
}

void SidecarHeaders::on_local_reply(http::ResponseHead& head, Scope& scope) const {
  if (scope.request_id.empty()) scope.request_id.make(scope.worker.request_ids);
  replace(head.headers, NameId::x_request_id, scope.request_id.view());
  head.headers.set(NameId::server, server_);
}

// --- inbound ------------------------------------------------------------------------------------

Result<> InboundSidecarHeaders::on_request(http::RequestHead& head, Scope& scope) const {
  const auto operation = head.headers.get(NameId::x_envoy_decorator_operation);
  scope.peer_named_operation = operation && !operation->empty();
  head.headers.remove(NameId::x_envoy_decorator_operation);
  prepare(head, scope, scope.identity != nullptr ? "https" : "http");
  forward_client_cert(head.headers, scope);
  return {};
}

void InboundSidecarHeaders::on_response(http::ResponseHead& head, Scope& scope) const {
  answer(head, scope);
  if (!is_interim(head)) name_operation(head.headers, scope);
}

void InboundSidecarHeaders::on_local_reply(http::ResponseHead& head, Scope& scope) const {
  SidecarHeaders::on_local_reply(head, scope);
  name_operation(head.headers, scope);
}

// --- outbound -----------------------------------------------------------------------------------

Result<> OutboundSidecarHeaders::on_request(http::RequestHead& head, Scope& scope) const {
  HeaderMap& headers = head.headers;
  headers.remove(NameId::x_envoy_decorator_operation);
  headers.remove(NameId::x_forwarded_client_cert);
  prepare(head, scope, "http");
  if (scope.plan != nullptr && !scope.plan->operation.empty()) {
    headers.add(NameId::x_envoy_decorator_operation, scope.plan->operation);
  }
  return {};
}

void OutboundSidecarHeaders::on_response(http::ResponseHead& head, Scope& scope) const {
  answer(head, scope);
}

}  // namespace proxy::filter
