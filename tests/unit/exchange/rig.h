// ExchangeRig: real exchanges between a client's text (over an in-memory pipe, through the real
// codec) and endpoints that are loopback sockets of the test, through a real cluster.
// Not a worker: no listener, no TLS, one thread, and a clock that the test moves.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "proxy/exchange/exchange.h"
#include "proxy/http1/server_connection.h"
#include "proxy/route/table.h"
#include "proxy/upstream/pool.h"
#include "telemetry/access_log.h"
#include "telemetry/log.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/tcp_peer.h"

namespace proxy::test {

// A finished request as the access log has it.
struct Record {
  unsigned code = 0;
  std::string flags;
  std::string details;
  std::string line;
};

// The access log of a test, in memory.
class LogFile {
 public:
  LogFile() : fd_(::memfd_create("access", MFD_CLOEXEC)) {}
  ~LogFile() { ::close(fd_); }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  int fd() const noexcept { return fd_; }
  std::vector<Record> records() const {
    std::string text(static_cast<std::size_t>(::lseek(fd_, 0, SEEK_END)), '\0');
    if (::pread(fd_, text.data(), text.size(), 0) < 0) text.clear();
    std::vector<Record> out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = text.find('\n', at);
      Record record;
      record.line = text.substr(at, end - at);
      record.code = static_cast<unsigned>(std::stoul(after(record.line, "\"code\":")));
      record.flags = after(record.line, "\"flags\":\"");
      record.details = after(record.line, "\"details\":\"");
      out.push_back(std::move(record));
      at = end + 1;
    }
    return out;
  }

 private:
  static std::string after(const std::string& line, std::string_view key) {
    const std::size_t at = line.find(key) + key.size();
    return line.substr(at, line.find_first_of(",\"}", at) - at);
  }
  int fd_;
};

class ExchangeRig {
 public:
  // One connection of a client, as server/ would keep it.
  class Client final : private http::RequestHandler, private http::ServerConnectionOwner {
   public:
    Client(ExchangeRig& rig, PipeOptions pipe) : rig_(rig) {
      auto [ours, theirs] = PipeTransport::make(rig.fixture.loop, pipe);
      facts.policy = telemetry::SecurityPolicy::none;
      facts.peer.base = telemetry::peer_labels(nullptr, {}, {}, facts.policy);
      const net::Loop::Turn turn(rig.fixture.loop);
      http1::ServerConnectionOptions options;
      options.idle_timeout = rig.config.timeouts.idle;
      connection = std::make_unique<http1::ServerConnection>(
          std::move(ours), static_cast<http::RequestHandler&>(*this),
          static_cast<http::ServerConnectionOwner&>(*this), options);
      connection->start();
      wire = std::make_unique<PipePeer>(std::move(theirs));
    }
    ~Client() override {
      const net::Loop::Turn turn(rig_.fixture.loop);
      if (connection != nullptr) connection->abort(make_error(Code::drain_deadline, Side::local));
    }
    void send(std::string_view text) { wire->send(text); }
    bool has(std::string_view text) const { return wire->received.find(text) != std::string::npos; }
    bool gone() const { return wire->gone(); }

    exchange::Downstream facts;
    std::unique_ptr<http1::ServerConnection> connection;
    std::unique_ptr<PipePeer> wire;
    Error refusal{};

   private:
    void on_request_started(http::ServerStream& stream) override {
      rig_.pool.start(stream, facts, rig_.rules, refusal);
    }
    void on_closed(http::ServerConnection&, Error) override {
      rig_.fixture.loop.reap(std::move(connection));
    }
    ExchangeRig& rig_;
  };

  explicit ExchangeRig(std::size_t endpoints = 1) {
    for (std::size_t i = 0; i < endpoints; ++i) {
      servers.push_back(std::make_unique<TestServer>(fixture.loop));
    }
    config.workload.name = "reviews-v1";
    config.inbound.listen.text = ":1";
    config.timeouts.request = config::Milliseconds(0);
    spec.name = "app";
    spec.balance = config::Balance::round_robin;
    for (const auto& server : servers) {
      config::Endpoint endpoint;
      endpoint.text = server->address().text();
      endpoint.host = "127.0.0.1";
      endpoint.port = server->address().port();
      endpoint.addresses = {{"127.0.0.1", config::Family::ipv4}};
      spec.endpoints.push_back(std::move(endpoint));
    }
    config.inbound.app = spec.endpoints.empty() ? config::Endpoint{} : spec.endpoints.front();
  }
  ~ExchangeRig() {
    clients.clear();
    {
      const net::Loop::Turn turn(fixture.loop);
      servers.clear();
    }
    CHECK(pool.live() == 0);
    CHECK(started() == completed());
    {
      const net::Loop::Turn turn(fixture.loop);
      rules.reset();
      CHECK(cluster.expired());
    }
    CHECK(open_upstream() == 0);
  }

