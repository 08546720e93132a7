// Checks the values of the flags: lists of ports, ranges, users, interfaces.
#include "proxy/redirect/options.h"

#include <arpa/inet.h>
#include <grp.h>
#include <pwd.h>

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

#include <fmt/format.h>

#include "proxy/config/diagnostics.h"

namespace proxy::redirect {
namespace {

constexpr std::uint32_t kDefaultProxyUid = 1337;
constexpr std::size_t kMaxListed = 1000;  // far more than any pod has, far less than hurts
constexpr std::size_t kMaxOwnerGroups = 64;
constexpr std::size_t kMaxInterfaceName = 15;  // IFNAMSIZ - 1
constexpr unsigned kMaxProbeTimeoutMs = 600'000;

template <class T>
std::optional<T> number(std::string_view text) {
  T value{};
  const auto* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || rest != end) return std::nullopt;
  return value;
}

std::optional<std::uint16_t> port(std::string_view text) {
  const auto value = number<std::uint16_t>(text);
  return value && *value > 0 ? value : std::nullopt;
}

// Not 0, which is no mark and no table; and not the tables that the kernel keeps itself.
std::optional<std::uint32_t> mark(std::string_view text) {
  const auto value = number<std::uint32_t>(text);
  return value && *value > 0 ? value : std::nullopt;
}

std::optional<std::uint32_t> route_table(std::string_view text) {
  constexpr std::uint32_t kDefault = 253, kLocal = 255;
  const auto value = mark(text);
  return value && (*value < kDefault || *value > kLocal) ? value : std::nullopt;
}

// A number or a name; (uid_t)-1 means "no user" to the kernel.
bool is_account_name(std::string_view text) {
  if (text.empty() || text.size() > 32 || text.front() == '-') return false;
  return text.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") ==
         std::string_view::npos;
}

std::optional<std::uint32_t> account_number(std::string_view text) {
  const auto value = number<std::uint32_t>(text);
  return value && *value != std::numeric_limits<std::uint32_t>::max() ? value : std::nullopt;
}

std::optional<std::uint32_t> user(std::string_view text) {
  if (const auto value = account_number(text)) return value;
  if (!is_account_name(text)) return std::nullopt;
  const auto* found = ::getpwnam(std::string(text).c_str());
  return found != nullptr ? std::optional<std::uint32_t>(found->pw_uid) : std::nullopt;
}

std::optional<std::uint32_t> group(std::string_view text) {
  if (const auto value = account_number(text)) return value;
  if (!is_account_name(text)) return std::nullopt;
  const auto* found = ::getgrnam(std::string(text).c_str());
  return found != nullptr ? std::optional<std::uint32_t>(found->gr_gid) : std::nullopt;
}

// A '+' at the end stands for all names that begin so, as in iptables.
std::optional<std::string> interface_name(std::string_view text) {
  auto name = text;
  if (name.ends_with('+')) name.remove_suffix(1);
  if (name.empty() || text.size() > kMaxInterfaceName || name.front() == '-' || name == "." ||
      name == "..") {
    return std::nullopt;
  }
  if (name.find_first_not_of(
          "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-") !=
      std::string_view::npos) {
    return std::nullopt;
  }
  return std::string(text);
}

std::optional<Cidr> cidr(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::string address(text.substr(0, slash));
  Cidr out;
  unsigned bits = 32;
  if (address.find(':') != std::string::npos) {
    out.family = Family::ipv6;
    bits = 128;
  }
  const int family = out.family == Family::ipv4 ? AF_INET : AF_INET6;
  if (::inet_pton(family, address.c_str(), out.bytes.data()) != 1) return std::nullopt;
  const auto prefix = number<unsigned>(text.substr(slash + 1));
  if (!prefix || *prefix > bits) return std::nullopt;
  out.prefix = *prefix;
  for (unsigned bit = out.prefix; bit < 128; ++bit) {
    out.bytes[bit / 8] &= static_cast<unsigned char>(~(0x80U >> (bit % 8)));
  }
  return out;
}

std::optional<unsigned> milliseconds(std::string_view text) {
  unsigned factor = 1000;
  if (text.ends_with("ms")) {
    factor = 1;
    text.remove_suffix(2);
  } else if (text.ends_with('s')) {
    text.remove_suffix(1);
  } else {
    return std::nullopt;
  }
  const auto value = number<unsigned>(text);
  if (!value || *value == 0 || *value > kMaxProbeTimeoutMs / factor) return std::nullopt;
  return *value * factor;
}

// Reads one flag after the other; the first that is wrong stays the error.
class Reader {
 public:
  std::string error;

