// ServerRig: an http1::ServerConnection between a test's text and a test's handler.
// Not a proxy.
#pragma once

#include <memory>
#include <regex>
#include <string>

#include "proxy/http1/server_connection.h"
#include "tests/support/loop_fixture.h"
#include "tests/support/pipe_transport.h"
#include "tests/support/stream_users.h"

namespace proxy::test {

struct ServerRig {
  explicit ServerRig(http1::ServerConnectionOptions options = {}, PipeOptions pipe = {}) {
    auto [ours, theirs] = PipeTransport::make(fixture.loop, pipe);
    wire = ours.get();
    handler.when_closed = [this](http::ServerConnection&) {
      fixture.loop.reap(std::move(connection));
    };
    net::Loop::Turn turn(fixture.loop);
    connection =
        std::make_unique<http1::ServerConnection>(std::move(ours), handler, handler, options);
    connection->start();
    client = std::make_unique<PipePeer>(std::move(theirs));
  }
  ~ServerRig() {
    if (connection != nullptr) {
      net::Loop::Turn turn(fixture.loop);
      connection->abort({});
    }
    CHECK(connection == nullptr);
    CHECK(handler.closed == 1);
    for (const auto& request : handler.requests) {
      CHECK_FALSE(request->stream.joined());
      // Each request ends once: done, reset by the codec, or reset by the test itself.
      CHECK(request->dones + request->notes.resets <= 1);
    }
  }
  // What the client got since the last call, with the Date taken out.
  std::string got() {
    return std::regex_replace(client->take(), std::regex("Date: [A-Za-z0-9:, ]+GMT\r\n"), "");
  }
  TestRequest& request() { return handler.last(); }
  bool closed() const { return connection == nullptr; }

  LoopFixture fixture;
  TestHandler handler{fixture.loop};
  PipeTransport* wire = nullptr;
  std::unique_ptr<http1::ServerConnection> connection;
  std::unique_ptr<PipePeer> client;
};

}  // namespace proxy::test
