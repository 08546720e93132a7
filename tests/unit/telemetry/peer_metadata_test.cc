// Peer metadata against bytes that an independent encoder made (a few lines of Python that write
// the protobuf wire format; `protoc --encode --deterministic_output` gave the same).
#include "telemetry/peer_metadata.h"

#include "telemetry/protobuf_struct.h"  // before other protobuf headers

#include "telemetry/base64.h"
#include "telemetry/collector.h"
#include "tests/support/catch.h"

using namespace telemetry;

namespace {

constexpr std::string_view kHex =
    "0a1a0a0a434c55535445525f4944120c1a0a4b756265726e657465730a360a084944454e54495459122a1a28737069"
    "66"
    "66653a2f2f636c75737465722e6c6f63616c2f6e732f73686f702f73612f636c69656e740a88010a064c4142454c53"
    "12"
    "7e2a7c0a0f0a0361707012081a06636c69656e740a2b0a1f736572766963652e697374696f2e696f2f63616e6f6e69"
    "63"
    "616c2d6e616d6512081a06636c69656e740a2b0a23736572766963652e697374696f2e696f2f63616e6f6e6963616c"
    "2d"
    "7265766973696f6e12041a0276310a0f0a0776657273696f6e12041a0276310a1d0a044e414d4512151a13636c6965"
    "6e"
    "742d3764346239632d783278347a0a130a094e414d45535041434512061a0473686f700a470a054f574e4552123e1a"
    "3c"
    "6b756265726e657465733a2f2f617069732f617070732f76312f6e616d657370616365732f73686f702f6465706c6f"
    "79"
    "6d656e74732f636c69656e740a190a0d574f524b4c4f41445f4e414d4512081a06636c69656e74";

constexpr std::string_view kHeader =
    "ChoKCkNMVVNURVJfSUQSDBoKS3ViZXJuZXRlcwo2CghJREVOVElUWRIqGihzcGlmZmU6Ly9jbHVzdGVyLmxvY2FsL25zL3"
    "No"
    "b3Avc2EvY2xpZW50CogBCgZMQUJFTFMSfip8Cg8KA2FwcBIIGgZjbGllbnQKKwofc2VydmljZS5pc3Rpby5pby9jYW5vbm"
    "lj"
    "YWwtbmFtZRIIGgZjbGllbnQKKwojc2VydmljZS5pc3Rpby5pby9jYW5vbmljYWwtcmV2aXNpb24SBBoCdjEKDwoHdmVyc2"
    "lv"
    "bhIEGgJ2MQodCgROQU1FEhUaE2NsaWVudC03ZDRiOWMteDJ4NHoKEwoJTkFNRVNQQUNFEgYaBHNob3AKRwoFT1dORVISPh"
    "o8"
    "a3ViZXJuZXRlczovL2FwaXMvYXBwcy92MS9uYW1lc3BhY2VzL3Nob3AvZGVwbG95bWVudHMvY2xpZW50ChkKDVdPUktMT0"
    "FE"
    "X05BTUUSCBoGY2xpZW50";

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

OwnMetadata own() {
  OwnMetadata own;
  own.workload = {.workload = "client",
                  .workload_namespace = "shop",
                  .canonical_service = "client",
                  .canonical_revision = "v1",
                  .app = "client",
                  .version = "v1",
                  .cluster = "Kubernetes"};
  own.pod_name = "client-7d4b9c-x2x4z";
  own.ip = "10.1.2.3";
  own.identity = "spiffe://cluster.local/ns/shop/sa/client";
  own.owner_kind = "deployment";
  return own;
}

google::protobuf::Struct message_with(const std::string& key, const std::string& value) {
  google::protobuf::Struct message;
  (*message.mutable_fields())[key].set_string_value(value);
  return message;
}

std::string header_of_name(const std::string& name) {
  return base64_encode(message_with("WORKLOAD_NAME", name).SerializeAsString());
}

}  // namespace

TEST_CASE("our metadata has the very bytes of an independent encoder", "[unit]") {
  CHECK(metadata_struct(own()) == from_hex(kHex));
  CHECK(metadata_header(own()) == kHeader);
  CHECK(node_id(own()) == "sidecar~10.1.2.3~client-7d4b9c-x2x4z.shop~shop.svc.cluster.local");
  OwnMetadata nobody;
  CHECK(metadata_struct(nobody) == from_hex("0a0c0a064c4142454c5312022a00"));  // LABELS, empty
  nobody.labels["team"] = "blue";
  CHECK(metadata_struct(nobody) ==
        from_hex("0a1e0a064c4142454c5312142a120a100a047465616d12081a06626c7565").substr(0, 0) +
            from_hex("0a1c0a064c4142454c5312122a100a0e0a047465616d12061a04626c7565"));
}

