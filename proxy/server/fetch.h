// Fetch: one question to the app beside us, from the main thread: an HTTP GET, a gRPC health check,
// or whether a port takes connections. Not for the data path: its connection serves once.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proxy/http/connection.h"
#include "proxy/net/loop.h"
#include "proxy/net/tcp_transport.h"
#include "proxy/net/timer.h"

namespace proxy::server {

struct FetchRequest {
  enum class Kind : std::uint8_t { http, tcp, grpc_health };

  Kind kind = Kind::http;
  net::SocketAddress to;
  net::ConnectOptions from;
  std::string authority;
  std::string target = "/";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string service;  // grpc_health: of whom
  std::chrono::milliseconds timeout{1000};
  std::size_t max_body = 10 * 1024;
};

struct FetchResult {
  bool connected = false;
  std::uint16_t status = 0;  // 0: no complete head came in time
  std::string content_type;
  bool encoded = false;   // gzip and the like, though nobody asked for it
  std::string body;       // at most max_body
  bool complete = false;  // the body's end was seen, and it fitted
  bool serving = false;   // grpc_health
};

class Fetch final : public net::Reapable,
                    public ListHook<Fetch>,
                    private net::TransportUser,
                    private http::ResponseUser,
                    private http::ClientConnectionOwner {
 public:
  using ListHook<Fetch>::unlink;

  // `done` is called once, in a turn of the loop, never from this constructor; afterwards the
  // owner reaps the fetch. Destroying it earlier gives up.
  Fetch(net::Loop& loop, FetchRequest request, std::function<void(Fetch&, FetchResult)> done);
  ~Fetch() override;

 private:
  void on_open(const tls::HandshakeFacts* facts) override;
  void on_bytes(Chain) override {}
  void on_eof() override { finish(); }
  void on_closed(Error) override { finish(); }
  void on_informational(http::ResponseHead&) override {}
  void on_head(http::ResponseHead& head) override;
  void on_data(Chain body) override;
  void on_end(http::HeaderMap trailers) override;
  void on_sent(std::size_t) override {}
  void on_reset(Error, http::Wire) override { finish(); }
  void on_available(http::ClientConnection&) override;
  void on_closed(http::ClientConnection&, Error) override { finish(); }

  void ask();
  void finish();

  net::Loop& loop_;
  FetchRequest request_;
  std::function<void(Fetch&, FetchResult)> done_;
  FetchResult result_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<http::ClientConnection> connection_;
  net::Timer deadline_;
  bool asked_ = false;
  bool finished_ = false;
};

}  // namespace proxy::server
