// The test service: a small HTTP/1 and gRPC service for the demo, the tests and the benchmark.
// Not for use behind anything but this project's proxy; it trusts whoever starts it.
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/test_service/connection.h"
#include "tests/support/test_service/event_loop.h"
#include "tests/support/test_service/grpc_connection.h"
#include "tests/support/test_service/recorder.h"

namespace {

constexpr char kUsage[] =
    "usage: test_service [--listen ADDRESS:PORT] [--grpc-listen ADDRESS:PORT] [--threads N]\n"
    "                    [--name NAME] [--record FILE]\n"
    "\n"
    "A small service for demos, tests and benchmarks. It prints the addresses it listens on.\n"
    "  --listen       an address and a port, 0 for any free one (default 127.0.0.1:9898);\n"
    "                 [::]:PORT takes IPv4 too\n"
    "  --grpc-listen  the same for gRPC, and for HTTP/2 without TLS (default: none)\n"
    "  --threads      threads that serve (default 1)\n"
    "  --name         what /version and /headers call this service (default test-service)\n"
    "  --record       writes every byte received over HTTP/1 to FILE (format: recorder.h)\n"
    "\n"
    "Paths: /version /healthz /readyz /status/N /delay/S /echo /headers /bytes/N /chunked/S\n"
    "       /ws/echo   (S in seconds, fractions allowed)\n"
    "gRPC:  grpc.health.v1.Health Check Watch\n"
    "       echo.EchoService Echo Collect Repeat Chat   (x-echo-count: how often Repeat repeats)\n"
    "       HTTP/2 requests that are no gRPC get what /version gives\n";

struct Arguments {
  std::string listen = "127.0.0.1:9898";
  std::string grpc_listen;
  std::string record;
  std::string name = "test-service";
  unsigned threads = 1;
};

bool to_number(std::string_view text, unsigned limit, unsigned& number) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && stop == text.data() + text.size() && number <= limit;
}

bool parse(int count, char** values, Arguments& arguments) {
  for (int i = 1; i < count; i += 2) {
    if (i + 1 == count) return false;
    const std::string_view flag = values[i];
    const std::string_view value = values[i + 1];
    if (flag == "--listen") {
      arguments.listen = value;
    } else if (flag == "--grpc-listen") {
      arguments.grpc_listen = value;
    } else if (flag == "--record") {
      arguments.record = value;
    } else if (flag == "--name") {
      arguments.name = value;
    } else if (flag != "--threads" || !to_number(value, 64, arguments.threads) ||
               arguments.threads == 0) {
      return false;
    }
  }
  return true;
}

// `where` as ADDRESS:PORT or [ADDRESS]:PORT. Its size, or 0 when it is neither.
socklen_t to_address(const std::string& where, sockaddr_storage& address) {
  const std::size_t colon = where.rfind(':');
  unsigned port = 0;
  if (colon == std::string::npos || !to_number(where.substr(colon + 1), 65535, port)) return 0;
  const std::string host = where.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<std::uint16_t>(port));
    const std::string inside = host.substr(1, host.size() - 2);
    return ::inet_pton(AF_INET6, inside.c_str(), &v6.sin6_addr) == 1 ? sizeof v6 : 0;
  }
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(static_cast<std::uint16_t>(port));
  return ::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1 ? sizeof v4 : 0;
}

// The listening socket, or -1. `what` begins the line that tells its address.
int listen_on(const std::string& where, const char* what) {
  sockaddr_storage address{};
  socklen_t size = to_address(where, address);
  if (size == 0) {
    std::fprintf(stderr, "test_service: %s wants ADDRESS:PORT, not %s\n", what, where.c_str());
    return -1;
  }
  const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd, 4096) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    std::perror(("test_service: " + where).c_str());
    ::close(fd);
    return -1;
  }
  // The port stands at the same place in both families.
  const auto port = ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  std::printf("%s %s:%u\n", what, where.substr(0, where.rfind(':')).c_str(), port);
  std::fflush(stdout);
  return fd;
}

template <class Kind>
test_service::Served* serve(int fd, const test_service::Settings& settings) {
  return new Kind(fd, settings);
}

}  // namespace

int main(int count, char** values) {
  if (count == 2 && std::string_view(values[1]) == "--help") {
    std::fputs(kUsage, stdout);
    return 0;
  }
  Arguments arguments;
  if (!parse(count, values, arguments)) {
    std::fputs(kUsage, stderr);
    return 64;
  }
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGTERM, [](int) { ::_exit(0); });
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }

  test_service::Recorder recorder;
  test_service::Settings settings;
  settings.name = arguments.name;
  if (!arguments.record.empty()) {
    if (!recorder.open(arguments.record)) {
      std::perror(("test_service: " + arguments.record).c_str());
      return 1;
    }
    settings.recorder = &recorder;
  }
  std::vector<test_service::Listener> listeners;
  listeners.push_back(
      {listen_on(arguments.listen, "listening on"), serve<test_service::Connection>});
  if (!arguments.grpc_listen.empty()) {
    listeners.push_back(
        {listen_on(arguments.grpc_listen, "serving gRPC on"), serve<test_service::GrpcConnection>});
  }
  for (const test_service::Listener& listener : listeners) {
    if (listener.fd < 0) return 1;
  }
  std::vector<std::jthread> others;
  for (unsigned i = 1; i < arguments.threads; ++i) {
    others.emplace_back([&] { test_service::EventLoop(listeners, settings).run(); });
  }
  test_service::EventLoop(listeners, settings).run();
}
