// Parses and formats single values. No locale, no exceptions, whole input or nothing.
// Not the bounds of a key: those are in the table of keys.cc.
#include "proxy/config/values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>

#include <fmt/format.h>

namespace proxy::config {
namespace {

constexpr std::size_t kHostBytes = 253;  // RFC 1035 section 2.3.4 in text form

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

// Largest first: the formatters take the first that divides.
constexpr std::array<Unit, 4> kDurationUnits{
    {{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}}};
constexpr std::array<Unit, 4> kBinaryUnits{
    {{"GiB", 1ULL << 30}, {"MiB", 1ULL << 20}, {"KiB", 1ULL << 10}, {"B", 1}}};
constexpr std::array<Unit, 3> kDecimalUnits{
    {{"GB", 1'000'000'000}, {"MB", 1'000'000}, {"KB", 1000}}};

std::optional<std::uint64_t> digits(std::string_view text) {
  std::uint64_t value = 0;
  const auto* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (text.empty() || error != std::errc{} || stop != end) return std::nullopt;
  return value;
}

template <std::size_t N>
std::optional<std::uint64_t> with_unit(std::string_view text, const std::array<Unit, N>& units) {
  const auto at = text.find_first_not_of("0123456789");
  if (at == std::string_view::npos) return std::nullopt;
  const auto number = digits(text.substr(0, at));
  auto name = text.substr(at);
  if (name.starts_with(' ')) name.remove_prefix(1);
  for (const auto& unit : units) {
    if (unit.name != name) continue;
    if (!number || *number > std::numeric_limits<std::int64_t>::max() / unit.factor) break;
    return *number * unit.factor;
  }
  return std::nullopt;
}

template <std::size_t N>
std::string text_with_unit(std::uint64_t value, const std::array<Unit, N>& units) {
  if (value == 0) return "0";
  for (const auto& unit : units) {
    if (value % unit.factor == 0) return fmt::format("{}{}", value / unit.factor, unit.name);
  }
  return {};
}

bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

// Labels of 1 to 63 letters, digits, '-' or '_', joined by dots.
bool is_host_name(std::string_view text) {
  if (text.empty() || text.size() > kHostBytes) return false;
  std::size_t label = 0;
  for (const char c : text) {
    if (c == '.') {
      if (label == 0) return false;
      label = 0;
    } else if (!is_name_byte(c) || ++label > 63) {
      return false;
    }
  }
  return label > 0;
}

// Digits and dots that are no address are a slip, not a name ("127.0.0.300").
bool looks_numeric(std::string_view text) {
  return text.find_first_not_of("0123456789.") == std::string_view::npos;
}

struct HostPort {
  std::string host;
  bool bracketed = false;
  std::uint16_t port = 0;
};

std::expected<HostPort, std::string> split(std::string_view text) {
  HostPort out;
  std::string_view rest;
  if (text.find("://") != std::string_view::npos) {
    return std::unexpected("this is a URL, an address has no scheme");
  }
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return std::unexpected("the ] is missing");
    out.host = text.substr(1, close - 1);
    out.bracketed = true;
    rest = text.substr(close + 1);
  } else {
    const auto colon = text.find(':');
    if (colon != std::string_view::npos && text.find(':', colon + 1) != std::string_view::npos) {
      return std::unexpected("an IPv6 address stands in brackets");
    }
    out.host = text.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view{} : text.substr(colon);
  }
  if (!rest.starts_with(':')) return std::unexpected("the port is missing");
  const auto port = parse_count(rest.substr(1));
  if (!port || *port > 65535) return std::unexpected("the port is no number from 0 to 65535");
  out.port = static_cast<std::uint16_t>(*port);
  return out;
}

std::vector<IpAddress> both_loopbacks() {
  return {{"127.0.0.1", Family::ipv4}, {"::1", Family::ipv6}};
}

}  // namespace

std::optional<Milliseconds> parse_duration(std::string_view text) {
  if (text == "0") return Milliseconds{0};
  const auto value = with_unit(text, kDurationUnits);
  if (!value) return std::nullopt;
  return Milliseconds{static_cast<std::int64_t>(*value)};
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  if (text == "0") return 0;
  const auto binary = with_unit(text, kBinaryUnits);
  return binary ? binary : with_unit(text, kDecimalUnits);
}

std::optional<std::uint64_t> parse_count(std::string_view text) {
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  return digits(text);
}

std::optional<bool> parse_boolean(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

std::optional<IpAddress> parse_ip(std::string_view text) {
  const std::string owned(text);
  if (owned.find('\0') != std::string::npos) return std::nullopt;
  std::array<unsigned char, sizeof(in6_addr)> bytes{};
  for (const auto family : {AF_INET, AF_INET6}) {
    if (inet_pton(family, owned.c_str(), bytes.data()) != 1) continue;
    // One spelling for each address, so that equal ones compare equal ("0:0::1" is "::1").
    std::array<char, INET6_ADDRSTRLEN> plain{};
    if (inet_ntop(family, bytes.data(), plain.data(), plain.size()) == nullptr) break;
    return IpAddress{plain.data(), family == AF_INET ? Family::ipv4 : Family::ipv6};
  }
  return std::nullopt;
}

std::expected<ListenAddress, std::string> parse_listen(std::string_view text) {
  auto parts = split(text);
  if (!parts) return std::unexpected(parts.error());
  ListenAddress out{std::string(text), parts->host, parts->port, {}};
  if (parts->bracketed) {
    const auto address = parse_ip(parts->host);
    if (!address || address->family != Family::ipv6) {
      return std::unexpected("between [ and ] stands no IPv6 address");
    }
    out.addresses = {*address};
  } else if (parts->host.empty() || lower(parts->host) == "localhost") {
    out.addresses = both_loopbacks();
  } else if (parts->host == "*") {
    out.addresses = {{"0.0.0.0", Family::ipv4}, {"::", Family::ipv6}};
  } else if (const auto address = parse_ip(parts->host)) {
    out.addresses = {*address};
  } else {
    return std::unexpected("the host is no IP address of this machine");
  }
  return out;
}

std::expected<Endpoint, std::string> parse_endpoint(std::string_view text) {
  auto parts = split(text);
  if (!parts) return std::unexpected(parts.error());
  if (parts->port == 0) return std::unexpected("the port is no number from 1 to 65535");
  Endpoint out{std::string(text), parts->host, parts->port, {}};
  const auto address = parse_ip(parts->host);
  if (parts->bracketed && (!address || address->family != Family::ipv6)) {
    return std::unexpected("between [ and ] stands no IPv6 address");
  }
  if (parts->host.empty() || lower(parts->host) == "localhost") {
    out.addresses = both_loopbacks();
  } else if (address) {
    out.addresses = {*address};
  } else if (looks_numeric(parts->host) || !is_host_name(lower(parts->host))) {
    return std::unexpected("the host is neither an IP address nor a name");
  }
  return out;
}

std::expected<std::string, std::string> parse_host_pattern(std::string_view text) {
  std::string host = lower(text);
  if (parse_ip(host) || is_host_name(host)) return host;
  if (host.starts_with("*.") && is_host_name(std::string_view(host).substr(2))) return host;
  if (host.starts_with('[') && host.ends_with(']')) {
    const auto address = parse_ip(std::string_view(host).substr(1, host.size() - 2));
    if (address && address->family == Family::ipv6) return host;
  }
  if (host.find(':') != std::string::npos) {
    return std::unexpected("a host stands without a port (the port is the service's `port`)");
  }
  if (host.find('*') != std::string::npos) {
    return std::unexpected("a * may only stand for the first labels, as in *.example.com");
  }
  return std::unexpected("it is no host name");
}

std::expected<std::string, std::string> parse_network(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = parse_ip(text.substr(0, slash));
  if (!address) return std::unexpected("it is no IP address");
  if (slash == std::string_view::npos) return std::string(text);
  const bool v4 = address->family == Family::ipv4;
  const auto bits = parse_count(text.substr(slash + 1));
  if (!bits || *bits > (v4 ? 32U : 128U)) {
    return std::unexpected(std::string("the prefix is no number up to ") + (v4 ? "32" : "128"));
  }
  std::array<unsigned char, 16> bytes{};
  ::inet_pton(v4 ? AF_INET : AF_INET6, address->text.c_str(), bytes.data());
  for (std::size_t bit = *bits; bit < (v4 ? 32U : 128U); ++bit) {
    if ((bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) {
      return std::unexpected("it has bits beyond its prefix");
    }
  }
  return std::string(text);
}

std::expected<std::string, std::string> parse_name_server(std::string_view text) {
  if (parse_ip(text)) return std::string(text);
  const auto endpoint = parse_endpoint(text);
  if (!endpoint) return std::unexpected(endpoint.error());
  if (!parse_ip(endpoint->host)) return std::unexpected("a name server has no name");
  return std::string(text);
}

std::string duration_text(Milliseconds duration) {
  if (duration == Milliseconds(60'000)) return "60s";  // as people write it
  return text_with_unit(static_cast<std::uint64_t>(duration.count()), kDurationUnits);
}

std::string size_text(std::uint64_t bytes) {
  return text_with_unit(bytes, kBinaryUnits);
}

std::size_t utf8_sequence(std::string_view text) {
  if (text.empty()) return 0;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond U+10FFFF (RFC 3629 section 4).
  const unsigned second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
  if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
  return length;
}

bool is_plain_text(std::string_view text) {
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const auto length = utf8_sequence(text);
    if (length == 0 || byte < 0x20 || byte == 0x7f) return false;
    text.remove_prefix(length);
  }
  return true;
}

}  // namespace proxy::config
