// CodecPair: a client codec and a server codec of one HTTP version, joined by a pipe.
// Not a proxy: what one side's user sends is what the other side's user must be told.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "proxy/http/connection.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/stream_users.h"

namespace proxy::test {

// What joins the suite: how the two connections are made, started, and handed to the reaper.
struct Codec {
  std::string_view name;
  // Several streams at once, and a reset that leaves the connection alive?
  bool multiplexed;
  std::unique_ptr<http::ServerConnection> (*make_server)(std::unique_ptr<net::Transport>,
                                                         http::RequestHandler&,
                                                         http::ServerConnectionOwner&);
  std::unique_ptr<http::ClientConnection> (*make_client)(std::unique_ptr<net::Transport>,
                                                         http::ClientConnectionOwner&);
  void (*reap_server)(net::Loop&, std::unique_ptr<http::ServerConnection>);
  void (*reap_client)(net::Loop&, std::unique_ptr<http::ClientConnection>);
};

// One line a codec: HTTP/2 joins here.
const std::vector<Codec>& codecs();

class CodecPair {
 public:
  explicit CodecPair(const Codec& codec, PipeOptions pipe = {});
  ~CodecPair();

  // A new stream's user; its request is not sent yet.
  TestResponse& open();
  // The request's user on the server side that was made last.
  TestRequest& request() { return handler.last(); }
  bool both_closed() const { return server == nullptr && client == nullptr; }

  const Codec& codec;
  LoopFixture fixture;
  TestHandler handler{fixture.loop};
  TestClientOwner owner;
  std::vector<std::unique_ptr<TestResponse>> users;
  std::unique_ptr<http::ServerConnection> server;
  std::unique_ptr<http::ClientConnection> client;
};

}  // namespace proxy::test
