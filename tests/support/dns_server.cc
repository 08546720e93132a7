// Messages by hand (RFC 1035 4), one thread, one query at a time.
// Not a parser to rely on: it reads what c-ares sends.
#include "tests/support/dns_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <utility>

namespace proxy::test {
namespace {

std::string number16(unsigned value) {
  return {static_cast<char>(value >> 8), static_cast<char>(value)};
}

std::string number32(std::uint32_t value) {
  return number16(value >> 16) + number16(value & 0xffff);
}

std::string labels(std::string_view name) {
  std::string out;
  while (!name.empty()) {
    const std::string_view label = name.substr(0, name.find('.'));
    out += static_cast<char>(label.size());
    out += label;
    name.remove_prefix(std::min(name.size(), label.size() + 1));
  }
  return out + '\0';
}

unsigned read16(std::string_view message, std::size_t at) {
  return (static_cast<unsigned char>(message[at]) << 8U) |
         static_cast<unsigned char>(message[at + 1]);
}

// The question of a query, which stands behind twelve bytes of header.
DnsQuery read_query(std::string_view message) {
  DnsQuery query;
  if (message.size() < 17) return query;
  query.id = static_cast<std::uint16_t>(read16(message, 0));
  std::size_t at = 12;
  while (at < message.size() && message[at] != '\0') {
    const auto length = static_cast<std::size_t>(message[at]);
    if (!query.name.empty()) query.name += '.';
    for (const char c : message.substr(at + 1, length)) {
      query.name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    at += 1 + length;
  }
  if (at + 3 <= message.size()) query.type = static_cast<std::uint16_t>(read16(message, at + 1));
  return query;
}

DnsRecord address_record(int family, std::string name, const std::string& address,
                         std::uint32_t ttl) {
  std::array<char, 16> bytes{};
  if (::inet_pton(family, address.c_str(), bytes.data()) != 1) std::abort();
  const bool v4 = family == AF_INET;
  return {std::move(name), v4 ? kTypeA : kTypeAaaa, ttl, {bytes.data(), v4 ? 4U : 16U}};
}

int bound(int type, std::uint16_t port) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

std::uint16_t port_of(int fd) {
  sockaddr_in address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.sin_port);
}

}  // namespace

DnsRecord a_record(std::string name, const std::string& address, std::uint32_t ttl) {
  return address_record(AF_INET, std::move(name), address, ttl);
}

DnsRecord aaaa_record(std::string name, const std::string& address, std::uint32_t ttl) {
  return address_record(AF_INET6, std::move(name), address, ttl);
}

DnsRecord cname_record(std::string name, const std::string& target, std::uint32_t ttl) {
  return {std::move(name), kTypeCname, ttl, labels(target)};
}

std::string dns_message(const DnsQuery& query, int rcode, const std::vector<DnsRecord>& records,
                        bool truncated) {
  const unsigned flags = 0x8580U | (truncated ? 0x0200U : 0U) | static_cast<unsigned>(rcode);
  std::string out = number16(query.id) + number16(flags) + number16(1) +
                    number16(static_cast<unsigned>(records.size())) + number16(0) + number16(0) +
                    labels(query.name) + number16(query.type) + number16(1);
  for (const DnsRecord& record : records) {
    out += labels(record.name) + number16(record.type) + number16(1) + number32(record.ttl) +
           number16(static_cast<unsigned>(record.data.size())) + record.data;
  }
  return out;
}

DnsServer::DnsServer(Handler handler) : handler_(std::move(handler)) {
  // The same port for both: another one if the second is taken.
  while (tcp_ < 0) {
    if (udp_ >= 0) ::close(udp_);
    udp_ = bound(SOCK_DGRAM, 0);
    port_ = port_of(udp_);
    tcp_ = bound(SOCK_STREAM, port_);
  }
  if (::listen(tcp_, 16) != 0 || ::pipe(stop_) != 0) std::abort();
  thread_ = std::thread([this] { run(); });
}

DnsServer::~DnsServer() {
  ::close(stop_[1]);
  thread_.join();
  for (const int fd : {udp_, tcp_, stop_[0]}) ::close(fd);
}

std::string DnsServer::address() const {
  return "127.0.0.1:" + std::to_string(port_);
}

std::vector<DnsQuery> DnsServer::queries() const {
  const std::scoped_lock lock(mutex_);
  return queries_;
}

std::size_t DnsServer::asked(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  return static_cast<std::size_t>(std::count_if(
      queries_.begin(), queries_.end(), [&](const DnsQuery& query) { return query.name == name; }));
}

void DnsServer::answer_with(Handler handler) {
  const std::scoped_lock lock(mutex_);
  handler_ = std::move(handler);
}

void DnsServer::run() {
  while (true) {
    std::array<pollfd, 3> waits = {{{stop_[0], POLLIN, 0}, {udp_, POLLIN, 0}, {tcp_, POLLIN, 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0) continue;
    if (waits[0].revents != 0) return;
    if (waits[1].revents != 0) serve_udp();
    if (waits[2].revents != 0) serve_tcp();
  }
}

std::vector<std::string> DnsServer::replies(std::string_view message, bool tcp) {
  DnsQuery query = read_query(message);
  query.tcp = tcp;
  const std::scoped_lock lock(mutex_);
  queries_.push_back(query);
  return handler_(query);
}

void DnsServer::serve_udp() {
  std::array<char, 4096> buffer{};
  sockaddr_storage from{};
  socklen_t length = sizeof from;
  const auto count = ::recvfrom(udp_, buffer.data(), buffer.size(), 0,
                                reinterpret_cast<sockaddr*>(&from), &length);
  if (count <= 0) return;
  for (const auto& reply : replies({buffer.data(), static_cast<std::size_t>(count)}, false)) {
    ::sendto(udp_, reply.data(), reply.size(), 0, reinterpret_cast<sockaddr*>(&from), length);
  }
}

// One query, its answers, and the end.
void DnsServer::serve_tcp() {
  const int peer = ::accept4(tcp_, nullptr, nullptr, SOCK_CLOEXEC);
  if (peer < 0) return;
  std::array<char, 2> size{};
  if (::recv(peer, size.data(), size.size(), MSG_WAITALL) == 2) {
    std::string message(read16({size.data(), size.size()}, 0), '\0');
    if (::recv(peer, message.data(), message.size(), MSG_WAITALL) ==
        static_cast<ssize_t>(message.size())) {
      for (const auto& reply : replies(message, true)) {
        const std::string framed = number16(static_cast<unsigned>(reply.size())) + reply;
        ::send(peer, framed.data(), framed.size(), MSG_NOSIGNAL);
      }
    }
  }
  ::close(peer);
}

}  // namespace proxy::test
