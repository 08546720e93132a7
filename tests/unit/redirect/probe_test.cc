// Finding a connection's other end in the kernel's table, and addresses as the kernel writes them.
#include "proxy/redirect/probe.h"

#include <cstdio>
#include <fstream>
#include <string>

#include <stdlib.h>
#include <unistd.h>

#include "tests/support/catch.h"

namespace proxy::redirect {
namespace {

class Table {
 public:
  explicit Table(const std::string& lines) {
    const int fd = ::mkstemp(path_.data());
    REQUIRE(fd >= 0);
    ::close(fd);
    std::ofstream(path_) << "  sl  local_address rem_address   st\n" << lines;
  }
  ~Table() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/hoplite-probe-XXXXXX";
};

}  // namespace

TEST_CASE("the port that a peer reached is read from the kernel's table", "[redirect]") {
  const Table v4(
      "   0: 00000000:3A99 00000000:0000 0A 00000000:00000000\n"
      "   1: 0100007F:3A99 0A0200C0:9C40 01 00000000:00000000\n");
  CHECK(port_reached_by(endpoint(Family::ipv4, "192.0.2.10", 40000), v4.path()) == 15001);
  CHECK(port_reached_by(endpoint(Family::ipv4, "192.0.2.10", 40001), v4.path()) == 0);
  const Table v6(
      "   0: 00000000000000000000000001000000:3A9E B80D0120000000000000000006000000:9C40 01\n"
      "   1: 0000000000000000FFFF00000100007F:3A99 0000000000000000FFFF00000A0200C0:9C41 01\n");
  CHECK(port_reached_by(endpoint(Family::ipv6, "2001:db8::6", 40000), v6.path()) == 15006);
  CHECK(port_reached_by(endpoint(Family::ipv4, "192.0.2.10", 40001), v6.path()) == 15001);
}

TEST_CASE("a table that is not as it should be is no harm", "[redirect]") {
  const Table odd(
      "garbage\n\n: :\n0: 0:0 0:0\n0: zzzzzzzz:zzzz zzzzzzzz:zzzz\n0: 0100007F: 0100007F:\n");
  CHECK(port_reached_by(endpoint(Family::ipv4, "192.0.2.10", 1), odd.path()) == 0);
  CHECK(port_reached_by(endpoint(Family::ipv4, "192.0.2.10", 1), "/no/such/table") == 0);
}

TEST_CASE("endpoints go to the kernel and back", "[redirect]") {
  for (const auto& [family, literal, text] :
       {std::tuple{Family::ipv4, "192.0.2.1", "192.0.2.1:80"}, {Family::ipv6, "::6", "[::6]:80"}}) {
    const auto made = endpoint(family, literal, 80);
    CHECK(endpoint(storage_of(made)) == made);
    CHECK(to_string(made) == text);
  }
}

}  // namespace proxy::redirect
