// A client outside the pod, without another machine or namespace: a veth pair whose far end is a
// packet socket, on which this speaks just enough TCP. What it sends arrives as any inbound packet.
// Not the near end, which is the kernel and whatever listens there.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "proxy/redirect/endpoint.h"

namespace proxy::redirect {

// The addresses are of the ranges for documentation, which nothing uses: ours to the inside.
class Wire {
 public:
  // Needs NET_ADMIN and NET_RAW; the interfaces are gone when the last process that has it ends it.
  static std::expected<std::unique_ptr<Wire>, std::string> open(bool ipv6);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Readable when answer() has something to do.
  int descriptor() const noexcept { return fd_; }
  static Endpoint client(Family family, std::uint16_t port);
  static Endpoint server(Family family, std::uint16_t port);

  // Opens a connection from client(port) to server(`to`).
  void connect(Family family, std::uint16_t port, std::uint16_t to);
  // Completes handshakes that were answered, sending `bytes` in the packet that does.
  void answer(std::string_view bytes);

 private:
  Wire() = default;
  std::string make(bool ipv6);
  std::string give_address(Family family) const;
  void send(const Endpoint& from, const Endpoint& to, std::uint8_t flags, std::uint32_t sequence,
            std::uint32_t acknowledged, std::string_view bytes) const;
  void on_packet(std::span<const unsigned char> frame, std::string_view bytes);

  std::string near_;
  std::string far_;
  int near_index_ = 0;
  int fd_ = -1;
};

}  // namespace proxy::redirect
