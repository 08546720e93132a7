// One rtnetlink socket: requests that are acknowledged and dumps. Blocking, for commands.
// Not what is asked for: kernel.h.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace proxy::redirect {

// A message under construction: header, fixed part, attributes.
class NetlinkMessage {
 public:
  template <class Fixed>
  NetlinkMessage(std::uint16_t type, std::uint16_t flags, const Fixed& fixed) {
    static_assert(std::is_trivially_copyable_v<Fixed>);
    nlmsghdr header{};
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    append(&header, sizeof header);
    append(&fixed, sizeof fixed);
  }

  void add(std::uint16_t type, const void* value, std::size_t size);
  template <class T>
  void add(std::uint16_t type, const T& value) {
    static_assert(std::is_trivially_copyable_v<T>);
    add(type, &value, sizeof value);
  }
  void add_text(std::uint16_t type, const std::string& text) {
    add(type, text.c_str(), text.size() + 1);
  }
  // Attributes within an attribute: all that is added between these two.
  std::size_t open(std::uint16_t type);
  void close(std::size_t opened);
  // A fixed part within an attribute, without a header of its own.
  template <class T>
  void add_fixed(const T& value) {
    append(&value, sizeof value);
  }

  // With the length filled in.
  std::span<const std::byte> finish(std::uint32_t sequence);

 private:
  void append(const void* data, std::size_t size);

  std::vector<std::byte> bytes_;
};

// The attributes of a received message, by type; what is absent is an empty span.
class NetlinkAttributes {
 public:
  explicit NetlinkAttributes(std::span<const std::byte> bytes);
  std::span<const std::byte> operator[](std::uint16_t type) const {
    return type < found_.size() ? found_[type] : std::span<const std::byte>();
  }
  template <class T>
  T value(std::uint16_t type, T otherwise) const {
    const auto bytes = (*this)[type];
    if (bytes.size() < sizeof(T)) return otherwise;
    T out;
    std::memcpy(&out, bytes.data(), sizeof out);
    return out;
  }

 private:
  std::array<std::span<const std::byte>, 64> found_{};
};

class Netlink {
 public:
  Netlink();
  ~Netlink();
  Netlink(const Netlink&) = delete;
  Netlink& operator=(const Netlink&) = delete;

  // 0 or an errno.
  int request(NetlinkMessage message);
  // Calls `on_message` with each message's fixed part and attributes; 0 or an errno.
  int dump(NetlinkMessage message,
           const std::function<void(std::span<const std::byte>)>& on_message);

 private:
  int send(NetlinkMessage& message);
  int receive(const std::function<void(std::span<const std::byte>)>* on_message);

  int fd_ = -1;
  std::uint32_t sequence_ = 0;
};

}  // namespace proxy::redirect
