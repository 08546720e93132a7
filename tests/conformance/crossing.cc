// Crossing: four connections over two pipes.
// Not the tests.
#include "tests/conformance/crossing.h"

#include <utility>

namespace proxy::test {

struct Crossing::Relay {
  struct Down final : http::RequestUser {
    explicit Down(Relay& of) : relay(of) {}
    void on_head(http::RequestHead& head) override {
      relay.crossing.middle_client_->open_stream(relay.up);
      relay.up.stream->send_head(head);
    }
    void on_refused(Error why) override { stream->reset(why); }
    void on_data(Chain body) override {
      if (relay.up.stream) relay.up.stream->send_data(std::move(body));
    }
    void on_end(http::HeaderMap trailers) override {
      if (relay.up.stream) relay.up.stream->send_end(std::move(trailers));
    }
    void on_sent(std::size_t bytes) override {
      if (relay.up.stream) relay.up.stream->consume(bytes);
    }
    void on_done(http::Wire, bool) override { give_up({}); }
    void on_reset(Error why, http::Wire) override { give_up(why); }
    void give_up(Error why) {
      if (relay.up.stream) relay.up.stream->reset(why);
    }
    Relay& relay;
  };
  struct Up final : http::ResponseUser {
    explicit Up(Relay& of) : relay(of) {}
    void on_informational(http::ResponseHead& head) override {
      relay.down.stream->send_informational(head);
    }
    void on_head(http::ResponseHead& head) override { relay.down.stream->send_head(head); }
    void on_data(Chain body) override { relay.down.stream->send_data(std::move(body)); }
    void on_end(http::HeaderMap trailers) override {
      relay.down.stream->send_end(std::move(trailers));
    }
    void on_sent(std::size_t bytes) override {
      if (relay.down.stream) relay.down.stream->consume(bytes);
    }
    void on_reset(Error why, http::Wire) override {
      if (relay.down.stream) relay.down.stream->reset(why);
    }
    Relay& relay;
  };

  explicit Relay(Crossing& in) : crossing(in) {}
  Crossing& crossing;
  Down down{*this};
  Up up{*this};
};

void Crossing::Forwarder::on_request_started(http::ServerStream& stream) {
  crossing.relays_.push_back(std::make_unique<Relay>(crossing));
  Relay& relay = *crossing.relays_.back();
  join<http::ServerStream, http::RequestUser>(stream, stream.user, relay.down, relay.down.stream);
}

void Crossing::Forwarder::on_closed(http::ServerConnection&, Error) {
  crossing.down_.reap_server(crossing.fixture_.loop, std::move(crossing.middle_server_));
}

Crossing::Crossing(const Codec& downstream, const Codec& upstream, PipeOptions pipe)
    : down_(downstream), up_(upstream) {
  net::Loop& loop = fixture_.loop;
  handler.when_closed = [this](http::ServerConnection&) {
    up_.reap_server(fixture_.loop, std::move(server_));
  };
  client_owner_.when_closed = [this](http::ClientConnection&) {
    down_.reap_client(fixture_.loop, std::move(client_));
  };
  middle_owner_.when_closed = [this](http::ClientConnection&) {
    up_.reap_client(fixture_.loop, std::move(middle_client_));
  };
  auto [client_end, middle_end] = PipeTransport::make(loop, pipe);
  auto [other_end, server_end] = PipeTransport::make(loop, pipe);
  net::Loop::Turn turn(loop);
  client_ = down_.make_client(std::move(client_end), client_owner_);
  middle_server_ = down_.make_server(std::move(middle_end), forwarder_, forwarder_);
  middle_client_ = up_.make_client(std::move(other_end), middle_owner_);
  server_ = up_.make_server(std::move(server_end), handler, handler);
}

Crossing::~Crossing() {
  const auto abort = [this](auto& connection) {
    net::Loop::Turn turn(fixture_.loop);
    if (connection != nullptr) connection->abort({});
  };
  abort(client_);
  abort(middle_server_);
  abort(middle_client_);
  abort(server_);
  CHECK(client_ == nullptr);
  CHECK(middle_server_ == nullptr);
  CHECK(middle_client_ == nullptr);
  CHECK(server_ == nullptr);
  for (const auto& request : handler.requests) CHECK_FALSE(request->stream.joined());
}

TestResponse& Crossing::open() {
  net::Loop::Turn turn(fixture_.loop);
  REQUIRE(client_ != nullptr);
  REQUIRE(client_->free_slots() > 0);
  users.push_back(std::make_unique<TestResponse>(fixture_.loop));
  client_->open_stream(*users.back());
  return *users.back();
}

}  // namespace proxy::test
