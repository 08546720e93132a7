// Hop-by-hop fields: one pass to find Connection, one to remove what it and the RFC name.
// Not aware of HTTP/2, where none of these fields may be.
#include "proxy/http/hop_headers.h"

#include <array>
#include <string_view>

#include "proxy/http/text.h"

namespace proxy::http {
namespace {

// A Connection option that names one of these wants the next hop to read another message than
// this one did.
Fault fault_of_option(std::string_view option) noexcept {
  if (!is_token(option)) return Fault::invalid_connection_option;
  switch (find_name(option)) {
    case NameId::host:
      return Fault::connection_names_host;
    case NameId::content_length:
    case NameId::transfer_encoding:
      return Fault::connection_names_framing;
    default:
      return Fault::none;
  }
}

// h2c and its kin would turn the tunnel into HTTP that nobody checks.
bool may_pass(std::string_view upgrade) noexcept {
  std::string_view element;
  bool any = false;
  while (next_element(upgrade, element)) {
    std::string_view name = element.substr(0, element.find('/'));
    if (!is_token(name)) return false;
    if (equals_ignore_case(name, "h2c") || equals_ignore_case(name, "h2") ||
        equals_ignore_case(name, "http")) {
      return false;
    }
    any = true;
  }
  return any;
}

bool lists_trailers(std::string_view te) noexcept {
  std::string_view element;
  while (next_element(te, element)) {
    if (equals_ignore_case(element, "trailers")) return true;
  }
  return false;
}

// Reads one Connection value; what it names is removed but for the fields that are read later.
Fault read_connection(std::string_view value, HeaderMap& headers, HopFacts& facts, bool& upgrade) {
  std::string_view option;
  while (next_element(value, option)) {
    if (option.empty()) continue;  // RFC 9110 5.6.1.2: empty elements are ignored
    if (const Fault fault = fault_of_option(option); fault != Fault::none) return fault;
    if (equals_ignore_case(option, "close")) {
      facts.close = true;
    } else if (equals_ignore_case(option, "keep-alive")) {
      facts.keep_alive = true;
    } else if (equals_ignore_case(option, "upgrade")) {
      upgrade = true;
    } else if (!equals_ignore_case(option, "te") && !equals_ignore_case(option, "connection")) {
      headers.remove(option);
    }
  }
  return Fault::none;
}

constexpr std::array kForbiddenTrailers = {
    std::string_view("authorization"),
    std::string_view("proxy-authorization"),
    std::string_view("www-authenticate"),
    std::string_view("proxy-authenticate"),
    std::string_view("set-cookie"),
    std::string_view("cookie"),
    std::string_view("age"),
    std::string_view("cache-control"),
    std::string_view("expires"),
    std::string_view("location"),
    std::string_view("retry-after"),
    std::string_view("vary"),
    std::string_view("warning"),
    std::string_view("content-encoding"),
    std::string_view("content-range"),
    std::string_view("range"),
    std::string_view("max-forwards"),
    std::string_view("pragma"),
    std::string_view("if-match"),
    std::string_view("if-none-match"),
    std::string_view("if-modified-since"),
    std::string_view("if-unmodified-since"),
    std::string_view("if-range"),
    std::string_view("forwarded"),
};

bool forbidden_in_trailers(NameId id, std::string_view name) noexcept {
  switch (id) {
    case NameId::grpc_status:
    case NameId::grpc_message:
    case NameId::traceparent:
      return false;
    case NameId::other:
      break;
    default:
      // Whatever else the proxy itself looks at decided something when the head was read.
      return true;
  }
  for (const std::string_view forbidden : kForbiddenTrailers) {
    if (equals_ignore_case(name, forbidden)) return true;
  }
  return false;
}

}  // namespace

HopFacts take_hop_headers(HeaderMap& headers) {
  HopFacts facts;
  bool upgrade_named = false;
  for (std::size_t i = 0; i < headers.fields().size(); ++i) {
    const HeaderMap::Field field = headers.fields()[i];
    if (field.id != NameId::connection || field.removed) continue;
    facts.fault = read_connection(headers.value(field), headers, facts, upgrade_named);
    if (facts.fault != Fault::none) return facts;
  }
  // More than one Upgrade field is legal and never seen: not worth passing on.
  const bool may_upgrade = upgrade_named && headers.count(NameId::upgrade) == 1;
  bool trailers_wanted = false;
  for (std::size_t i = 0; i < headers.fields().size(); ++i) {
    const HeaderMap::Field field = headers.fields()[i];
    if (field.removed) continue;
    switch (field.id) {
      case NameId::upgrade:
        if (may_upgrade && may_pass(headers.value(field))) facts.upgrade = field.value;
        headers.remove_at(i);
        break;
      case NameId::te:
        trailers_wanted = trailers_wanted || lists_trailers(headers.value(field));
        headers.remove_at(i);
        break;
      case NameId::connection:
      case NameId::keep_alive:
      case NameId::proxy_connection:
      case NameId::http2_settings:
      case NameId::transfer_encoding:
      case NameId::content_length:
      case NameId::host:
        headers.remove_at(i);
        break;
      default:
        break;
    }
  }
  if (trailers_wanted) headers.add("TE", "trailers");
  return facts;
}

void clean_trailers(HeaderMap& trailers) noexcept {
  for (std::size_t i = 0; i < trailers.fields().size(); ++i) {
    const HeaderMap::Field& field = trailers.fields()[i];
    if (forbidden_in_trailers(field.id, trailers.name(field))) trailers.remove_at(i);
  }
}

}  // namespace proxy::http
