// Framing rules: strict where two readers could disagree.
// Not lenient for anybody: a message in doubt is refused.
#include "proxy/http/framing.h"

#include <array>

#include "proxy/http/text.h"

namespace proxy::http {
namespace {

enum class Coding : std::uint8_t { none, chunked, unknown, malformed, not_last };

// token *( OWS ";" OWS token "=" ( token / quoted-string ) ), read only to tell a coding we do not
// know from nonsense.
bool is_well_formed_coding(std::string_view coding) noexcept {
  const std::size_t semicolon = coding.find(';');
  if (!is_token(trim_ows(coding.substr(0, semicolon)))) return false;
  if (semicolon == std::string_view::npos) return true;
  std::string_view rest = coding.substr(semicolon + 1);
  while (true) {
    const std::size_t end = rest.find(';');
    const std::string_view parameter = trim_ows(rest.substr(0, end));
    const std::size_t equals = parameter.find('=');
    if (equals == std::string_view::npos) return false;
    if (!is_token(trim_ows(parameter.substr(0, equals)))) return false;
    std::string_view value = trim_ows(parameter.substr(equals + 1));
    if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
      value = value.substr(1, value.size() - 2);
      if (value.find('"') != std::string_view::npos) return false;
    } else if (!is_token(value)) {
      return false;
    }
    if (end == std::string_view::npos) return true;
    rest = rest.substr(end + 1);
  }
}

// Folds one Transfer-Encoding value into what was read before it.
Coding read_codings(std::string_view value, Coding before) noexcept {
  Coding all = before;
  std::string_view element;
  if (value.empty()) return Coding::malformed;
  while (next_element(value, element)) {
    // chunked must come last and once.
    if (all == Coding::chunked || all == Coding::not_last) return Coding::not_last;
    if (all == Coding::malformed) return Coding::malformed;
    if (equals_ignore_case(element, "chunked")) {
      all = all == Coding::unknown ? Coding::unknown : Coding::chunked;
    } else if (is_well_formed_coding(element) &&
               !equals_ignore_case(trim_ows(element.substr(0, element.find(';'))), "chunked")) {
      all = Coding::unknown;
    } else {
      return Coding::malformed;
    }
  }
  return all;
}

// unreserved and sub-delims, but for those that no host has and some parsers trip over.
constexpr auto kHostChars = [] {
  std::array<bool, 256> table{};
  for (unsigned c = '0'; c <= '9'; ++c) table[c] = true;
  for (unsigned c = 'a'; c <= 'z'; ++c) table[c] = true;
  for (unsigned c = 'A'; c <= 'Z'; ++c) table[c] = true;
  for (const char c : std::string_view("-._~!$&'()*+="))
    table[static_cast<unsigned char>(c)] = true;
  return table;
}();

bool is_hex(char c) noexcept {
  return (c >= '0' && c <= '9') || (to_lower(c) >= 'a' && to_lower(c) <= 'f');
}

// reg-name or IPv4: kHostChars and pct-encoded.
bool is_host_name(std::string_view host) noexcept {
  if (host.empty()) return false;
  for (std::size_t i = 0; i < host.size(); ++i) {
    if (kHostChars[static_cast<unsigned char>(host[i])]) continue;
    if (host[i] == '%' && i + 2 < host.size() && is_hex(host[i + 1]) && is_hex(host[i + 2])) {
      i += 2;
      continue;
    }
    return false;
  }
  return true;
}

// "[" IPv6 "]": hex digits, colons and an embedded IPv4; the resolver decides the rest.
bool is_ip_literal(std::string_view host) noexcept {
  if (host.size() < 4 || host.front() != '[' || host.back() != ']') return false;
  host = host.substr(1, host.size() - 2);
  bool colon = false;
  for (const char c : host) {
    if (c == ':') {
      colon = true;
    } else if (!is_hex(c) && c != '.') {
      return false;
    }
  }
  return colon;
}

bool is_port(std::string_view port) noexcept {
  if (port.empty() || port.size() > 5) return false;
  unsigned value = 0;
  for (const char c : port) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<unsigned>(c - '0');
  }
  return value <= 65535;
}

struct HostPort {
  std::string_view host;
  std::string_view port;
  bool has_port = false;
};

// Only an IP literal has colons of its own; what has more of them is then no host or no port.
HostPort split_authority(std::string_view text) noexcept {
  const std::size_t colon = text.find(':', text.starts_with('[') ? text.find(']') : 0);
  if (colon == std::string_view::npos) return {text, {}, false};
  return {text.substr(0, colon), text.substr(colon + 1), true};
}

