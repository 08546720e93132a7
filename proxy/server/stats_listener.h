// StatsListener: /stats/prometheus and the health pages, on the main thread's loop.
// Not a worker's business: a slow scrape can never hold up a request.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "proxy/http/connection.h"
#include "proxy/net/listener.h"
#include "proxy/net/loop.h"
#include "proxy/server/agent_pages.h"
#include "telemetry/collector.h"

namespace proxy::server {

class StatsListener final : private net::ListenerUser {
 public:
  enum class Pages : std::uint8_t { all, ready_only, agent };

  // `ready` tells whether the server serves and is not draining. `agent`: with Pages::agent; what
  // answers then beside metrics and health.
  StatsListener(net::Loop& loop, telemetry::Collector& collector, Pages pages,
                std::function<bool()> ready, AgentPages* agent = nullptr);
  ~StatsListener() override;
  Result<> listen(net::BoundSocket socket);

 private:
  class Client;    // one connection
  class Response;  // one request on it

  // Scrapers are few; whoever opens more is not one. The oldest unused connection gives way to a
  // new one; when all are in use the new one is turned away.
  static constexpr std::size_t kMaxClients = 100;

  void on_accept(std::unique_ptr<net::TcpTransport> transport) override;
  void on_accept_failed(int) override {}
  bool make_room();

  net::Loop& loop_;
  telemetry::Collector& collector_;
  const Pages pages_;
  std::function<bool()> ready_;
  AgentPages* const agent_;
  std::vector<std::unique_ptr<net::Listener>> listeners_;
  IntrusiveList<Client> clients_;  // owned: each reaps itself
};

}  // namespace proxy::server