  // After changing `config` or `spec`; the next requests go by them.
  void apply() {
    const net::Loop::Turn turn(fixture.loop);
    struct Kept {
      config::Config config;
      route::Table routes;
      filter::Chain filters;
    };
    auto kept = std::make_shared<Kept>(
        Kept{config, route::Table::inbound(config), filter::make_inbound(config, registry)});
    auto made = std::make_shared<exchange::Rules>();
    made->config = &kept->config;
    made->routes = &kept->routes;
    made->filters = &kept->filters;
    made->direction = telemetry::Direction::inbound;
    auto its_cluster = std::make_shared<upstream::Cluster>(
        upstream_environment, std::make_shared<const upstream::ClusterSpec>(spec), 0);
    cluster = its_cluster;
    made->clusters.push_back(std::move(its_cluster));
    for (const route::Plan& plan : made->routes->plans()) {
      made->destinations.push_back(
          shard.intern_destination({plan.service, plan.service_name, plan.service_namespace}));
    }
    made->snapshot = std::move(kept);
    rules = std::move(made);
  }

  Client& connect(PipeOptions pipe = {}) {
    if (rules == nullptr) apply();
    clients.push_back(std::make_unique<Client>(*this, pipe));
    return *clients.back();
  }
  TestServer& server(std::size_t index = 0) { return *servers[index]; }
  bool until(const std::function<bool()>& done) { return fixture.run_until(done); }
  // The n-th connection of an endpoint (from 0), once it has sent `text`.
  TcpPeer* upstream(std::string_view text = "\r\n\r\n", std::size_t n = 0, std::size_t index = 0) {
    TestServer& from = server(index);
    const bool came = until([&] { return from.peers.size() > n && from.peers[n]->has(text); });
    CHECK(came);
    return came ? from.peers[n].get() : nullptr;
  }
  bool until_records(std::size_t count) {
    return until([&] { return completed() >= count; });
  }
  std::vector<Record> records() {
    access.flush();
    return file.records();
  }
  std::uint64_t started() { return shard.ledger(0).started.get(); }
  std::uint64_t completed() { return shard.ledger(0).completed.get(); }
  std::uint64_t open_upstream() {
    constexpr telemetry::GaugeCell<> kCell(telemetry::Gauge::upstream_connections_open);
    return shard.gauge(kCell.first);
  }
  template <class... Labels>
  std::uint64_t counter(std::type_identity_t<telemetry::CounterCell<Labels...>> cell,
                        Labels... labels) {
    return shard.counter(cell.first + telemetry::cell_of(labels...));
  }

  LoopFixture fixture;
  config::Config config;
  upstream::ClusterSpec spec;
  std::vector<std::unique_ptr<TestServer>> servers;
  telemetry::Registry registry{1000};
  telemetry::Shard shard{registry};
  LogFile file;
  telemetry::AccessLog access{{.mode = telemetry::AccessMode::all, .fd = file.fd()}};
  telemetry::AccessLog::Producer& producer{access.add_producer(shard)};
  telemetry::Log log{{.level = telemetry::LogLevel::off}};
  telemetry::RateLimitedLog limited_log{log, 5, 1'000'000};
  telemetry::PeerMetadataCache peers;
  filter::RequestIds ids{42};
  filter::WorkerState filters{shard, peers, ids};
  tls::ClientSessions sessions;
  upstream::Environment upstream_environment{fixture.loop, shard, sessions, limited_log};
  exchange::Environment environment{fixture.loop, filters, producer};
  exchange::ExchangePool pool{environment};
  std::shared_ptr<const exchange::Rules> rules;
  std::weak_ptr<upstream::Cluster> cluster;
  std::vector<std::unique_ptr<Client>> clients;
};

}  // namespace proxy::test
