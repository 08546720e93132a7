// Connects, asks once, collects what comes.
#include "proxy/server/fetch.h"

#include <algorithm>
#include <string_view>

#include "proxy/http/text.h"
#include "proxy/http1/client_connection.h"
#include "proxy/http2/client_connection.h"

namespace proxy::server {
namespace {

// grpc.health.v1.HealthCheckRequest{service} behind the five bytes of a gRPC message.
std::string health_request(const std::string& service) {
  const std::string name = service.substr(0, 127);
  std::string message;
  if (!name.empty()) {
    message += '\x0a';
    message += static_cast<char>(name.size());
    message += name;
  }
  std::string framed(4, '\0');
  framed += static_cast<char>(message.size());
  return framed + message;
}

// HealthCheckResponse{status: SERVING}: field 1 is 1.
bool says_serving(std::string_view body) {
  return body.size() >= 7 && body.substr(5, 2) == std::string_view("\x08\x01", 2);
}

}  // namespace

Fetch::Fetch(net::Loop& loop, FetchRequest request, std::function<void(Fetch&, FetchResult)> done)
    : loop_(loop),
      request_(std::move(request)),
      done_(std::move(done)),
      transport_(net::TcpTransport::connect(loop, request_.to, request_.from)),
      deadline_(loop, [this] { finish(); }) {
  deadline_.start(request_.timeout);
  transport_->start(*this);
}

Fetch::~Fetch() = default;

void Fetch::on_open(const tls::HandshakeFacts*) {
  if (finished_) return;
  result_.connected = true;
  if (request_.kind == FetchRequest::Kind::tcp) {
    finish();
    return;
  }
  auto& owner = static_cast<http::ClientConnectionOwner&>(*this);
  if (request_.kind == FetchRequest::Kind::grpc_health) {
    auto made = std::make_unique<http2::ClientConnection>(std::move(transport_), owner,
                                                          http2::ClientConnectionOptions{});
    made->start();
    connection_ = std::move(made);
  } else {
    auto made = std::make_unique<http1::ClientConnection>(std::move(transport_), owner,
                                                          http1::ClientConnectionOptions{});
    made->start();
    connection_ = std::move(made);
  }
  ask();
}

void Fetch::on_available(http::ClientConnection&) {
  ask();
}

void Fetch::ask() {
  if (asked_ || finished_ || connection_->free_slots() == 0) return;
  asked_ = true;
  const bool grpc = request_.kind == FetchRequest::Kind::grpc_health;
  http::RequestHead head;
  head.method = grpc ? http::Method::post : http::Method::get;
  head.method_text = head.headers.put(grpc ? "POST" : "GET");
  head.target =
      head.headers.put(grpc ? std::string_view("/grpc.health.v1.Health/Check") : request_.target);
  head.authority = head.headers.put(request_.authority);
  for (const auto& [name, value] : request_.headers) head.headers.add(name, value);
  const std::string message = grpc ? health_request(request_.service) : std::string();
  if (grpc) {
    head.version = http::Version::http2;
    head.headers.add(http::NameId::content_type, "application/grpc");
    head.headers.add("te", "trailers");
    head.body = {http::BodyLength::Kind::unknown, 0};
  }
  connection_->open_stream(*this);
  stream->send_head(head);
  if (grpc) {
    Chain body;
    body.append_copy(loop_.chunks(), message);
    stream->send_data(std::move(body));
  }
  stream->send_end({});
}

void Fetch::on_head(http::ResponseHead& head) {
  result_.status = head.status;
  result_.content_type = head.headers.get(http::NameId::content_type).value_or("");
  for (const auto& field : head.headers.fields()) {
    if (http::equals_ignore_case(head.headers.name(field), "content-encoding")) {
      result_.encoded = !http::equals_ignore_case(head.headers.value(field), "identity");
    }
  }
}

void Fetch::on_data(Chain body) {
  const std::size_t bytes = body.size();
  const std::size_t room = request_.max_body - result_.body.size();
  const std::size_t old = result_.body.size();
  result_.body.resize(old + std::min(room, bytes));
  body.copy_to(std::as_writable_bytes(std::span(result_.body).subspan(old)));
  stream->consume(bytes);
  if (bytes > room) finish();
}

void Fetch::on_end(http::HeaderMap) {
  result_.complete = true;
  result_.serving = result_.status == 200 && says_serving(result_.body);
  finish();
}

void Fetch::finish() {
  if (finished_) return;
  finished_ = true;
  deadline_.stop();
  if (stream) stream->reset(make_error(Code::not_reusable, Side::local));
  done_(*this, std::move(result_));
}

}  // namespace proxy::server
