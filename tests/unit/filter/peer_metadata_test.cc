// PeerMetadata in both directions: labels, removal, answers, memory, hostile values.
// Not the bytes of the metadata: telemetry's own tests.
#include "proxy/filter/peer_metadata.h"

#include <string>

#include "tests/support/catch.h"
#include "tests/unit/filter/fixture.h"

namespace proxy::filter {
namespace {

using telemetry::Direction;
using telemetry::MetadataResult;

constexpr std::string_view kIdHeader = "x-envoy-peer-metadata-id";
constexpr std::string_view kHeader = "x-envoy-peer-metadata";

struct Told {
  std::string id;
  std::string value;
};

Told told_by(const std::string& workload, const std::string& identity = "") {
  telemetry::OwnMetadata own;
  own.workload.workload = workload;
  own.workload.workload_namespace = "claimed";
  own.identity = identity;
  own.pod_name = workload + "-1";
  own.ip = "10.0.0.1";
  return {telemetry::node_id(own), telemetry::metadata_header(own)};
}

Fields fields_of(const Told& told) {
  return {{"Accept", "*/*"},
          {"X-Envoy-Peer-Metadata-Id", told.id},
          {"X-Envoy-Peer-Metadata", told.value}};
}

telemetry::PartyRef ask(const InboundPeerMetadata& filter, Connection& connection,
                        const Fields& fields) {
  http::RequestHead head = request(fields);
  Scope scope = connection.scope();
  CHECK(filter.on_request(head, scope));
  CHECK(values(head.headers, kHeader) == "-");
  CHECK(values(head.headers, kIdHeader) == "-");
  return scope.peer;
}

telemetry::PeerLabels expected(const Told& told, std::string_view principal, std::string_view own,
                               bool metadata_identity = false) {
  const auto decoded = telemetry::decode_metadata_header(told.value);
  REQUIRE(decoded);
  return telemetry::peer_labels(&*decoded, principal, own, telemetry::SecurityPolicy::unknown,
                                metadata_identity);
}

}  // namespace

TEST_CASE("inbound reads and removes what the peer says", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  const Told told = told_by("web");
  Connection tls(worker, Direction::inbound, kPeer);
  Connection plaintext(worker, Direction::inbound, std::nullopt);

  const auto secure = ask(filter, tls, fields_of(told));
  telemetry::PeerLabels labels = expected(told, kPeer, kOwn);
  CHECK(labels.workload.workload == "web");
  CHECK(labels.workload.workload_namespace == "shop");  // the certificate's, not the claimed one
  CHECK(secure == worker.party(labels));

  const auto open = ask(filter, plaintext, fields_of(told));
  labels = expected(told, "", "");
  CHECK(labels.workload.workload_namespace == "claimed");
  CHECK(labels.peer_principal == "unknown");
  CHECK(open == worker.party(labels));
  CHECK_FALSE(open == secure);
}

TEST_CASE("a claimed identity is no principal inbound", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  Connection plaintext(worker, Direction::inbound, std::nullopt);
  const Told told = told_by("web", "spiffe://cluster.local/ns/admin/sa/admin");
  CHECK(ask(filter, plaintext, fields_of(told)) == worker.party(expected(told, "", "")));
}

TEST_CASE("a peer that says the same again is not decoded again", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  Connection first(worker, Direction::inbound, kPeer);
  const Told web = told_by("web");
  const Told cart = told_by("cart");
  const auto ref = ask(filter, first, fields_of(web));
  CHECK(worker.metadata(MetadataResult::decoded) == 1);
  for (int i = 0; i < 10; ++i) CHECK(ask(filter, first, fields_of(web)) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 1);
  CHECK(worker.metadata(MetadataResult::cached) == 10);

  // Another connection of the same peer finds it in the worker's cache.
  Connection second(worker, Direction::inbound, kPeer);
  CHECK(ask(filter, second, fields_of(web)) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 1);

  // The same id with another value is another peer, and so is the same value with another id.
  const auto mixed = ask(filter, first, fields_of({web.id, cart.value}));
  CHECK_FALSE(mixed == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 2);
  CHECK(ask(filter, first, fields_of({cart.id, web.value})) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 3);
  CHECK(ask(filter, first, fields_of(web)) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 3);

  // Another identity never gets what this one said.
  Connection other(worker, Direction::inbound, "spiffe://cluster.local/ns/x/sa/y");
  CHECK_FALSE(ask(filter, other, fields_of(web)) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 4);
}

TEST_CASE("a peer that says nothing is its certificate", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  Connection tls(worker, Direction::inbound, kPeer);
  const auto base = worker.party(tls.memo.base);
  CHECK(ask(filter, tls, {{"accept", "*/*"}}) == base);
  CHECK(ask(filter, tls, {{std::string(kIdHeader), "sidecar~1~2~3"}}) == base);
  CHECK(worker.metadata(MetadataResult::absent) == 2);
  // It forgot to say it this time: not the one before.
  CHECK_FALSE(ask(filter, tls, fields_of(told_by("web"))) == base);
  CHECK(ask(filter, tls, {}) == base);
}

TEST_CASE("hostile metadata leaves the peer unknown", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  const Told good = told_by("web");
  const std::string long_id(telemetry::kMaxNodeIdBytes + 1, 'i');
  const Told cases[] = {
      {"id", ""},
      {"id", "!!!"},
      {"id", "AAA\xff"},
      {"id", "////"},
      {"id", std::string("a\0b", 3)},
      {"id", "ClgKBE5BTUU"},
      {"id", std::string(telemetry::kMaxMetadataBytes, 'A')},
      {"id", std::string(telemetry::kMaxMetadataBytes + 4, 'A')},
      {"id", std::string(1 << 20, 'A')},
      {long_id, good.value},
      {std::string(1 << 20, 'i'), good.value},
  };
  std::uint64_t invalid = 0;
  for (const Told& each : cases) {
    CAPTURE(each.id.size(), each.value.size());
    Connection connection(worker, Direction::inbound, kPeer);
    const auto base = worker.party(connection.memo.base);
    for (int i = 0; i < 2; ++i) {
      CHECK(ask(filter, connection, fields_of(each)) == base);
      CHECK(worker.metadata(MetadataResult::invalid) == ++invalid);
    }
    CHECK(connection.memo.metadata.size() + connection.memo.metadata_id.size() <=
          telemetry::PeerMetadataCache::kMaxCachedBytes);
    CHECK_FALSE(ask(filter, connection, fields_of(good)) == base);
  }
  // Bytes that are not UTF-8 in an id harm nobody: an id is no label.
  Connection connection(worker, Direction::inbound, kPeer);
  CHECK(ask(filter, connection, fields_of({"\xff\xfe", good.value})) ==
        worker.party(expected(good, kPeer, kOwn)));
}

TEST_CASE("metadata too long to keep still works", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  telemetry::OwnMetadata own;
  own.workload.workload = "web";
  for (int i = 0; i < 40; ++i) own.labels["l" + std::to_string(i)] = std::string(150, 'x');
  const Told told{"id", telemetry::metadata_header(own)};
  REQUIRE(told.value.size() > telemetry::PeerMetadataCache::kMaxCachedBytes);
  REQUIRE(told.value.size() < telemetry::kMaxMetadataBytes);
  Connection connection(worker, Direction::inbound, kPeer);
  const auto ref = worker.party(expected(told, kPeer, kOwn));
  for (int i = 0; i < 3; ++i) CHECK(ask(filter, connection, fields_of(told)) == ref);
  CHECK(worker.metadata(MetadataResult::decoded) == 3);
  CHECK(connection.memo.metadata.empty());
}

TEST_CASE("repeated headers: the first one counts, none passes", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  Connection connection(worker, Direction::inbound, kPeer);
  const Told web = told_by("web");
  Fields fields = fields_of(web);
  for (const auto& field : fields_of(told_by("cart"))) fields.push_back(field);
  CHECK(ask(filter, connection, fields) == worker.party(expected(web, kPeer, kOwn)));
}

TEST_CASE("a reference that was dropped is made anew without decoding", "[filter]") {
  Worker worker;
  const InboundPeerMetadata filter(sample_config());
  Connection connection(worker, Direction::inbound, kPeer);
  Connection silent(worker, Direction::inbound, kPeer);
  const Told told = told_by("web");
  const auto before = ask(filter, connection, fields_of(told));
  const auto base_before = ask(filter, silent, {});
  telemetry::PeerLabels crowd;
  for (int i = 0; i < 3000; ++i) {
    crowd.workload.workload = "crowd" + std::to_string(i);
    worker.party(crowd);
  }
  REQUIRE_FALSE(worker.shard.alive(before));
  REQUIRE_FALSE(worker.shard.alive(base_before));
  const auto after = ask(filter, connection, fields_of(told));
  CHECK(worker.shard.alive(after));
  CHECK(after == worker.party(expected(told, kPeer, kOwn)));
  CHECK(worker.metadata(MetadataResult::decoded) == 1);
  CHECK(worker.shard.alive(ask(filter, silent, {})));
}

TEST_CASE("inbound answers what it was asked, on local replies too", "[filter]") {
  Worker worker;
  const config::Config config = sample_config();
  const InboundPeerMetadata filter(config);
  const telemetry::OwnMetadata own = own_metadata(config);
  const std::string id = telemetry::node_id(own);
  const std::string value = telemetry::metadata_header(own);
  const Told told = told_by("web");
  struct Case {
    Fields sent;
    std::string id;
    std::string value;
  };
  const Case cases[] = {
      {fields_of(told), id, value},
      {{{std::string(kIdHeader), told.id}}, id, "-"},
      {{{std::string(kHeader), told.value}}, "-", value},
      {{{std::string(kHeader), "junk"}, {std::string(kIdHeader), ""}}, id, value},
      {{}, "-", "-"},
  };
  for (const Case& each : cases) {
    Connection connection(worker, Direction::inbound, kPeer);
    Scope scope = connection.scope();
    http::RequestHead head = request(each.sent);
    REQUIRE(filter.on_request(head, scope));
    // The app's own attempts to speak for us go no further.
    http::ResponseHead from_app = response(fields_of(told_by("forged")));
    filter.on_response(from_app, scope);
    CHECK(values(from_app.headers, kIdHeader) == each.id);
    CHECK(values(from_app.headers, kHeader) == each.value);
    http::ResponseHead interim = response(fields_of(told_by("forged")), 103);
    filter.on_response(interim, scope);
    CHECK(values(interim.headers, kIdHeader) == "-");
    CHECK(values(interim.headers, kHeader) == "-");
    http::ResponseHead local = response({}, 403);
    filter.on_local_reply(local, scope);
    CHECK(values(local.headers, kIdHeader) == each.id);
    CHECK(values(local.headers, kHeader) == each.value);
  }
}

TEST_CASE("outbound says who we are, whatever the app says", "[filter]") {
  Worker worker;
  const config::Config config = sample_config();
  const OutboundPeerMetadata filter(config);
  const telemetry::OwnMetadata own = own_metadata(config);
  Connection connection(worker, Direction::outbound, kPeer);
  for (const Fields& sent : {Fields{}, fields_of(told_by("forged"))}) {
    Scope scope = connection.scope();
    http::RequestHead head = request(sent);
    REQUIRE(filter.on_request(head, scope));
    CHECK(values(head.headers, kIdHeader) == telemetry::node_id(own));
    CHECK(values(head.headers, kHeader) == telemetry::metadata_header(own));
  }
}

TEST_CASE("outbound reads and removes what the response says", "[filter]") {
  Worker worker;
  const OutboundPeerMetadata filter(sample_config());
  const Told told = told_by("ratings", "spiffe://cluster.local/ns/books/sa/ratings");
  Connection tls(worker, Direction::outbound, kPeer);
  Connection plaintext(worker, Direction::outbound, std::nullopt);
  const auto hear = [&](Connection& connection, const Fields& fields, std::uint16_t status = 200) {
    Scope scope = connection.scope();
    http::ResponseHead head = response(fields, status);
    filter.on_response(head, scope);
    CHECK(values(head.headers, kHeader) == "-");
    CHECK(values(head.headers, kIdHeader) == "-");
    return scope.peer;
  };
  CHECK(hear(tls, fields_of(told), 103) == telemetry::PartyRef{});
  CHECK(worker.metadata(MetadataResult::decoded) == 0);
  CHECK(hear(tls, fields_of(told)) == worker.party(expected(told, kPeer, kOwn, true)));
  hear(tls, fields_of(told));
  CHECK(worker.metadata(MetadataResult::cached) == 1);
  // Without a certificate the client side takes the identity that was told, as Istio does.
  const telemetry::PeerLabels labels = expected(told, "", "", true);
  CHECK(labels.peer_principal == "spiffe://cluster.local/ns/books/sa/ratings");
  CHECK(hear(plaintext, fields_of(told)) == worker.party(labels));
  CHECK(hear(plaintext, {}) == worker.party(plaintext.memo.base));
}

TEST_CASE("own metadata follows the configuration", "[filter]") {
  config::Config config = sample_config();
  const telemetry::OwnMetadata own = own_metadata(config);
  CHECK(own.identity.empty());
  CHECK(telemetry::node_id(own).starts_with("sidecar~0.0.0.0~reviews-v1-"));
  CHECK(telemetry::node_id(own).ends_with(".books~books.svc.cluster.local"));
  CHECK(telemetry::node_id(own_metadata(config)) == telemetry::node_id(own));
  config.workload.version = "v2";
  CHECK_FALSE(telemetry::node_id(own_metadata(config)) == telemetry::node_id(own));
  config.mtls.cert = "cert.pem";
  config.inbound.listen.text = "10.1.2.3:80";
  config.inbound.listen.addresses = {{"10.1.2.3", config::Family::ipv4}};
  const telemetry::OwnMetadata secure = own_metadata(config);
  CHECK(secure.identity == "spiffe://cluster.local/ns/books/sa/reviews");
  CHECK(telemetry::node_id(secure).starts_with("sidecar~10.1.2.3~"));
  const auto decoded = telemetry::decode_metadata_header(telemetry::metadata_header(secure));
  REQUIRE(decoded);
  CHECK(decoded->workload.workload == "reviews-v1");
  CHECK(decoded->workload.version == "v2");
  CHECK(decoded->workload.cluster == "east");
}

}  // namespace proxy::filter
