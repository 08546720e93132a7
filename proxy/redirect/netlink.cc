// rtnetlink's framing. Lengths that come back are the kernel's, but are checked all the same.
#include "proxy/redirect/netlink.h"

#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace proxy::redirect {
namespace {

constexpr std::size_t kReceive = 64U << 10;

}  // namespace

void NetlinkMessage::append(const void* data, std::size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  bytes_.insert(bytes_.end(), bytes, bytes + size);
  bytes_.resize(NLMSG_ALIGN(bytes_.size()));
}

void NetlinkMessage::add(std::uint16_t type, const void* value, std::size_t size) {
  const rtattr header{static_cast<std::uint16_t>(RTA_LENGTH(size)), type};
  append(&header, sizeof header);
  append(value, size);
}

std::size_t NetlinkMessage::open(std::uint16_t type) {
  const auto at = bytes_.size();
  const rtattr header{0, type};
  append(&header, sizeof header);
  return at;
}

void NetlinkMessage::close(std::size_t opened) {
  const auto size = static_cast<std::uint16_t>(bytes_.size() - opened);
  std::memcpy(bytes_.data() + opened, &size, sizeof size);
}

std::span<const std::byte> NetlinkMessage::finish(std::uint32_t sequence) {
  nlmsghdr header{};
  std::memcpy(&header, bytes_.data(), sizeof header);
  header.nlmsg_len = static_cast<std::uint32_t>(bytes_.size());
  header.nlmsg_seq = sequence;
  std::memcpy(bytes_.data(), &header, sizeof header);
  return bytes_;
}

NetlinkAttributes::NetlinkAttributes(std::span<const std::byte> bytes) {
  while (bytes.size() >= sizeof(rtattr)) {
    rtattr header{};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.rta_len < sizeof header || header.rta_len > bytes.size()) return;
    if (header.rta_type < found_.size()) {
      found_[header.rta_type] = bytes.subspan(sizeof header, header.rta_len - sizeof header);
    }
    bytes = bytes.subspan(std::min<std::size_t>(RTA_ALIGN(header.rta_len), bytes.size()));
  }
}

Netlink::Netlink() : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)) {}

Netlink::~Netlink() {
  if (fd_ >= 0) ::close(fd_);
}

int Netlink::send(NetlinkMessage& message) {
  const auto bytes = message.finish(++sequence_);
  return ::send(fd_, bytes.data(), bytes.size(), 0) < 0 ? errno : 0;
}

int Netlink::receive(const std::function<void(std::span<const std::byte>)>* on_message) {
  std::vector<std::byte> buffer(kReceive);
  while (true) {
    const auto got = ::recv(fd_, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    std::span<const std::byte> rest(buffer.data(), static_cast<std::size_t>(got));
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr header{};
      std::memcpy(&header, rest.data(), sizeof header);
      if (header.nlmsg_len < sizeof header || header.nlmsg_len > rest.size()) return EPROTO;
      const auto body = rest.subspan(sizeof header, header.nlmsg_len - sizeof header);
      rest = rest.subspan(std::min<std::size_t>(NLMSG_ALIGN(header.nlmsg_len), rest.size()));
      if (header.nlmsg_seq != sequence_) continue;
      if (header.nlmsg_type == NLMSG_DONE) return 0;
      if (header.nlmsg_type == NLMSG_ERROR) {
        int error = 0;
        if (body.size() < sizeof error) return EPROTO;
        std::memcpy(&error, body.data(), sizeof error);
        return -error;
      }
      if (on_message != nullptr) (*on_message)(body);
    }
  }
}

int Netlink::request(NetlinkMessage message) {
  if (const int error = send(message); error != 0) return error;
  return receive(nullptr);
}

int Netlink::dump(NetlinkMessage message,
                  const std::function<void(std::span<const std::byte>)>& on_message) {
  if (const int error = send(message); error != 0) return error;
  return receive(&on_message);
}

}  // namespace proxy::redirect
