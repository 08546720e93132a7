// Fuzz target for the HTTP/2 connections: any bytes, in any pieces, end every request exactly once,
// return all memory, and never tell a head that could be read otherwise in HTTP/1.
// The first byte chooses the side, and where to cut; a server's input goes behind a preface.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/http/text.h"
#include "proxy/http2/client_connection.h"
#include "proxy/http2/server_connection.h"
#include "tests/support/pipe_transport.h"

namespace proxy::test {
namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

void check_fields(const http::HeaderMap& headers) {
  for (const auto& field : headers.fields()) {
    if (field.removed) continue;
    must(http::is_token(headers.name(field)));
    must(http::is_field_value(headers.value(field)));
    must(field.id != http::NameId::transfer_encoding && field.id != http::NameId::content_length &&
         field.id != http::NameId::connection && field.id != http::NameId::host);
  }
}

// Answers each request with its own body.
struct Echo final : http::RequestUser {
  void on_head(http::RequestHead& head) override {
    must(http::is_token(head.method_view()));
    must(head.target_view().find_first_of(" \r\n") == std::string_view::npos);
    check_fields(head.headers);
    http::ResponseHead answer;
    answer.status = head.upgrade.length != 0 ? 101 : 200;
    answer.body.kind = http::BodyLength::Kind::unknown;
    stream->send_head(answer);
  }
  void on_refused(Error) override {
    http::ResponseHead answer;
    answer.status = 400;
    stream->send_head(answer);
    if (stream) stream->send_end({});
  }
  void on_data(Chain body) override {
    owed += body.size();
    stream->send_data(std::move(body));
  }
  void on_end(http::HeaderMap trailers) override {
    check_fields(trailers);
    stream->send_end(std::move(trailers));
  }
  void on_sent(std::size_t bytes) override {
    must(bytes <= owed);
    owed -= bytes;
    stream->consume(bytes);
  }
  void on_done(http::Wire, bool) override { ++ends; }
  void on_reset(Error, http::Wire) override { ++ends; }
  std::size_t owed = 0;
  int ends = 0;
};

struct Reader final : http::ResponseUser {
  void on_informational(http::ResponseHead& head) override { check_fields(head.headers); }
  void on_head(http::ResponseHead& head) override {
    must(head.status >= 101 && head.status <= 999);
    check_fields(head.headers);
  }
  void on_data(Chain body) override { stream->consume(body.size()); }
  void on_end(http::HeaderMap) override { ++ends; }
  void on_sent(std::size_t) override {}
  void on_reset(Error, http::Wire) override { ++ends; }
  int ends = 0;
};

struct ServerSide final : http::RequestHandler, http::ServerConnectionOwner {
  explicit ServerSide(net::Loop& on) : loop(on) {}
  void on_request_started(http::ServerStream& stream) override {
    users.push_back(std::make_unique<Echo>());
    join<http::ServerStream, http::RequestUser>(stream, stream.user, *users.back(),
                                                users.back()->stream);
  }
  void on_closed(http::ServerConnection&, Error) override { loop.reap(std::move(connection)); }
  net::Loop& loop;
  std::unique_ptr<http2::ServerConnection> connection;
  std::vector<std::unique_ptr<Echo>> users;
};

struct ClientSide final : http::ClientConnectionOwner {
  explicit ClientSide(net::Loop& on) : loop(on) {}
  void on_available(http::ClientConnection&) override {}
  void on_closed(http::ClientConnection&, Error) override { loop.reap(std::move(connection)); }
  net::Loop& loop;
  std::unique_ptr<http2::ClientConnection> connection;
  Reader users[3];
};

void send(PipePeer& peer, std::string_view input, std::size_t cut) {
  peer.send(input.substr(0, cut));
  peer.send(input.substr(std::min(cut, input.size())));
}

void run_server(net::Loop& loop, std::string_view input, std::size_t cut) {
  auto [ours, theirs] = PipeTransport::make(loop, {});
  ServerSide side(loop);
  std::unique_ptr<PipePeer> peer;
  {
    net::Loop::Turn turn(loop);
    side.connection = std::make_unique<http2::ServerConnection>(std::move(ours), side, side,
                                                                http2::ServerConnectionOptions{});
    side.connection->start();
    peer = std::make_unique<PipePeer>(std::move(theirs));
  }
  peer->send(std::string_view("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33));
  send(*peer, input, cut);
  peer->close();
  must(side.connection == nullptr);
  for (const auto& user : side.users) must(user->ends == 1);
}

void run_client(net::Loop& loop, std::string_view input, std::size_t cut) {
  auto [ours, theirs] = PipeTransport::make(loop, {});
  ClientSide side(loop);
  std::unique_ptr<PipePeer> peer;
  {
    net::Loop::Turn turn(loop);
    http2::ClientConnectionOptions options;
    options.streams_before_settings = 3;
    side.connection = std::make_unique<http2::ClientConnection>(std::move(ours), side, options);
    side.connection->start();
    peer = std::make_unique<PipePeer>(std::move(theirs));
    for (Reader& user : side.users) {
      http::RequestHead head;
      head.method_text = head.headers.put("GET");
      head.target = head.headers.put("/");
      head.authority = head.headers.put("a");
      side.connection->open_stream(user);
      user.stream->send_head(head);
      user.stream->send_end({});
    }
  }
  peer->send(std::string_view("\0\0\0\4\0\0\0\0\0", 9));
  send(*peer, input, cut);
  peer->close();
  must(side.connection == nullptr);
  for (const Reader& user : side.users) must(user.ends == 1);
}

void run(std::string_view input) {
  if (input.empty()) return;
  const auto choice = static_cast<unsigned char>(input.front());
  input.remove_prefix(1);
  const std::size_t cut = std::min<std::size_t>(choice >> 1, input.size());
  net::Loop loop;
  if ((choice & 1) == 0) {
    run_server(loop, input, cut);
  } else {
    run_client(loop, input, cut);
  }
  loop.run_once(false);
  must(loop.chunks().outstanding() == 0);
}

}  // namespace
}  // namespace proxy::test

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  proxy::test::run({reinterpret_cast<const char*>(bytes), size});
  return 0;
}
