// ClusterRig: one cluster over loopback endpoints of the test, and users of its connections.
// Not an exchange: a Caller waits, opens a stream, and does what the test says.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "proxy/upstream/pool.h"
#include "telemetry/log.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/stream_users.h"
#include "tests/support/tcp_peer.h"

namespace proxy::test {

class ClusterRig {
 public:
  explicit ClusterRig(std::size_t endpoints = 1) {
    for (std::size_t i = 0; i < endpoints; ++i) {
      servers.push_back(std::make_unique<TestServer>(fixture.loop));
    }
    spec.name = "service";
    for (const auto& server : servers) {
      config::Endpoint endpoint;
      endpoint.text = server->address().text();
      endpoint.host = "127.0.0.1";
      endpoint.port = server->address().port();
      endpoint.addresses = {{"127.0.0.1", config::Family::ipv4}};
      spec.endpoints.push_back(std::move(endpoint));
    }
  }
  ~ClusterRig() {
    const net::Loop::Turn turn(fixture.loop);
    servers.clear();
    cluster.reset();
  }
  upstream::Cluster& make() {
    const net::Loop::Turn turn(fixture.loop);
    cluster = std::make_unique<upstream::Cluster>(
        environment, std::make_shared<const upstream::ClusterSpec>(spec), 0);
    return *cluster;
  }
  bool until(const std::function<bool()>& done) { return fixture.run_until(done); }
  std::size_t accepted() const {
    std::size_t count = 0;
    for (const auto& server : servers) count += server->peers.size();
    return count;
  }
  std::uint64_t open() const {
    constexpr telemetry::GaugeCell<> kCell(telemetry::Gauge::upstream_connections_open);
    return shard.gauge(kCell.first);
  }
  std::uint64_t pending_refused() const {
    constexpr telemetry::CounterCell<telemetry::Limit> kCell(telemetry::Counter::limits_hit);
    return shard.counter(kCell.first + telemetry::cell_of(telemetry::Limit::pending_requests));
  }

  LoopFixture fixture;
  upstream::ClusterSpec spec;
  std::vector<std::unique_ptr<TestServer>> servers;
  telemetry::Registry registry{1000};
  telemetry::Shard shard{registry};
  telemetry::Log log{{.level = telemetry::LogLevel::off}};
  telemetry::RateLimitedLog limited_log{log, 5, 1'000'000};
  tls::ClientSessions sessions;
  upstream::Environment environment{fixture.loop, shard, sessions, limited_log};
  std::unique_ptr<upstream::Cluster> cluster;
};

// One request of a cluster's user.
class Caller final : public upstream::Waiter {
 public:
  explicit Caller(ClusterRig& rig) : rig_(rig), response(rig.fixture.loop) {}

  // Whoever leaves gives up its stream.
  ~Caller() override { response.reset(make_error(Code::downstream_closed, Side::downstream)); }

  // False: refused at once.
  bool ask(std::size_t endpoint = 0, upstream::Codec codec = upstream::Codec::http1) {
    const net::Loop::Turn turn(rig_.fixture.loop);
    auto got = rig_.cluster->acquire(endpoint, codec, *this);
    if (!got) {
      why = got.error();
      return false;
    }
    if (*got != nullptr) on_ready(**got);
    return true;
  }
  // The whole of an exchange that gets `answer`.
  void finish(TcpPeer& peer, std::string_view answer = kOk) {
    peer.send(answer);
    CHECK(rig_.until([this] { return response.notes.ends > 0; }));
  }
  bool ready() const { return connection != nullptr; }

  static constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

  upstream::PooledConnection* connection = nullptr;
  int failures = 0;
  Error why{};
  std::function<void()> when_failed;

 private:
  ClusterRig& rig_;

 public:
  TestResponse response;

 private:
  void on_ready(upstream::PooledConnection& given) override {
    connection = &given;
    given.open_stream(response);
    response.request("GET", "/");
    response.end();
  }
  void on_failed(Error error) override {
    ++failures;
    why = error;
    if (when_failed) when_failed();
  }
};

}  // namespace proxy::test
