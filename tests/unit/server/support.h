// What the server's tests share: gunzip, a blocking HTTP client, a service that answers.
// Not fast: a thread a connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <zlib.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace proxy::test {

// The text in one gzip member; "(damaged)" when it is none.
inline std::string gunzip(std::string_view packed) {
  z_stream zlib{};
  if (inflateInit2(&zlib, 15 + 16) != Z_OK) std::abort();
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  zlib.avail_in = static_cast<uInt>(packed.size());
  std::string out;
  int result = Z_OK;
  while (result == Z_OK) {
    char buffer[16384];
    zlib.next_out = reinterpret_cast<Bytef*>(buffer);
    zlib.avail_out = sizeof buffer;
    result = inflate(&zlib, Z_NO_FLUSH);
    out.append(buffer, sizeof buffer - zlib.avail_out);
  }
  const bool whole = result == Z_STREAM_END && zlib.avail_in == 0;
  inflateEnd(&zlib);
  return whole ? out : "(damaged)";
}

// The body of a chunked message; "(cut)" when its end is missing.
inline std::string unchunk(std::string_view body) {
  std::string out;
  while (true) {
    const std::size_t line = body.find("\r\n");
    if (line == std::string_view::npos) return "(cut)";
    const std::size_t size = std::strtoul(std::string(body.substr(0, line)).c_str(), nullptr, 16);
    body.remove_prefix(line + 2);
    if (size == 0) return out;
    if (body.size() < size + 2) return "(cut)";
    out += body.substr(0, size);
    body.remove_prefix(size + 2);
  }
}

// A blocking connection to 127.0.0.1; every wait ends after ten seconds.
class Blocking {
 public:
  explicit Blocking(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) close();
  }
  ~Blocking() { close(); }
  Blocking(const Blocking&) = delete;
  Blocking& operator=(const Blocking&) = delete;

  bool connected() const { return fd_ >= 0; }
  bool send(std::string_view text) const {
    return ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
  }
  // More bytes into `received`; false at the end, an error, or the deadline.
  bool more() {
    char buffer[65536];
    const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
    if (n > 0) received.append(buffer, static_cast<std::size_t>(n));
    return n > 0;
  }
  bool until(std::string_view text) {
    while (received.find(text) == std::string::npos) {
      if (!more()) return false;
    }
    return true;
  }
  // All until the other side ends.
  std::string rest() {
    while (more()) {
    }
    return std::exchange(received, {});
  }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  // A GET on this connection; the status, 0 when it did not get one. Bodies must be short and have
  // a length.
  int get(std::string_view path) {
    received.clear();
    if (!send("GET " + std::string(path) + " HTTP/1.1\r\nHost: app\r\n\r\n")) return 0;
    if (!until("\r\n\r\n")) return 0;
    const std::size_t at = received.find("ontent-Length: ");
    const std::size_t lower = at == std::string::npos ? received.find("ontent-length: ") : at;
    if (lower == std::string::npos) return 0;
    const std::size_t length = std::strtoul(received.c_str() + lower + 15, nullptr, 10);
    const std::size_t whole = received.find("\r\n\r\n") + 4 + length;
    while (received.size() < whole) {
      if (!more()) return 0;
    }
    return std::atoi(received.c_str() + 9);
  }

  std::string received;

 private:
  int fd_;
};

// One request on a connection of its own, answered whole.
inline std::string fetch(std::uint16_t port, std::string_view path, std::string_view fields = "",
                         std::string_view method = "GET") {
  Blocking connection(port);
  if (!connection.connected()) return "(refused)";
  connection.send(std::string(method) + " " + std::string(path) +
                  " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + std::string(fields) + "\r\n");
  return connection.rest();
}
inline std::string body_of(const std::string& response) {
  const std::size_t at = response.find("\r\n\r\n");
  if (at == std::string::npos) return "(no head)";
  const bool chunked = response.find("chunked") < at;
  return chunked ? unchunk(std::string_view(response).substr(at + 4)) : response.substr(at + 4);
}

// Answers every request with 200 and "ok".
class OkService {
 public:
  OkService() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    if (::bind(fd_, reinterpret_cast<sockaddr*>(&at), size) != 0 || ::listen(fd_, 100) != 0) {
      std::abort();
    }
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    acceptor_ = std::thread([this] { accept_all(); });
  }
  ~OkService() {
    ::shutdown(fd_, SHUT_RDWR);
    acceptor_.join();
    {
      const std::scoped_lock lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (std::thread& thread : threads_) thread.join();
    ::close(fd_);
  }
  std::uint16_t port() const { return port_; }
  std::uint64_t requests() const { return requests_; }

 private:
  void accept_all() {
    while (true) {
      const int fd = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const std::scoped_lock lock(mutex_);
      open_.push_back(fd);
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }
  void serve(int fd) {
    constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    std::string text;
    char buffer[4096];
    while (true) {
      const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      text.append(buffer, static_cast<std::size_t>(n));
      for (std::size_t end = text.find("\r\n\r\n"); end != std::string::npos;
           end = text.find("\r\n\r\n")) {
        text.erase(0, end + 4);
        ++requests_;
        if (::send(fd, kAnswer.data(), kAnswer.size(), MSG_NOSIGNAL) < 0) break;
      }
    }
    const std::scoped_lock lock(mutex_);
    std::erase(open_, fd);
    ::close(fd);
  }

  int fd_;
  std::uint16_t port_ = 0;
  std::atomic<std::uint64_t> requests_ = 0;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace proxy::test
