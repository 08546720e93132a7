// Chain: both default chains over two hops, the order of things, and that the steady state
// allocates nothing. Not the single filters.
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>

#include "proxy/filter/authorization.h"
#include "proxy/filter/filter.h"
#include "tests/support/catch.h"
#include "tests/unit/filter/fixture.h"

namespace {
std::atomic<std::uint64_t> allocations = 0;
}  // namespace

// Counts the whole program's allocations; the sanitizers still see the malloc below. gcc inlines
// one of the pair and then takes it for a mismatch.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* operator new(std::size_t bytes) {
  if (void* memory = operator new(bytes, std::nothrow)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
#pragma GCC diagnostic pop

namespace proxy::filter {
namespace {

using telemetry::Direction;
using telemetry::MetadataResult;

// The two sidecars of a hop over mTLS: what one sends, the other gets.
struct Hop {
  config::Config client_config = [] {
    config::Config config = sample_config();
    config.workload.name = "web";
    return config;
  }();
  config::Config server_config = sample_config();
  Worker client;
  Worker server;
  Chain outbound = make_outbound(client_config, client.registry);
  Chain inbound = make_inbound(server_config, server.registry);
  Connection up{client, Direction::outbound, kOwn};
  Connection down{server, Direction::inbound, kPeer};
  http::RequestHead request_head;
  http::ResponseHead response_head;

  void run() {
    request_head.clear();
    request_head.headers.add("User-Agent", "curl/7.88.1");
    request_head.headers.add("Accept", "*/*");
    Scope at_client = up.scope();
    Scope at_server = down.scope();
    if (!outbound.on_request(request_head, at_client)) FAIL("refused by the client's side");
    if (!inbound.on_request(request_head, at_server)) FAIL("refused by the server's side");
    response_head.clear();
    response_head.headers.add("Content-Type", "application/json");
    inbound.on_response(response_head, at_server);
    outbound.on_response(response_head, at_client);
    client_peer = at_client.peer;
    server_peer = at_server.peer;
  }
  telemetry::PartyRef client_peer;
  telemetry::PartyRef server_peer;
};

}  // namespace

TEST_CASE("two sidecars know each other after one request", "[filter]") {
  Hop hop;
  hop.run();
  CHECK(hop.client.metadata(MetadataResult::decoded) == 1);
  CHECK(hop.server.metadata(MetadataResult::decoded) == 1);
  CHECK(hop.client.shard.alive(hop.client_peer));
  CHECK(hop.server.shard.alive(hop.server_peer));
  CHECK_FALSE(hop.client_peer == base_peer(hop.up.memo, hop.client.shard));
  CHECK_FALSE(hop.server_peer == base_peer(hop.down.memo, hop.server.shard));

  const http::HeaderMap& app = hop.request_head.headers;
  CHECK(values(app, "user-agent") == "curl/7.88.1");
  CHECK(values(app, "x-request-id").size() == 36);
  CHECK(values(app, "x-forwarded-proto") == "http");
  CHECK(values(app, "x-envoy-attempt-count") == "1");
  CHECK(values(app, "x-envoy-peer-metadata") == "-");
  CHECK(values(app, "x-envoy-peer-metadata-id") == "-");
  CHECK(values(app, "x-envoy-decorator-operation") == "-");
  CHECK(values(app, "x-forwarded-client-cert").starts_with("By=" + std::string(kOwn)));
  CHECK(app.size() == 6);

  const http::HeaderMap& client = hop.response_head.headers;
  CHECK(values(client, "content-type") == "application/json");
  CHECK(values(client, "server") == "envoy");
  CHECK(values(client, "x-envoy-upstream-service-time") == "0");
  CHECK(client.size() == 3);
}

TEST_CASE("the steady state allocates nothing", "[filter]") {
  Hop hop;
  hop.client_config.timeouts.request = config::Milliseconds(3'600'000);
  hop.outbound = make_outbound(hop.client_config, hop.client.registry);
  hop.server_config.mtls.allow = {{"web", "spiffe://cluster.local/ns/*/sa/web"}};
  hop.inbound = make_inbound(hop.server_config, hop.server.registry);
  for (int i = 0; i < 4; ++i) hop.run();
  const std::uint64_t before = allocations.load();
  for (int i = 0; i < 1000; ++i) hop.run();
  const std::uint64_t after = allocations.load();
  CHECK(after - before == 0);
  CHECK(hop.server.metadata(MetadataResult::decoded) == 1);
  CHECK(hop.server.metadata(MetadataResult::cached) == 1003);
}

TEST_CASE("a denied request has its peer, its request id and its answer", "[filter]") {
  Worker worker;
  config::Config config = sample_config();
  config.mtls.allow = {{"nobody", "spiffe://cluster.local/ns/none/sa/none"}};
  const Chain chain = make_inbound(config, worker.registry);
  Connection connection(worker, Direction::inbound, kPeer);
  Scope scope = connection.scope();
  http::RequestHead head =
      request({{"x-request-id", "mine"},
               {"x-envoy-peer-metadata-id", "id"},
               {"x-envoy-peer-metadata", telemetry::metadata_header(own_metadata_of("web"))}});
  const Result<> result = chain.on_request(head, scope);
  REQUIRE_FALSE(result);
  CHECK(result.error().code == Code::denied);
  CHECK_FALSE(scope.peer == base_peer(connection.memo, worker.shard));
  http::ResponseHead reply = response({}, 403);
  chain.on_local_reply(reply, scope);
  CHECK(values(reply.headers, "x-request-id") == "mine");
  CHECK(values(reply.headers, "server") == "istio-envoy");
  CHECK_FALSE(values(reply.headers, "x-envoy-peer-metadata") == "-");
  CHECK(worker.denied(Authorization::kNoMatch, telemetry::DenyMode::enforced) == 1);
}

TEST_CASE("a message that was no request is answered all the same", "[filter]") {
  Worker worker;
  const Chain chain = make_inbound(sample_config(), worker.registry);
  Connection connection(worker, Direction::inbound, std::nullopt);
  Scope scope = connection.scope();
  scope.plan = nullptr;
  http::ResponseHead reply = response({}, 400);
  chain.on_local_reply(reply, scope);
  CHECK(values(reply.headers, "x-request-id").size() == 36);
  CHECK(values(reply.headers, "x-envoy-peer-metadata") == "-");
}

}  // namespace proxy::filter
