// AgentPages: what Istio's agent answers beside the proxy: the app's metrics and probes, and the
// end. Not the HTTP of these pages (stats_listener.h).
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/probers.h"
#include "proxy/config/schema.h"
#include "proxy/server/fetch.h"

namespace proxy::server {

class AgentPages {
 public:
  // `drain`: begin to leave as after SIGTERM. `quit`: end without waiting for anybody.
  AgentPages(net::Loop& loop, const config::Config& config, std::function<void()> drain,
             std::function<void()> quit);
  // After a reload.
  void configure(const config::Config& config);

  void drain() const { drain_(); }
  void quit() const { quit_(); }

  // The app's own metrics in text format 0.0.4, for the end of a scrape that is in the same format;
  // empty when the app gives none, too late, too many or in another format: a scrape of ours never
  // fails because of it. Null, and no call, when no metrics are configured.
  std::unique_ptr<Fetch> fetch_metrics(std::chrono::milliseconds timeout,
                                       std::function<void(std::string)> done);
  // The probe of this path, or null.
  const config::Prober* prober(std::string_view path) const;
  // Does what the kubelet would have done; true: the app is well.
  std::unique_ptr<Fetch> probe(const config::Prober& prober, std::function<void(bool)> done);

  static constexpr std::size_t kMaxMetrics = 16 * 1024 * 1024;

 private:
  FetchRequest request_to(std::uint16_t port) const;

  net::Loop& loop_;
  std::function<void()> drain_;
  std::function<void()> quit_;
  config::Agent agent_;
  std::vector<config::Prober> probers_;
  bool intercepts_ = false;
};

}  // namespace proxy::server
