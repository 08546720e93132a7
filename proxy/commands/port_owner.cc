// Finds the inode of the socket in /proc/net/tcp and tcp6, then the process that has it open.
#include "proxy/commands/port_owner.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <vector>

#include <fmt/format.h>

namespace proxy::commands {
namespace {

namespace fs = std::filesystem;

// IPv4 addresses as ::ffff:a.b.c.d, as the kernel compares them with IPv6 ones.
using Bytes = std::array<unsigned char, 16>;

constexpr std::size_t kMappedPrefix = 12;
constexpr unsigned kStateListen = 0x0A;

struct Wanted {
  Bytes address{};
  bool any = true;
  std::uint16_t port = 0;
};

struct Socket {
  Bytes address{};
  bool any = false;
  bool listens = false;
  uid_t uid = 0;
  std::string inode;
};

Bytes mapped(const unsigned char* v4) {
  Bytes out{};
  out[10] = out[11] = 0xff;
  std::memcpy(out.data() + kMappedPrefix, v4, 4);
  return out;
}

bool is_any(const Bytes& address) {
  const Bytes any_v4 = mapped(Bytes{}.data());
  return address == Bytes{} || address == any_v4;
}

std::optional<Wanted> parse_address(std::string_view text) {
  Wanted out;
  const auto colon = text.rfind(':');
  const auto port = colon == std::string_view::npos ? text : text.substr(colon + 1);
  const auto* end = port.data() + port.size();
  const auto [rest, error] = std::from_chars(port.data(), end, out.port);
  if (error != std::errc() || rest != end || out.port == 0) return std::nullopt;
  std::string host(colon == std::string_view::npos ? "" : text.substr(0, colon));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::array<unsigned char, 4> v4{};
  if (::inet_pton(AF_INET, host.c_str(), v4.data()) == 1) {
    out.address = mapped(v4.data());
    out.any = is_any(out.address);
  } else if (::inet_pton(AF_INET6, host.c_str(), out.address.data()) == 1) {
    out.any = is_any(out.address);
  }
  return out;
}

// "0100007F:1F90" or 32 digits: words of four bytes in the machine's order, then the port.
bool parse_local(const std::string& text, Bytes& address, unsigned& port) {
  const auto colon = text.find(':');
  if (colon != 8 && colon != 32) return false;
  Bytes raw{};
  for (std::size_t word = 0; word < colon / 8; ++word) {
    std::uint32_t value = 0;
    const auto* at = text.data() + word * 8;
    if (std::from_chars(at, at + 8, value, 16).ptr != at + 8) return false;
    std::memcpy(raw.data() + word * 4, &value, 4);
  }
  address = colon == 8 ? mapped(raw.data()) : raw;
  const auto* end = text.data() + text.size();
  return std::from_chars(text.data() + colon + 1, end, port, 16).ptr == end;
}

// The sockets of one table that have the wanted port and stand in the way of the address.
void collect(const std::string& path, const Wanted& wanted, std::vector<Socket>& out) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);  // the names of the columns
  while (std::getline(in, line)) {
    std::istringstream columns(line);
    std::string number, local, remote, state, queues, timer, retransmits, timeout;
    Socket socket;
    columns >> number >> local >> remote >> state >> queues >> timer >> retransmits >> socket.uid >>
        timeout >> socket.inode;
    unsigned port = 0;
    if (!columns || !parse_local(local, socket.address, port) || port != wanted.port) continue;
    socket.any = is_any(socket.address);
    if (!socket.any && !wanted.any && socket.address != wanted.address) continue;
    unsigned code = 0;
    std::from_chars(state.data(), state.data() + state.size(), code, 16);
    socket.listens = code == kStateListen;
    if (socket.inode != "0") out.push_back(std::move(socket));  // 0: closed by its process
  }
}

std::string program_name(const fs::path& process) {
  std::ifstream in(process / "comm");
  std::string name;
  std::getline(in, name);
  for (char& c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return name;
}

bool has_open(const fs::path& process, const std::string& link) {
  std::error_code error;
  for (fs::directory_iterator it(process / "fd", error), end; !error && it != end;
       it.increment(error)) {
    std::error_code gone;
    if (fs::read_symlink(it->path(), gone).native() == link) return true;
  }
  return false;
}

void find_process(const std::string& proc, const std::string& inode, PortOwner& owner) {
  const auto link = fmt::format("socket:[{}]", inode);
  std::error_code error;
  for (fs::directory_iterator it(proc, error), end; !error && it != end; it.increment(error)) {
    const auto name = it->path().filename().native();
    pid_t pid = 0;
    const auto* last = name.data() + name.size();
    if (std::from_chars(name.data(), last, pid).ptr != last) continue;
    if (!has_open(it->path(), link)) continue;
    owner.pid = pid;
    owner.program = program_name(it->path());
    return;
  }
}

}  // namespace

std::optional<PortOwner> find_port_owner(std::string_view address, const std::string& proc) {
  const auto wanted = parse_address(address);
  if (!wanted) return std::nullopt;
  std::vector<Socket> sockets;
  collect(proc + "/net/tcp", *wanted, sockets);
  collect(proc + "/net/tcp6", *wanted, sockets);
  if (sockets.empty()) return std::nullopt;
  std::stable_partition(sockets.begin(), sockets.end(),
                        [](const Socket& socket) { return socket.listens; });
  PortOwner owner;
  owner.uid = sockets.front().uid;
  find_process(proc, sockets.front().inode, owner);
  return owner;
}

std::string explain_address_in_use(std::string_view address, const std::string& proc) {
  const auto port = address.substr(address.rfind(':') + 1);  // npos + 1 is 0: all of it
  const auto owner = find_port_owner(address, proc);
  if (!owner) {
    return fmt::format(
        "  /proc does not tell who holds port {0}; `ss -ltnp 'sport = :{0}'` as root may.\n"
        "  Choose another port, or 0 for any free one.\n",
        port);
  }
  if (!owner->pid) {
    return fmt::format(
        "  A process of user id {1} holds port {0}; `ss -ltnp 'sport = :{0}'` as root names it.\n"
        "  End it, or choose another port, or 0 for any free one.\n",
        port, owner->uid);
  }
  return fmt::format(
      "  {1} (pid {2}) holds port {0}.\n"
      "  End it (kill {2}), or choose another port, or 0 for any free one.\n",
      port, owner->program, *owner->pid);
}

}  // namespace proxy::commands
