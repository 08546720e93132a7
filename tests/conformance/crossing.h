// Crossing: a client and a server that speak different versions, and a bare forwarder between them.
// Not an exchange: no route, no filter, no retry; what one codec tells is what the other is given.
#pragma once

#include <memory>
#include <vector>

#include "tests/conformance/codec_pair.h"

namespace proxy::test {

class Crossing {
 public:
  Crossing(const Codec& downstream, const Codec& upstream, PipeOptions pipe = {});
  ~Crossing();

  TestResponse& open();
  TestRequest& request() { return handler.last(); }
  LoopFixture& fixture() { return fixture_; }

 private:
  struct Relay;
  // Makes a relay for each request that the downstream server tells.
  struct Forwarder final : http::RequestHandler, http::ServerConnectionOwner {
    explicit Forwarder(Crossing& in) : crossing(in) {}
    void on_request_started(http::ServerStream& stream) override;
    void on_closed(http::ServerConnection&, Error) override;
    Crossing& crossing;
  };

  LoopFixture fixture_;

 public:
  TestHandler handler{fixture_.loop};  // the server's user, at the far end
  std::vector<std::unique_ptr<TestResponse>> users;

 private:
  const Codec& down_;
  const Codec& up_;
  Forwarder forwarder_{*this};
  TestClientOwner client_owner_;
  TestClientOwner middle_owner_;
  std::vector<std::unique_ptr<Relay>> relays_;
  std::unique_ptr<http::ClientConnection> client_;         // the client's
  std::unique_ptr<http::ServerConnection> middle_server_;  // the proxy's, towards the client
  std::unique_ptr<http::ClientConnection> middle_client_;  // the proxy's, towards the server
  std::unique_ptr<http::ServerConnection> server_;         // the server's
};

}  // namespace proxy::test