TEST_CASE("a peer's metadata is read, padded or not", "[unit]") {
  const auto peer = decode_metadata_header(kHeader);
  REQUIRE(peer);
  CHECK(peer->workload == own().workload);
  CHECK(peer->identity == own().identity);

  OwnMetadata two = own();
  two.pod_name += 'x';  // 376 bytes: two characters of padding
  std::string padded = metadata_header(two);
  REQUIRE(padded.ends_with("=="));
  REQUIRE(decode_metadata_header(padded));
  padded.resize(padded.size() - 1);
  CHECK_FALSE(decode_metadata_header(padded));
  padded.resize(padded.size() - 1);
  REQUIRE(decode_metadata_header(padded));
  CHECK(decode_metadata_header(padded)->workload == own().workload);
}

TEST_CASE("missing and alternative fields follow Istio's rules", "[unit]") {
  google::protobuf::Struct message;
  const auto decode = [&message] {
    const auto peer = decode_metadata_struct(message.SerializeAsString());
    REQUIRE(peer);
    return peer->workload;
  };
  CHECK(decode() == unknown_peer());
  CHECK(decode().canonical_revision == "latest");
  auto& fields = *message.mutable_fields();
  fields["UNHEARD_OF"].set_number_value(1);
  fields["WORKLOAD_NAME"].set_number_value(2);  // of the wrong kind: as if it were missing
  auto& labels = *fields["LABELS"].mutable_struct_value()->mutable_fields();
  labels["app"].set_string_value("a");
  labels["version"].set_string_value("b");
  CHECK(decode().app == "a");
  CHECK(decode().version == "b");
  CHECK(decode().workload == "unknown");
  labels["app.kubernetes.io/name"].set_string_value("c");
  labels["app.kubernetes.io/version"].set_string_value("d");
  CHECK(decode().app == "c");
  CHECK(decode().version == "d");
  fields["LABELS"].set_string_value("not a struct");
  CHECK(decode().app == "unknown");
}

TEST_CASE("bad metadata is no metadata", "[unit]") {
  CHECK_FALSE(decode_metadata_header(""));
  CHECK_FALSE(decode_metadata_header("!!!!"));
  CHECK_FALSE(decode_metadata_header("CgA_"));  // the URL alphabet
  CHECK_FALSE(decode_metadata_header("CgA A"));
  CHECK_FALSE(decode_metadata_header(base64_encode("\xFF\xFF\xFF")));
  CHECK_FALSE(decode_metadata_header(std::string(kMaxMetadataBytes + 4, 'A')));
  CHECK_FALSE(decode_metadata_header(base64_encode(from_hex(kHex).substr(0, 100))));
  // A string that is not UTF-8.
  std::string bytes = from_hex(kHex);
  bytes[bytes.size() - 1] = '\xFF';
  CHECK_FALSE(decode_metadata_header(base64_encode(bytes)));
  // Nested without end.
  google::protobuf::Struct deep = message_with("x", "y");
  for (int i = 0; i < 200; ++i) {
    google::protobuf::Struct outer;
    (*outer.mutable_fields())["x"].mutable_struct_value()->Swap(&deep);
    deep.Swap(&outer);
  }
  CHECK_FALSE(decode_metadata_struct(deep.SerializeAsString()));
  // Every cut and every changed byte of a good one: an answer, never a crash.
  const std::string good = from_hex(kHex);
  for (std::size_t i = 0; i < good.size(); ++i) {
    decode_metadata_struct(std::string_view(good).substr(0, i));
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 0x80);
    decode_metadata_struct(changed);
  }
}

TEST_CASE("base64", "[unit]") {
  CHECK(base64_encode("") == "");
  CHECK(base64_encode("f") == "Zg==");
  CHECK(base64_encode("fo") == "Zm8=");
  CHECK(base64_encode("foobar") == "Zm9vYmFy");
  CHECK(base64_decode("Zg") == "f");
  CHECK(base64_decode("Zm8=") == "fo");
  CHECK(base64_decode("+/+/") == "\xFB\xFF\xBF");
  for (const char* bad : {"Z", "Zg=", "Zg===", "Z===", "Zh==", "Zm9=", "Zg==Zg==", "=", "Zm 8"}) {
    CAPTURE(bad);
    CHECK_FALSE(base64_decode(bad));
  }
}

