// What the methods of the gRPC port answer: grpc.health.v1.Health, and echo.EchoService, whose
// Echo podinfo has as well; Collect, Repeat and Chat are its streaming kinds.
// Not a protobuf library: a message of echo is sent back as the bytes it is.

#include "tests/support/test_service/grpc_connection.h"

namespace test_service {
namespace {

constexpr unsigned kOk = 0;
constexpr unsigned kNotFound = 5;
constexpr unsigned kUnimplemented = 12;
constexpr unsigned kInternal = 13;
constexpr unsigned kServing = 1;
constexpr unsigned kServiceUnknown = 3;

void append_message(std::string& out, std::string_view payload) {
  out += '\0';
  for (int shift = 24; shift >= 0; shift -= 8) {
    out += static_cast<char>(payload.size() >> shift & 0xFF);
  }
  out += payload;
}

// HealthCheckResponse{status}.
void append_health(std::string& out, unsigned status) {
  append_message(out, std::string{'\x08', static_cast<char>(status)});
}

}  // namespace

void GrpcConnection::choose_method(Call& call) const {
  using Method = Call::Method;
  const std::string_view path = call.path;
  if (!call.grpc) {
    call.method = Method::plain;
  } else if (path == "/grpc.health.v1.Health/Check") {
    call.method = Method::check;
  } else if (path == "/grpc.health.v1.Health/Watch") {
    call.method = Method::watch;
  } else if (path == "/echo.EchoService/Echo") {
    call.method = Method::echo;
  } else if (path == "/echo.EchoService/Collect") {
    call.method = Method::collect;
  } else if (path == "/echo.EchoService/Repeat") {
    call.method = Method::repeat;
  } else if (path == "/echo.EchoService/Chat") {
    call.method = Method::chat;
  }
}

// Of HealthCheckRequest{service}: the whole server, and a service of our name, are serving.
unsigned GrpcConnection::health_of(std::string_view message) const {
  const std::string_view request = message.substr(kPrefix);
  if (request.empty()) return kServing;
  const bool named = request.size() >= 2 && request[0] == '\x0a' &&
                     static_cast<std::size_t>(request[1]) == request.size() - 2;
  return named && request.substr(2) == settings_.name ? kServing : kServiceUnknown;
}

void GrpcConnection::on_message(Call& call, std::string_view message) {
  switch (call.method) {
    case Call::Method::chat:
      call.out += message;
      send(call);
      break;
    case Call::Method::collect:
      call.kept += message.substr(kPrefix);  // joined messages are a merged message
      break;
    case Call::Method::watch:
      if (call.begun) break;
      append_health(call.out, health_of(message));
      send(call);
      break;
    default:
      call.kept = message;
      break;
  }
}

// The request is complete.
void GrpcConnection::answer(Call& call) {
  switch (call.method) {
    case Call::Method::unknown:
      finish(call, kUnimplemented);
      return;
    case Call::Method::plain:
      call.out = plain_;
      finish(call, kOk);
      return;
    case Call::Method::chat:
      finish(call, kOk);
      return;
    case Call::Method::watch:
      return;  // until the client has enough of it
    case Call::Method::collect:
      append_message(call.out, call.kept);
      finish(call, kOk);
      return;
    default:
      break;
  }
  if (call.kept.empty()) {
    finish(call, kInternal);
    return;
  }
  if (call.method == Call::Method::check) {
    const unsigned health = health_of(call.kept);
    if (health == kServing) append_health(call.out, health);
    finish(call, health == kServing ? kOk : kNotFound);
    return;
  }
  const unsigned times = call.method == Call::Method::repeat ? call.repeat : 1;
  for (unsigned i = 0; i < times; ++i) call.out += call.kept;
  finish(call, kOk);
}

}  // namespace test_service
