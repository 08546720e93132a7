// What is to be intercepted, in the words of istio-iptables, and the checked form of it.
// Not the rules that follow from it (rules.h), and not the command line (commands/redirect.cc).
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <string>
#include <vector>

namespace proxy::redirect {

enum class Family : std::uint8_t { ipv4, ipv6 };
inline constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};

// "IPv4", "IPv6".
std::string_view name_of(Family family) noexcept;

// A range of addresses; the bits after the prefix are zero. IPv4 uses the first four bytes.
struct Cidr {
  Family family = Family::ipv4;
  std::array<unsigned char, 16> bytes{};
  unsigned prefix = 0;

  bool operator==(const Cidr&) const = default;
};

// "10.0.0.0/8", "fd00::/8".
std::string to_string(const Cidr& range);

// The values of the flags as they were written; the defaults are those of istio-iptables.
struct Flags {
  std::string envoy_port = "15001";
  std::string inbound_capture_port = "15006";
  std::string inbound_tunnel_port = "15008";
  std::string proxy_uid;
  std::string proxy_gid;
  std::string interception_mode;
  std::string inbound_ports;
  std::string local_exclude_ports;
  std::string service_cidr;
  std::string service_exclude_cidr;
  std::string outbound_ports;
  std::string local_outbound_ports_exclude;
  std::string exclude_interfaces;
  std::string kube_virt_interfaces;
  std::string tproxy_mark = "1337";
  std::string tproxy_route_table = "133";
  std::string probe_port = "15002";
  std::string probe_timeout = "5s";
  // From the environment only, as there.
  std::string owner_groups = "*";
  std::string owner_groups_exclude;
  std::string proxy_user = "istio-proxy";
  bool drop_invalid = false;
};

enum class Mode : std::uint8_t { redirect, tproxy };

// "*", or exactly these (none: an empty list).
template <class T>
struct Selection {
  bool all = false;
  std::vector<T> listed;

  bool empty() const noexcept { return !all && listed.empty(); }
};

struct Options {
  std::uint16_t outbound_port = 0;  // of the proxy, for what the workload sends
  std::uint16_t inbound_port = 0;   // of the proxy, for what arrives for the workload
  std::uint16_t tunnel_port = 0;    // never redirected
  std::vector<std::uint32_t> uids;  // of the proxy; at least one
  std::vector<std::uint32_t> gids;  // of the proxy; at least one
  Mode mode = Mode::redirect;
  Selection<std::uint16_t> inbound_ports;
  std::vector<std::uint16_t> inbound_exclude;
  Selection<Cidr> outbound_ranges;
  std::vector<Cidr> outbound_exclude;
  std::vector<std::uint16_t> outbound_ports;
  std::vector<std::uint16_t> outbound_ports_exclude;
  std::vector<std::string> excluded_interfaces;
  std::vector<std::string> virtual_interfaces;
  Selection<std::uint32_t> owner_groups;
  std::vector<std::uint32_t> owner_groups_exclude;
  std::uint32_t tproxy_mark = 0;
  std::uint32_t tproxy_table = 0;
  std::uint16_t probe_port = 0;
  unsigned probe_timeout_ms = 0;
  bool drop_invalid = false;
};

// Checks every value; nothing that passes can be anything but a number, a range or the name of an
// interface in the text made from it. The error names the flag, what stood there and what may.
// Names of users and groups are looked up.
std::expected<Options, std::string> parse_flags(const Flags& flags);

}  // namespace proxy::redirect
