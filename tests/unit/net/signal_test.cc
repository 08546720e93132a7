// Signal: arrives in the loop, ends with its object.
// Not what signals mean.
#include "proxy/net/signal.h"

#include <csignal>

#include "tests/support/loop_fixture.h"

namespace proxy::net {

TEST_CASE("a signal arrives as an event, to everyone who asked", "[net]") {
  test::LoopFixture fixture;
  int first = 0;
  int second = 0;
  int other = 0;
  const Signal one(fixture.loop, SIGHUP, [&] { ++first; });
  {
    const Signal two(fixture.loop, SIGHUP, [&] { ++second; });
    const Signal three(fixture.loop, SIGUSR1, [&] { ++other; });
    ::raise(SIGHUP);
    CHECK(fixture.run_until([&] { return first == 1 && second == 1; }));
  }
  ::raise(SIGHUP);
  CHECK(fixture.run_until([&] { return first == 2; }));
  CHECK(second == 1);
  CHECK(other == 0);
}

}  // namespace proxy::net