  template <class T, class Parse>
  void one(std::string_view flag, const std::string& text, Parse parse, std::string_view allowed,
           T& out) {
    if (const auto value = parse(text)) {
      out = *value;
    } else {
      refuse(flag, text, allowed);
    }
  }

  template <class T, class Parse>
  void list(std::string_view flag, const std::string& text, Parse parse, std::string_view allowed,
            std::vector<T>& out) {
    std::string_view rest = text;
    while (!rest.empty()) {
      const auto comma = rest.find(',');
      const auto item = rest.substr(0, comma);
      const auto value = parse(item);
      if (!value) return refuse(flag, item, allowed);
      if (out.size() == kMaxListed) {
        return refuse(flag, item, fmt::format("at most {} items", kMaxListed));
      }
      out.push_back(*value);
      if (comma == std::string_view::npos) return;
      rest.remove_prefix(comma + 1);
      if (rest.empty()) return refuse(flag, text, "a list without a comma at its end");
    }
  }

  template <class T, class Parse>
  void selection(std::string_view flag, const std::string& text, Parse parse,
                 std::string_view allowed, Selection<T>& out) {
    if (text == "*") {
      out.all = true;
    } else {
      list(flag, text, parse, allowed, out.listed);
    }
  }

  void refuse(std::string_view flag, std::string_view text, std::string_view allowed) {
    if (!error.empty()) return;
    constexpr std::size_t kShown = 80;
    error = fmt::format("{}: {} is not allowed here; allowed: {}", flag,
                        config::quoted(text.substr(0, kShown)), allowed);
  }
};

constexpr std::string_view kPort = "a port from 1 to 65535";
constexpr std::string_view kPorts = "ports from 1 to 65535 with commas between, such as 80,443";
constexpr std::string_view kPortsOrAll =
    "'*', or ports from 1 to 65535 with commas between, such as 80,443, or nothing";
constexpr std::string_view kRanges =
    "address ranges with commas between, such as 10.0.0.0/8,fd00::/8";
constexpr std::string_view kRangesOrAll =
    "'*', or address ranges with commas between, such as 10.0.0.0/8,fd00::/8, or nothing";
constexpr std::string_view kUsers =
    "user ids, or names of users that exist here, with commas between";
constexpr std::string_view kGroups =
    "group ids, or names of groups that exist here, with commas between";
constexpr std::string_view kInterfaces =
    "names of interfaces with commas between: at most 15 of letters, digits, '_', '.', '@', '-', "
    "and '+' at the end for all that begin so";

void read_proxy(Reader& reader, const Flags& flags, Options& out) {
  reader.one("--envoy-port (-p)", flags.envoy_port, port, kPort, out.outbound_port);
  reader.one("--inbound-capture-port (-z)", flags.inbound_capture_port, port, kPort,
             out.inbound_port);
  reader.one("--inbound-tunnel-port (-e)", flags.inbound_tunnel_port, port, kPort, out.tunnel_port);
  reader.list("--proxy-uid (-u)", flags.proxy_uid, user, kUsers, out.uids);
  if (flags.proxy_uid.empty()) {
    out.uids = {user(flags.proxy_user).value_or(kDefaultProxyUid)};
  }
  reader.list("--proxy-gid (-g)", flags.proxy_gid, group, kGroups, out.gids);
  if (flags.proxy_gid.empty()) out.gids = out.uids;
  if (flags.interception_mode == "TPROXY") {
    out.mode = Mode::tproxy;
  } else if (!flags.interception_mode.empty() && flags.interception_mode != "REDIRECT") {
    reader.refuse("--istio-inbound-interception-mode (-m)", flags.interception_mode,
                  "REDIRECT or TPROXY");
  }
  reader.one("--istio-inbound-tproxy-mark (-t)", flags.tproxy_mark, mark,
             "a number from 1 to 4294967295", out.tproxy_mark);
  reader.one("--istio-inbound-tproxy-route-table (-r)", flags.tproxy_route_table, route_table,
             "a number from 1 to 4294967295 other than 253, 254 and 255", out.tproxy_table);
  reader.one("--iptables-probe-port", flags.probe_port, port, kPort, out.probe_port);
  reader.one("--probe-timeout", flags.probe_timeout, milliseconds,
             "a time such as 5s or 500ms, up to 10 minutes", out.probe_timeout_ms);
}

void read_traffic(Reader& reader, const Flags& flags, Options& out) {
  reader.selection("--istio-inbound-ports (-b)", flags.inbound_ports, port, kPortsOrAll,
                   out.inbound_ports);
  reader.list("--istio-local-exclude-ports (-d)", flags.local_exclude_ports, port, kPorts,
              out.inbound_exclude);
  reader.selection("--istio-service-cidr (-i)", flags.service_cidr, cidr, kRangesOrAll,
                   out.outbound_ranges);
  reader.list("--istio-service-exclude-cidr (-x)", flags.service_exclude_cidr, cidr, kRanges,
              out.outbound_exclude);
  reader.list("--istio-outbound-ports (-q)", flags.outbound_ports, port, kPorts,
              out.outbound_ports);
  reader.list("--istio-local-outbound-ports-exclude (-o)", flags.local_outbound_ports_exclude, port,
              kPorts, out.outbound_ports_exclude);
  reader.list("--istio-exclude-interfaces (-c)", flags.exclude_interfaces, interface_name,
              kInterfaces, out.excluded_interfaces);
  reader.list("--kube-virt-interfaces (-k)", flags.kube_virt_interfaces, interface_name,
              kInterfaces, out.virtual_interfaces);
}

void read_groups(Reader& reader, const Flags& flags, Options& out) {
  reader.selection("ISTIO_OUTBOUND_OWNER_GROUPS", flags.owner_groups, group, kGroups,
                   out.owner_groups);
  reader.list("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", flags.owner_groups_exclude, group, kGroups,
              out.owner_groups_exclude);
  if (out.owner_groups.empty()) out.owner_groups.all = true;
  if (!out.owner_groups.all && !out.owner_groups_exclude.empty()) {
    reader.refuse("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", flags.owner_groups_exclude,
                  "nothing, while ISTIO_OUTBOUND_OWNER_GROUPS lists groups");
  }
  if (out.owner_groups.listed.size() > kMaxOwnerGroups) {
    reader.refuse("ISTIO_OUTBOUND_OWNER_GROUPS", flags.owner_groups,
                  fmt::format("at most {} groups", kMaxOwnerGroups));
  }
}

}  // namespace

std::string_view name_of(Family family) noexcept {
  return family == Family::ipv4 ? "IPv4" : "IPv6";
}

std::string to_string(const Cidr& range) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = range.family == Family::ipv4 ? AF_INET : AF_INET6;
  ::inet_ntop(family, range.bytes.data(), text.data(), text.size());
  return fmt::format("{}/{}", text.data(), range.prefix);
}

std::expected<Options, std::string> parse_flags(const Flags& flags) {
  Reader reader;
  Options out;
  read_proxy(reader, flags, out);
  read_traffic(reader, flags, out);
  read_groups(reader, flags, out);
  out.drop_invalid = flags.drop_invalid;
  if (reader.error.empty() && out.outbound_port == out.inbound_port) {
    reader.refuse("--inbound-capture-port (-z)", flags.inbound_capture_port,
                  "another port than that of --envoy-port");
  }
  if (!reader.error.empty()) return std::unexpected(reader.error);
  return out;
}

}  // namespace proxy::redirect
