// The metadata frame of raw TCP: its bytes, and what is made of other bytes.
#include "telemetry/peer_exchange.h"

#include <string>

#include "tests/support/catch.h"

using namespace telemetry;

namespace {

OwnMetadata own() {
  OwnMetadata own;
  own.workload = {.workload = "podinfo",
                  .workload_namespace = "test",
                  .canonical_service = "podinfo",
                  .canonical_revision = "v1",
                  .app = "podinfo",
                  .version = "v1",
                  .cluster = "Kubernetes"};
  own.pod_name = "podinfo-1";
  own.ip = "10.0.0.7";
  return own;
}

std::string body_of(const std::string& frame) {
  return frame.substr(kFrameHead);
}

}  // namespace

TEST_CASE("a frame begins with its magic and its length and says who sent it", "[unit]") {
  const std::string frame = exchange_frame(own());
  REQUIRE(frame.size() > kFrameHead);
  CHECK(frame.substr(0, 4) == "\x3d\x23\x04\x67");
  const std::size_t length =
      static_cast<unsigned char>(frame[6]) * 256U + static_cast<unsigned char>(frame[7]);
  CHECK(length == frame.size() - kFrameHead);
  CHECK(frame == exchange_frame(own()));
  CHECK(frame.find("type.googleapis.com/google.protobuf.Struct") != std::string::npos);
  CHECK(frame.find("sidecar~10.0.0.7~podinfo-1.test~test.svc.cluster.local") != std::string::npos);

  const auto peer = decode_exchange_body(body_of(frame));
  REQUIRE(peer);
  CHECK(peer->workload.workload == "podinfo");
  CHECK(peer->workload.workload_namespace == "test");
  CHECK(peer->workload.canonical_revision == "v1");
  CHECK(peer->workload.cluster == "Kubernetes");
}

TEST_CASE("no cut or changed frame is taken for metadata it is not, nor for a reason to crash",
          "[unit]") {
  const std::string body = body_of(exchange_frame(own()));
  for (std::size_t n = 0; n < body.size(); ++n)
    CHECK_FALSE(decode_exchange_body(body.substr(0, n)));
  for (std::size_t i = 0; i < body.size(); ++i) {
    for (const int bit : {0x01, 0x80, 0xff}) {
      std::string changed = body;
      changed[i] = static_cast<char>(changed[i] ^ bit);
      (void)decode_exchange_body(changed);
    }
  }
  CHECK_FALSE(decode_exchange_body(""));
  CHECK_FALSE(decode_exchange_body(std::string(kMaxFrameBody + 1, 'a')));
  CHECK_FALSE(decode_exchange_body(std::string(1000, '\xff')));
}
