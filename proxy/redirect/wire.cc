// Builds the interfaces over rtnetlink, and Ethernet, IP and TCP headers by hand (RFC 791, 8200,
// 9293). Only what a handshake needs: no options, no retransmission, nothing reassembled.
#include "proxy/redirect/wire.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "proxy/redirect/netlink.h"

namespace proxy::redirect {
namespace {

constexpr std::uint8_t kSyn = 0x02, kPush = 0x08, kAck = 0x10;
constexpr std::uint32_t kFirstSequence = 1000;
constexpr std::size_t kEthernet = 14, kIpv4 = 20, kIpv6 = 40, kTcp = 20;

// A station that nobody is, so that the kernel on the far end leaves its packets alone.
constexpr std::array<unsigned char, 6> kClientStation = {0x02, 0x68, 0x6f, 0x70, 0x6c, 0x69};
constexpr std::array<unsigned char, 6> kNearStation = {0x02, 0x68, 0x6f, 0x70, 0x6e, 0x65};

std::string failed(std::string_view what, int error) {
  return fmt::format("{}: {}", what, std::strerror(error));
}

void put16(std::vector<unsigned char>& out, unsigned value) {
  out.push_back(static_cast<unsigned char>(value >> 8));
  out.push_back(static_cast<unsigned char>(value));
}

void put32(std::vector<unsigned char>& out, std::uint32_t value) {
  put16(out, value >> 16);
  put16(out, value & 0xffff);
}

void put(std::vector<unsigned char>& out, std::span<const unsigned char> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

std::span<const unsigned char> address(const Endpoint& endpoint) {
  return std::span(endpoint.bytes).first(endpoint.family == Family::ipv4 ? 4 : 16);
}

unsigned get16(std::span<const unsigned char> in, std::size_t at) {
  return static_cast<unsigned>(in[at] << 8U | in[at + 1]);
}

std::uint32_t get32(std::span<const unsigned char> in, std::size_t at) {
  return static_cast<std::uint32_t>(get16(in, at)) << 16U | get16(in, at + 2);
}

// RFC 1071.
unsigned checksum(std::span<const unsigned char> bytes) {
  std::uint32_t sum = 0;
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    sum += at % 2 == 0 ? static_cast<std::uint32_t>(bytes[at]) << 8U : bytes[at];
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

void set_checksum(std::vector<unsigned char>& bytes, std::size_t at, unsigned value) {
  bytes[at] = static_cast<unsigned char>(value >> 8);
  bytes[at + 1] = static_cast<unsigned char>(value);
}

std::vector<unsigned char> tcp_segment(const Endpoint& from, const Endpoint& to, std::uint8_t flags,
                                       std::uint32_t sequence, std::uint32_t acknowledged,
                                       std::string_view payload) {
  std::vector<unsigned char> out;
  put16(out, from.port);
  put16(out, to.port);
  put32(out, sequence);
  put32(out, acknowledged);
  out.push_back(kTcp / 4 << 4);
  out.push_back(flags);
  put16(out, 0xffff);  // window
  put32(out, 0);       // checksum, urgent pointer
  out.insert(out.end(), payload.begin(), payload.end());
  std::vector<unsigned char> covered;  // with the pseudo header
  put(covered, address(from));
  put(covered, address(to));
  put32(covered, IPPROTO_TCP);
  put32(covered, static_cast<std::uint32_t>(out.size()));
  put(covered, out);
  set_checksum(out, 16, checksum(covered));
  return out;
}

std::vector<unsigned char> ip_header(const Endpoint& from, const Endpoint& to, std::size_t size) {
  std::vector<unsigned char> out;
  if (from.family == Family::ipv4) {
    put16(out, 0x4500);
    put16(out, static_cast<unsigned>(kIpv4 + size));
    put32(out, 0x00004000);  // not to be fragmented
    put16(out, 64U << 8U | IPPROTO_TCP);
    put16(out, 0);
    put(out, address(from));
    put(out, address(to));
    set_checksum(out, 10, checksum(out));
  } else {
    put32(out, 0x60000000);
    put16(out, static_cast<unsigned>(size));
    put16(out, static_cast<unsigned>(IPPROTO_TCP) << 8U | 64U);
    put(out, address(from));
    put(out, address(to));
  }
  return out;
}

int bring_up(Netlink& netlink, const std::string& name) {
  ifinfomsg fixed{};
  fixed.ifi_index = static_cast<int>(::if_nametoindex(name.c_str()));
  fixed.ifi_flags = IFF_UP;
  fixed.ifi_change = IFF_UP;
  return netlink.request(NetlinkMessage(RTM_NEWLINK, NLM_F_ACK, fixed));
}

}  // namespace

Endpoint Wire::client(Family family, std::uint16_t port) {
  return endpoint(family, family == Family::ipv4 ? "192.0.2.11" : "2001:db8::b", port);
}

Endpoint Wire::server(Family family, std::uint16_t port) {
  return endpoint(family, family == Family::ipv4 ? "192.0.2.10" : "2001:db8::a", port);
}

std::expected<std::unique_ptr<Wire>, std::string> Wire::open(bool ipv6) {
  std::unique_ptr<Wire> out(new Wire);
  if (auto error = out->make(ipv6); !error.empty()) return std::unexpected(std::move(error));
  return out;
}

Wire::~Wire() {
  if (fd_ >= 0) ::close(fd_);
  if (near_index_ == 0) return;
  Netlink netlink;
  ifinfomsg fixed{};
  fixed.ifi_index = near_index_;
  netlink.request(NetlinkMessage(RTM_DELLINK, NLM_F_ACK, fixed));  // the far end goes with it
}

std::string Wire::make(bool ipv6) {
  near_ = fmt::format("hopn{}", ::getpid());
  far_ = fmt::format("hopf{}", ::getpid());
  Netlink netlink;
  NetlinkMessage pair(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, ifinfomsg{});
  pair.add_text(IFLA_IFNAME, near_);
  pair.add(IFLA_ADDRESS, kNearStation);
  const auto details = pair.open(IFLA_LINKINFO);
  pair.add(IFLA_INFO_KIND, "veth", 4);
  const auto kind = pair.open(IFLA_INFO_DATA);
  const auto other = pair.open(VETH_INFO_PEER);
  pair.add_fixed(ifinfomsg{});
  pair.add_text(IFLA_IFNAME, far_);
  pair.close(other);
  pair.close(kind);
  pair.close(details);
  if (const int error = netlink.request(std::move(pair)); error != 0) {
    return failed("cannot make a pair of interfaces (veth)", error);
  }
  near_index_ = static_cast<int>(::if_nametoindex(near_.c_str()));
  for (const auto& name : {near_, far_}) {
    if (const int error = bring_up(netlink, name); error != 0) return failed(name, error);
  }
  if (auto error = give_address(Family::ipv4); !error.empty()) return error;
  if (ipv6) {
    if (auto error = give_address(Family::ipv6); !error.empty()) return error;
  }
  fd_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
  if (fd_ < 0) return failed("cannot open a packet socket (NET_RAW)", errno);
  sockaddr_ll at{};
  at.sll_family = AF_PACKET;
  at.sll_protocol = htons(ETH_P_ALL);
  at.sll_ifindex = static_cast<int>(::if_nametoindex(far_.c_str()));
  if (::bind(fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) {
    return failed("cannot bind the packet socket", errno);
  }
  return {};
}

std::string Wire::give_address(Family family) const {
  Netlink netlink;
  const auto family_number = static_cast<std::uint8_t>(family == Family::ipv4 ? AF_INET : AF_INET6);
  const auto ours = server(family, 0);
  const auto theirs = client(family, 0);
  ifaddrmsg fixed{};
  fixed.ifa_family = family_number;
  fixed.ifa_prefixlen = family == Family::ipv4 ? 31 : 127;
  fixed.ifa_flags = IFA_F_NODAD;
  fixed.ifa_index = static_cast<unsigned>(near_index_);
  NetlinkMessage add(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, fixed);
  add.add(IFA_LOCAL, address(ours).data(), address(ours).size());
  add.add(IFA_ADDRESS, address(ours).data(), address(ours).size());
  if (const int error = netlink.request(std::move(add)); error != 0) {
    return failed(fmt::format("cannot give {} an address", near_), error);
  }
  ndmsg neighbor{};
  neighbor.ndm_family = family_number;
  neighbor.ndm_ifindex = near_index_;
  neighbor.ndm_state = NUD_PERMANENT;
  NetlinkMessage station(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE, neighbor);
  station.add(NDA_DST, address(theirs).data(), address(theirs).size());
  station.add(NDA_LLADDR, kClientStation);
  const int error = netlink.request(std::move(station));
  return error == 0 ? std::string() : failed("cannot add a neighbor", error);
}

void Wire::send(const Endpoint& from, const Endpoint& to, std::uint8_t flags,
                std::uint32_t sequence, std::uint32_t acknowledged, std::string_view bytes) const {
  const auto segment = tcp_segment(from, to, flags, sequence, acknowledged, bytes);
  std::vector<unsigned char> frame;
  put(frame, kNearStation);
  put(frame, kClientStation);
  put16(frame, from.family == Family::ipv4 ? ETH_P_IP : ETH_P_IPV6);
  put(frame, ip_header(from, to, segment.size()));
  put(frame, segment);
  // One that is lost is a connection that did not arrive, which is what the caller finds out.
  (void)::send(fd_, frame.data(), frame.size(), 0);
}

void Wire::connect(Family family, std::uint16_t port, std::uint16_t to) {
  send(client(family, port), server(family, to), kSyn, kFirstSequence, 0, {});
}

void Wire::on_packet(std::span<const unsigned char> frame, std::string_view bytes) {
  if (frame.size() < kEthernet + kIpv4 + kTcp) return;
  const auto kind = get16(frame, 12);
  const auto packet = frame.subspan(kEthernet);
  const auto family = kind == ETH_P_IP ? Family::ipv4 : Family::ipv6;
  std::size_t header = kIpv6;
  if (kind == ETH_P_IP) {
    header = static_cast<std::size_t>(packet[0] & 0x0fU) * 4;
    if (packet[9] != IPPROTO_TCP) return;
  } else if (kind != ETH_P_IPV6 || packet[6] != IPPROTO_TCP) {
    return;
  }
  if (packet.size() < header + kTcp) return;
  const auto segment = packet.subspan(header);
  if ((segment[13] & (kSyn | kAck)) != (kSyn | kAck)) return;
  const auto from = server(family, static_cast<std::uint16_t>(get16(segment, 0)));
  const auto to = client(family, static_cast<std::uint16_t>(get16(segment, 2)));
  send(to, from, bytes.empty() ? kAck : kAck | kPush, kFirstSequence + 1, get32(segment, 4) + 1,
       bytes);
}

void Wire::answer(std::string_view bytes) {
  std::array<unsigned char, 2048> frame;
  while (true) {
    sockaddr_ll from{};
    socklen_t length = sizeof from;
    const auto got =
        ::recvfrom(fd_, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (got <= 0) return;
    if (from.sll_pkttype == PACKET_OUTGOING) continue;  // our own
    on_packet(std::span(frame).first(static_cast<std::size_t>(got)), bytes);
  }
}

}  // namespace proxy::redirect