TEST_CASE("namespace of a principal", "[unit]") {
  CHECK(namespace_of_principal("spiffe://cluster.local/ns/shop/sa/client") == "shop");
  CHECK(namespace_of_principal("spiffe://td/ns/shop") == "");
  CHECK(namespace_of_principal("spiffe://td/x/ns/shop/sa/y") == "");
  CHECK(namespace_of_principal("spiffe://td") == "");
  CHECK(namespace_of_principal("https://td/ns/shop/sa/x") == "");
  CHECK(namespace_of_principal("") == "");
}

TEST_CASE("labels of a peer from metadata and principals", "[unit]") {
  const PeerLabels nobody = peer_labels(nullptr, "", "", SecurityPolicy::none);
  CHECK(nobody.workload == unknown_peer());
  CHECK(nobody.peer_principal == "unknown");
  CHECK(nobody.own_principal == "unknown");

  const auto metadata = decode_metadata_header(kHeader);
  REQUIRE(metadata);
  const std::string_view principal = "spiffe://cluster.local/ns/other/sa/x";
  const PeerLabels known = peer_labels(&*metadata, principal, "spiffe://cluster.local/ns/a/sa/b",
                                       SecurityPolicy::mutual_tls);
  CHECK(known.workload.workload == "client");
  CHECK(known.workload.workload_namespace == "other");  // the certificate's word counts
  CHECK(known.peer_principal == principal);
  CHECK(known.own_principal == "spiffe://cluster.local/ns/a/sa/b");
  CHECK(known.policy == SecurityPolicy::mutual_tls);
  // The identity of the metadata counts on the client side only.
  CHECK(peer_labels(&*metadata, "", "", SecurityPolicy::unknown).peer_principal == "unknown");
  CHECK(peer_labels(&*metadata, "", "", SecurityPolicy::unknown, true).peer_principal ==
        own().identity);
  // Its namespace counts as a principal's does.
  PeerMetadata moved = *metadata;
  moved.identity = "spiffe://cluster.local/ns/claimed/sa/x";
  const PeerLabels claimed = peer_labels(&moved, "", "", SecurityPolicy::unknown, true);
  CHECK(claimed.workload.workload_namespace == "claimed");
  // Without metadata the namespace is still known.
  CHECK(peer_labels(nullptr, principal, "", SecurityPolicy::none).workload.workload_namespace ==
        "other");
}

TEST_CASE("the cache answers only for the same identity, id and value", "[unit]") {
  PeerMetadataCache cache;
  const std::string honest = header_of_name("honest");
  const std::string liar = header_of_name("liar");
  const auto name = [&](std::string_view identity, std::string_view id, std::string_view value) {
    const auto found = cache.find(identity, id, value);
    return found.metadata == nullptr ? "(none)" : found.metadata->workload.workload;
  };
  CHECK(name("spiffe://a", "id", honest) == "honest");
  CHECK(name("spiffe://a", "id", liar) == "liar");  // same id, another value
  CHECK(name("spiffe://b", "id", liar) == "liar");
  CHECK(name("spiffe://a", "id", honest) == "honest");
  CHECK(name("", "id", "garbage!") == "(none)");
  CHECK(cache.size() == 4);
  CHECK(cache.find("spiffe://a", "id", honest).cached);
  CHECK(cache.find("", "id", "garbage!").cached);
  CHECK_FALSE(cache.find("spiffe://c", "id", honest).cached);
  *cache.find("spiffe://a", "id", honest).user_word = 7;
  CHECK(*cache.find("spiffe://a", "id", honest).user_word == 7);
  CHECK(*cache.find("spiffe://b", "id", honest).user_word == 0);
}

TEST_CASE("100,000 hostile ids keep the cache bounded and a busy honest peer cached", "[unit]") {
  PeerMetadataCache cache;
  const std::string honest = header_of_name("honest");
  cache.find("spiffe://honest", "id", honest);
  std::size_t largest = 0;
  std::size_t misses = 0;
  for (int i = 0; i < 100'000; ++i) {
    cache.find("", "id-" + std::to_string(i), "x");
    if (i % 100 == 0 && !cache.find("spiffe://honest", "id", honest).cached) ++misses;
    largest = std::max(largest, cache.size());
  }
  CHECK(largest <= PeerMetadataCache::kCapacity);
  CHECK(misses == 0);
  // What is too long to keep is decoded and not kept.
  const std::size_t before = cache.size();
  const std::string huge = header_of_name(std::string(9000, 'n'));
  CHECK(cache.find("", "id", huge).metadata != nullptr);
  CHECK(cache.size() == before);
}
