// DnsServer: a name server on a free loopback port, UDP and TCP, that answers as a test says.
// Not a resolver, and no better than the tests need: it compresses nothing and keeps no zones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace proxy::test {

inline constexpr std::uint16_t kTypeA = 1;
inline constexpr std::uint16_t kTypeCname = 5;
inline constexpr std::uint16_t kTypeAaaa = 28;

struct DnsQuery {
  std::uint16_t id = 0;
  std::string name;  // lower case, without the last dot
  std::uint16_t type = 0;
  bool tcp = false;
};

// One resource record (RFC 1035 4.1.3) of class IN.
struct DnsRecord {
  std::string name;
  std::uint16_t type = kTypeA;
  std::uint32_t ttl = 0;
  std::string data;
};
DnsRecord a_record(std::string name, const std::string& address, std::uint32_t ttl);
DnsRecord aaaa_record(std::string name, const std::string& address, std::uint32_t ttl);
DnsRecord cname_record(std::string name, const std::string& target, std::uint32_t ttl);

inline constexpr int kNoError = 0;
inline constexpr int kServFail = 2;
inline constexpr int kNxDomain = 3;
inline constexpr int kRefused = 5;

// A whole message that answers `query`.
std::string dns_message(const DnsQuery& query, int rcode, const std::vector<DnsRecord>& records,
                        bool truncated = false);

class DnsServer {
 public:
  // What is sent for a query, message by message; none: silence. Runs on the server's thread.
  using Handler = std::function<std::vector<std::string>(const DnsQuery&)>;
  explicit DnsServer(Handler handler);
  ~DnsServer();
  DnsServer(const DnsServer&) = delete;
  DnsServer& operator=(const DnsServer&) = delete;

  std::string address() const;  // "127.0.0.1:PORT"
  std::vector<DnsQuery> queries() const;
  std::size_t asked(std::string_view name) const;
  void answer_with(Handler handler);

 private:
  void run();
  std::vector<std::string> replies(std::string_view message, bool tcp);
  void serve_udp();
  void serve_tcp();

  mutable std::mutex mutex_;  // handler_ and queries_
  Handler handler_;
  std::vector<DnsQuery> queries_;
  std::uint16_t port_ = 0;
  int udp_ = -1;
  int tcp_ = -1;
  int stop_[2] = {-1, -1};
  std::thread thread_;
};

}  // namespace proxy::test
