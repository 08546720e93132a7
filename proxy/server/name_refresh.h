// NameRefresh: keeps the addresses of names up to date, as their TTLs ask for.
// Not DNS itself (net/resolver.h), and not the endpoints made of the addresses (endpoints.h).
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "proxy/config/schema.h"
#include "proxy/net/resolver.h"
#include "proxy/net/timer.h"
#include "telemetry/collector.h"
#include "telemetry/log.h"

namespace proxy::server {

// As Envoy's STRICT_DNS with respect_dns_ttl. One for the process, on the main thread's loop. A
// failed refresh leaves the last addresses in use, for as long as it takes.
class NameRefresh {
 public:
  // An answer holds for its TTL, but at least and at most so long. The upper bound is for name
  // servers whose TTL knows nothing of restarts: Docker's says 600 s for a container.
  static constexpr std::chrono::milliseconds kShortest{1'000};
  static constexpr std::chrono::milliseconds kLongest{30'000};
  // For a TTL of 0, and names of /etc/hosts, which have none. Envoy's dns_refresh_rate.
  static constexpr std::chrono::milliseconds kWithoutTtl{5'000};
  // After a failure; doubles with each that follows.
  static constexpr std::chrono::milliseconds kFirstRetry{1'000};
  static constexpr std::chrono::milliseconds kLastRetry{16'000};
  // How long follow() waits for the first answers.
  static constexpr std::chrono::milliseconds kFirstAnswers{2'000};

  // `changed` is called in a turn when the addresses of any name are others; changes that come
  // together are one call. Collector and log outlive this.
  NameRefresh(net::Loop& loop, telemetry::Collector& collector, telemetry::Log& log,
              std::function<void()> changed);
  ~NameRefresh();
  NameRefresh(const NameRefresh&) = delete;
  NameRefresh& operator=(const NameRefresh&) = delete;

  // Follows these names and no others, by these name servers (none: those of /etc/resolv.conf).
  // What is known of a name stays known. `then` is called once: in here when nothing is to be
  // waited for, else in a turn, when every name has had an answer or a failure, and at the latest
  // after kFirstAnswers. A `then` that waits is replaced.
  void follow(const std::set<std::string>& names, const std::vector<std::string>& servers,
              std::function<void()> then);
  // Waits for `then`.
  bool waiting() const noexcept { return then_ != nullptr; }

  // What a name's addresses are as far as is known; empty: none, or the name is not followed.
  std::vector<config::IpAddress> addresses(const std::string& name) const;

 private:
  struct Name;

  void look_up(Name& name);
  void answered(Name& name, const net::DnsAnswer& answer);
  void failed(Name& name, const net::DnsAnswer& answer);
  void go_on();
  std::chrono::milliseconds with_jitter(std::chrono::milliseconds interval);

  net::Loop& loop_;
  telemetry::Collector& collector_;
  telemetry::Log& log_;
  telemetry::RateLimitedLog limited_log_;
  std::function<void()> changed_;
  std::function<void()> then_;
  net::Timer publish_;
  net::Timer give_up_;
  std::minstd_rand random_;
  std::map<std::string, std::unique_ptr<Name>, std::less<>> names_;
  std::unique_ptr<net::Resolver> resolver_;  // its callbacks name names_, so it goes before
};

}  // namespace proxy::server