bool starts_with_ignore_case(std::string_view text, std::string_view start) noexcept {
  return text.size() >= start.size() && equals_ignore_case(text.substr(0, start.size()), start);
}

}  // namespace

std::optional<std::uint64_t> parse_content_length(std::string_view value) noexcept {
  // 19 digits and no more always fit; more than that is no length of anything.
  if (value.empty() || value.size() > 19) return std::nullopt;
  std::uint64_t length = 0;
  for (const char c : value) {
    if (c < '0' || c > '9') return std::nullopt;
    length = length * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (length > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
  return length;
}

Framing read_framing(const HeaderMap& headers, Version version) noexcept {
  Framing framing;
  Coding coding = Coding::none;
  bool coded = false;
  for (const HeaderMap::Field& field : headers.fields()) {
    if (field.removed) continue;
    if (field.id == NameId::content_length) {
      const std::optional<std::uint64_t> length = parse_content_length(headers.value(field));
      if (!length || framing.has_length) {
        framing.fault = length ? Fault::repeated_content_length : Fault::invalid_content_length;
        return framing;
      }
      framing.has_length = true;
      framing.body = {*length == 0 ? BodyLength::Kind::none : BodyLength::Kind::known, *length};
    } else if (field.id == NameId::transfer_encoding) {
      coding = read_codings(headers.value(field), coding);
      coded = true;
    }
  }
  if (!coded) return framing;
  if (framing.has_length) {
    framing.fault = Fault::both_lengths;
  } else if (coding == Coding::not_last) {
    framing.fault = Fault::chunked_not_last;
  } else if (coding == Coding::malformed) {
    framing.fault = Fault::invalid_transfer_encoding;
  } else if (version == Version::http10) {
    framing.fault = Fault::transfer_encoding_in_http10;
  } else if (coding == Coding::unknown) {
    framing.fault = Fault::unknown_coding;
  } else {
    framing.body = {BodyLength::Kind::unknown, 0};
  }
  return framing;
}

bool is_authority(std::string_view text) noexcept {
  const HostPort parts = split_authority(text);
  if (parts.has_port && !is_port(parts.port)) return false;
  return is_host_name(parts.host) || is_ip_literal(parts.host);
}

bool same_authority(std::string_view a, std::string_view b,
                    std::string_view default_port) noexcept {
  const HostPort left = split_authority(a);
  const HostPort right = split_authority(b);
  if (!equals_ignore_case(left.host, right.host)) return false;
  const auto is_default = [&](const HostPort& parts) {
    return !parts.has_port || parts.port == default_port;
  };
  return left.port == right.port || (is_default(left) && is_default(right));
}

Target read_target(std::string_view target, std::string_view method) noexcept {
  Target read;
  read.fault = Fault::target_form;
  if (target.empty()) return read;
  for (const char c : target) {
    // A fragment is never sent (RFC 9112 3.2): who cuts it and who does not would disagree.
    if (c < 0x21 || c > 0x7e || c == '#') {
      read.fault = c == '#' ? Fault::target_fragment : Fault::target_character;
      return read;
    }
  }
  if (target.front() == '/') {
    read.path = target;
    read.fault = Fault::none;
    return read;
  }
  if (target == "*") {
    if (method != "OPTIONS") return read;
    read.path = target;
    read.fault = Fault::none;
    return read;
  }
  if (starts_with_ignore_case(target, "http://")) {
    target.remove_prefix(7);
    read.default_port = "80";
  } else if (starts_with_ignore_case(target, "https://")) {
    target.remove_prefix(8);
    read.default_port = "443";
  } else {
    return read;
  }
  const std::size_t end = target.find_first_of("/?");
  read.authority = target.substr(0, end);
  if (!is_authority(read.authority)) {
    read.fault = Fault::target_host;
    return read;
  }
  read.absolute = true;
  read.path = end == std::string_view::npos ? std::string_view() : target.substr(end);
  read.query_only = !read.path.empty() && read.path.front() == '?';
  // RFC 9112 3.2.4: OPTIONS of a whole server comes as an absolute form without a path.
  if (read.path.empty()) read.path = method == "OPTIONS" ? "*" : "/";
  read.fault = Fault::none;
  return read;
}

}  // namespace proxy::http
