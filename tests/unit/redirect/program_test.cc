// Running programs without a shell, and the words for what iptables says.
#include "proxy/redirect/program.h"

#include <chrono>
#include <csignal>
#include <string>

#include "proxy/redirect/tables.h"
#include "tests/support/catch.h"

namespace proxy::redirect {

TEST_CASE("programs get their input and give output, error and code", "[redirect]") {
  const auto sh = find_program("sh");
  REQUIRE_FALSE(sh.empty());
  const auto done = run_program({sh, "-c", "cat; echo bad >&2; exit 3"}, {}, "in\n");
  REQUIRE(done);
  CHECK(done->code == 3);
  CHECK(done->out == "in\n");
  CHECK(done->err == "bad\n");
}

TEST_CASE("more than a pipe holds passes both ways", "[redirect]") {
  const std::string much(1U << 20, 'x');
  const auto done = run_program({find_program("cat")}, {}, much);
  REQUIRE(done);
  CHECK(done->out == much);
}

TEST_CASE("input that is not wanted is no failure", "[redirect]") {
  std::signal(SIGPIPE, SIG_IGN);  // as main does
  const auto done = run_program({find_program("true")}, {}, std::string(1U << 20, 'x'));
  REQUIRE(done);
  CHECK(done->code == 0);
}

TEST_CASE("a program sees the environment it is given, and arguments as they are", "[redirect]") {
  const auto done = run_program({find_program("env")}, {"A=$(id)"}, {});
  REQUIRE(done);
  CHECK(done->out == "A=$(id)\n");
  const auto echo = run_program({find_program("echo"), "a; b", "$HOME", "*"}, {}, {});
  REQUIRE(echo);
  CHECK(echo->out == "a; b $HOME *\n");
}

TEST_CASE("a program that does not end is stopped", "[redirect]") {
  const auto done = run_program({find_program("sleep"), "60"}, {}, {}, 1);
  REQUIRE_FALSE(done);
  CHECK(done.error().find("did not end within 1 s") != std::string::npos);
}

TEST_CASE("a program that is not there is said so", "[redirect]") {
  CHECK(find_program("no-such-program-anywhere").empty());
  CHECK_FALSE(run_program({"/no/such/program"}, {}, {}));
}

TEST_CASE("a signal that ended it is in the code", "[redirect]") {
  const auto done = run_program({find_program("sh"), "-c", "kill -9 $$"}, {}, {});
  REQUIRE(done);
  CHECK(done->code == 128 + 9);
}

TEST_CASE("what iptables says is followed by what to do", "[redirect]") {
  const auto says = [](const char* message, const char* expected) {
    INFO(message);
    CHECK(advice(message, Backend::nft, Family::ipv4).find(expected) != std::string::npos);
  };
  says(
      "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: "
      "Permission denied (you must be root)",
      "NET_ADMIN");
  says("can't initialize iptables table `nat': Table does not exist (do you need to insmod?)",
       "modprobe iptable_nat");
  says("Failed to initialize nft: Protocol not supported", "--force-iptables-binary legacy");
  says("Warning: Extension owner revision 0 not supported, missing kernel module?", "xt_owner");
  says("CHAIN_USER_DEL failed (Device or resource busy): chain ISTIO_OUTPUT", "not ours");
  says("Fatal: can't open lock file /run/xtables.lock: Read-only file system", "/run");
  CHECK(advice("something new", Backend::nft, Family::ipv4).empty());
  CHECK(advice("Table does not exist", Backend::legacy, Family::ipv6).find("ip6table_nat") !=
        std::string::npos);
  CHECK(no_programs(Backend::legacy).find("iptables-legacy-restore") != std::string::npos);
  CHECK(no_programs({}).find("apt-get install iptables") != std::string::npos);
}

}  // namespace proxy::redirect
