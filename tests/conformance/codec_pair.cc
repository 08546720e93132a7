// CodecPair: the list of codecs under test, and the joining of two connections.
// Not the suite.
#include "tests/conformance/codec_pair.h"

#include "proxy/http1/client_connection.h"
#include "proxy/http1/server_connection.h"
#include "proxy/http2/client_connection.h"
#include "proxy/http2/server_connection.h"

namespace proxy::test {
namespace {

template <class Server, class Options>
std::unique_ptr<http::ServerConnection> make_server(std::unique_ptr<net::Transport> transport,
                                                    http::RequestHandler& handler,
                                                    http::ServerConnectionOwner& owner) {
  auto made = std::make_unique<Server>(std::move(transport), handler, owner, Options{});
  made->start();
  return made;
}

template <class Client, class Options>
std::unique_ptr<http::ClientConnection> make_client(std::unique_ptr<net::Transport> transport,
                                                    http::ClientConnectionOwner& owner) {
  auto made = std::make_unique<Client>(std::move(transport), owner, Options{});
  made->start();
  return made;
}

template <class Dead, class Base>
void reap(net::Loop& loop, std::unique_ptr<Base> dead) {
  loop.reap(std::unique_ptr<Dead>(static_cast<Dead*>(dead.release())));
}

}  // namespace

const std::vector<Codec>& codecs() {
  static const std::vector<Codec> all = {
      {"h1", false, &make_server<http1::ServerConnection, http1::ServerConnectionOptions>,
       &make_client<http1::ClientConnection, http1::ClientConnectionOptions>,
       &reap<http1::ServerConnection, http::ServerConnection>,
       &reap<http1::ClientConnection, http::ClientConnection>},
      {"h2", true, &make_server<http2::ServerConnection, http2::ServerConnectionOptions>,
       &make_client<http2::ClientConnection, http2::ClientConnectionOptions>,
       &reap<http2::ServerConnection, http::ServerConnection>,
       &reap<http2::ClientConnection, http::ClientConnection>},
  };
  return all;
}

CodecPair::CodecPair(const Codec& with, PipeOptions pipe) : codec(with) {
  auto [left, right] = PipeTransport::make(fixture.loop, pipe);
  handler.when_closed = [this](http::ServerConnection&) {
    codec.reap_server(fixture.loop, std::move(server));
  };
  owner.when_closed = [this](http::ClientConnection&) {
    codec.reap_client(fixture.loop, std::move(client));
  };
  net::Loop::Turn turn(fixture.loop);
  server = codec.make_server(std::move(left), handler, handler);
  client = codec.make_client(std::move(right), owner);
}

CodecPair::~CodecPair() {
  {
    net::Loop::Turn turn(fixture.loop);
    if (client != nullptr) client->abort({});
  }
  {
    net::Loop::Turn turn(fixture.loop);
    if (server != nullptr) server->abort({});
  }
  CHECK(both_closed());
  CHECK(handler.closed == 1);
  CHECK(owner.closed == 1);
  for (const auto& request : handler.requests) {
    CHECK_FALSE(request->stream.joined());
    CHECK(request->dones + request->notes.resets <= 1);
  }
  for (const auto& user : users) CHECK_FALSE(user->stream.joined());
}

TestResponse& CodecPair::open() {
  net::Loop::Turn turn(fixture.loop);
  REQUIRE(client != nullptr);
  REQUIRE(client->free_slots() > 0);
  users.push_back(std::make_unique<TestResponse>(fixture.loop));
  client->open_stream(*users.back());
  return *users.back();
}

}  // namespace proxy::test
