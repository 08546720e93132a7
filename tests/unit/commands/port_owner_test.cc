// The holder of a port is found through /proc, the real one and made-up ones.
// Not the wording around it, which the end-to-end tests see.
#include "proxy/commands/port_owner.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <fmt/format.h>

#include "tests/support/catch.h"
#include "tests/support/certs.h"

namespace {

using proxy::commands::explain_address_in_use;
using proxy::commands::find_port_owner;

constexpr const char* kHeads =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
    "inode\n";

std::string row(const std::string& local, const std::string& state, int uid, int inode) {
  return fmt::format(
      "   0: {} 00000000:0000 {} 00000000:00000000 00:00000000 00000000 {:5} "
      "       0 {} 1 0000000000000000 100 0 0 10 0\n",
      local, state, uid, inode);
}

// A listening socket of this process on a port the kernel chose.
class Listener {
 public:
  Listener() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    REQUIRE(::bind(fd_, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::listen(fd_, 1) == 0);
    REQUIRE(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~Listener() { ::close(fd_); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }

 private:
  int fd_;
  int port_ = 0;
};

// A /proc with two tables and one process, 4711, "backend", that has the socket 100 open.
class Proc {
 public:
  Proc() {
    std::filesystem::create_directories(folder_.path("net"));
    std::filesystem::create_directories(folder_.path("4711/fd"));
    std::filesystem::create_directories(folder_.path("4712/fd"));
    std::filesystem::create_directories(folder_.path("self"));
    folder_.write("4711/comm",
                  "back\x1b"
                  "end\n");
    folder_.write("4712/comm", "other\n");
    std::filesystem::create_symlink("/dev/null", folder_.path("4711/fd/0"));
    std::filesystem::create_symlink("socket:[100]", folder_.path("4711/fd/3"));
    std::filesystem::create_symlink("socket:[101]", folder_.path("4712/fd/3"));
  }

  void tables(const std::string& v4, const std::string& v6 = "") {
    folder_.write("net/tcp", kHeads + v4);
    folder_.write("net/tcp6", kHeads + v6);
  }
  std::string path() const { return folder_.path(""); }

 private:
  test::Folder folder_;
};

}  // namespace

TEST_CASE("this process holds the port it listens on") {
  const Listener listener;
  for (const auto* host : {"127.0.0.1", "*", "", "0.0.0.0", "[::]"}) {
    INFO(host);
    const auto owner = find_port_owner(fmt::format("{}:{}", host, listener.port()));
    REQUIRE(owner);
    CHECK(owner->pid == ::getpid());
    CHECK(owner->uid == ::getuid());
    CHECK(std::string("unit_commands").starts_with(owner->program));
  }
  CHECK(find_port_owner(std::to_string(listener.port()))->pid == ::getpid());
  CHECK(!find_port_owner(fmt::format("127.0.0.2:{}", listener.port())));
}

TEST_CASE("what is no address with a port has no holder") {
  for (const auto* text : {"", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", ":70000", ":0"}) {
    INFO(text);
    CHECK(!find_port_owner(text));
  }
}

TEST_CASE("the tables of the kernel are read") {
  Proc proc;
  const auto pid = [&](const std::string& address) {
    const auto owner = find_port_owner(address, proc.path());
    return owner ? owner->pid.value_or(-1) : 0;
  };
  SECTION("an address of IPv4") {
    proc.tables(row("0100007F:1F40", "0A", 7, 100));
    CHECK(pid("127.0.0.1:8000") == 4711);
    CHECK(pid("127.0.0.1:8001") == 0);
    CHECK(pid("10.0.0.1:8000") == 0);
    CHECK(pid("*:8000") == 4711);
  }
  SECTION("an address of IPv6") {
    proc.tables("", row("00000000000000000000000001000000:1F40", "0A", 7, 100));
    CHECK(pid("[::1]:8000") == 4711);
    CHECK(pid("[::2]:8000") == 0);
    CHECK(pid("127.0.0.1:8000") == 0);
  }
  SECTION("all addresses of IPv6 hold those of IPv4 too") {
    proc.tables("", row("00000000000000000000000000000000:1F40", "0A", 7, 100));
    CHECK(pid("127.0.0.1:8000") == 4711);
  }
  SECTION("a listener counts before a connection, and closed sockets not at all") {
    proc.tables(row("0100007F:1F40", "06", 0, 0) + row("0100007F:1F40", "01", 7, 101) +
                row("0100007F:1F40", "0A", 7, 100));
    CHECK(pid("127.0.0.1:8000") == 4711);
    proc.tables(row("0100007F:1F40", "06", 0, 0) + row("0100007F:1F40", "01", 7, 101));
    CHECK(pid("127.0.0.1:8000") == 4712);
    proc.tables(row("0100007F:1F40", "06", 0, 0));
    CHECK(pid("127.0.0.1:8000") == 0);
  }
  SECTION("lines that are cut or no lines of a table") {
    proc.tables(
        "\nnonsense\n   0: 0100007F:1F40 00000000:0000 0A\n   1: 01:1F40 x 0A a b c 0 0 100\n");
    CHECK(pid("127.0.0.1:8000") == 0);
  }
}

TEST_CASE("the explanation names the holder and what to do") {
  Proc proc;
  proc.tables(row("0100007F:1F40", "0A", 7, 100));
  CHECK(explain_address_in_use("127.0.0.1:8000", proc.path()) ==
        "  back?end (pid 4711) holds port 8000.\n"
        "  End it (kill 4711), or choose another port, or 0 for any free one.\n");
  proc.tables(row("0100007F:1F40", "0A", 7, 999));
  CHECK(explain_address_in_use("127.0.0.1:8000", proc.path()) ==
        "  A process of user id 7 holds port 8000; `ss -ltnp 'sport = :8000'` as root names it.\n"
        "  End it, or choose another port, or 0 for any free one.\n");
  proc.tables("");
  CHECK(explain_address_in_use("8000", proc.path()) ==
        "  /proc does not tell who holds port 8000; `ss -ltnp 'sport = :8000'` as root may.\n"
        "  Choose another port, or 0 for any free one.\n");
}
