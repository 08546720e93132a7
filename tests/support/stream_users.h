// Users of streams that write down what they are told, and do what a test says.
// Not an exchange: nothing is forwarded.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/chain.h"
#include "proxy/http/connection.h"
#include "proxy/http/stream.h"
#include "proxy/net/loop.h"

namespace proxy::test {

std::string fields_of(const http::HeaderMap& headers);  // " | Name: value" for each
std::string text_of(const Chain& chain);
Chain chain_of(net::Loop& loop, std::string_view text);

// What both kinds of user note down.
struct Notes {
  std::vector<std::string> heads;  // every head, 1xx included
  std::string body;
  std::string trailers;
  std::size_t sent = 0;
  int ends = 0;
  int resets = 0;
  Error why;
  http::Wire wire;
  std::size_t owed = 0;       // delivered and not consumed
  std::size_t most_owed = 0;  // the highest that got
};

class TestRequest final : public http::RequestUser {
 public:
  explicit TestRequest(net::Loop& loop) : loop_(loop) {}

  // Answers; each is a turn of its own, or part of the one it is called in.
  void reply(std::uint16_t status, std::string_view body,
             std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {});
  void head(std::uint16_t status, http::BodyLength body,
            std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {});
  void upgrade(std::string_view protocol);
  void inform(std::uint16_t status,
              std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {});
  void data(std::string_view text);
  void end(std::initializer_list<std::pair<std::string_view, std::string_view>> trailers = {});
  void consume(std::size_t bytes);
  void reset(Error why);

  Notes notes;
  http::RequestHead request;
  int refusals = 0;
  int dones = 0;
  bool request_complete = false;
  bool auto_consume = true;
  // Called at the end of these events.
  std::function<void()> when_head, when_data, when_end, when_sent, when_refused;

 private:
  void on_head(http::RequestHead& head) override;
  void on_refused(Error why) override;
  void on_data(Chain body) override;
  void on_end(http::HeaderMap trailers) override;
  void on_sent(std::size_t bytes) override;
  void on_done(http::Wire wire, bool complete) override;
  void on_reset(Error why, http::Wire wire) override;
  net::Loop& loop_;
};

class TestHandler final : public http::RequestHandler, public http::ServerConnectionOwner {
 public:
  explicit TestHandler(net::Loop& loop) : loop_(loop) {}
  void on_request_started(http::ServerStream& stream) override;
  void on_closed(http::ServerConnection& connection, Error why) override;

  TestRequest& last() { return *requests.back(); }

  std::vector<std::unique_ptr<TestRequest>> requests;
  std::function<void(TestRequest&)> when_started;  // to prepare each
  std::function<void(http::ServerConnection&)> when_closed;
  int closed = 0;
  Error close_reason;

 private:
  net::Loop& loop_;
};

class TestResponse final : public http::ResponseUser {
 public:
  explicit TestResponse(net::Loop& loop) : loop_(loop) {}

  void request(std::string_view method, std::string_view target, http::BodyLength body = {},
               std::initializer_list<std::pair<std::string_view, std::string_view>> fields = {},
               std::string_view upgrade = {});
  void data(std::string_view text);
  void end(std::initializer_list<std::pair<std::string_view, std::string_view>> trailers = {});
  void consume(std::size_t bytes);
  void reset(Error why);

  Notes notes;
  std::uint16_t status = 0;
  bool auto_consume = true;
  std::function<void()> when_head, when_data, when_end, when_sent;

 private:
  void on_informational(http::ResponseHead& head) override;
  void on_head(http::ResponseHead& head) override;
  void on_data(Chain body) override;
  void on_end(http::HeaderMap trailers) override;
  void on_sent(std::size_t bytes) override;
  void on_reset(Error why, http::Wire wire) override;
  net::Loop& loop_;
};

class TestClientOwner final : public http::ClientConnectionOwner {
 public:
  void on_available(http::ClientConnection&) override { ++available; }
  void on_closed(http::ClientConnection& connection, Error why) override;

  int available = 0;
  int closed = 0;
  Error close_reason;
  std::function<void(http::ClientConnection&)> when_closed;
};

}  // namespace proxy::test
