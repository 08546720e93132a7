// The memory of destinations: bounded, aged, and forgetful when told.
#include "proxy/detect/destinations.h"

#include "tests/support/catch.h"

using proxy::detect::Destinations;

namespace {

Destinations::Destination number(std::uint32_t n) {
  Destinations::Destination destination;
  destination.address[14] = static_cast<std::uint8_t>(n >> 8);
  destination.address[15] = static_cast<std::uint8_t>(n);
  destination.port = 3306;
  return destination;
}

}  // namespace

TEST_CASE("what spoke first is known for an hour since it did so last", "[unit]") {
  Destinations memory;
  CHECK_FALSE(memory.knows(number(1), 0));
  memory.remember(number(1), 1000);
  CHECK(memory.knows(number(1), 1000));
  auto other_port = number(1);
  other_port.port = 80;
  CHECK_FALSE(memory.knows(other_port, 1000));
  const auto age = static_cast<std::uint64_t>(Destinations::kAge.count());
  CHECK(memory.knows(number(1), 1000 + age));
  CHECK_FALSE(memory.knows(number(1), 1001 + age));
  memory.remember(number(1), 5000);
  CHECK(memory.knows(number(1), 5000 + age));
  memory.forget(number(1));
  CHECK_FALSE(memory.knows(number(1), 5000));
}

TEST_CASE("it holds so many destinations, and the oldest makes room", "[unit]") {
  Destinations memory;
  for (std::uint32_t i = 0; i < 3 * Destinations::kCapacity; ++i) memory.remember(number(i), i);
  CHECK(memory.size() == Destinations::kCapacity);
  CHECK_FALSE(memory.knows(number(0), 3000));
  CHECK(memory.knows(number(3 * Destinations::kCapacity - 1), 3 * Destinations::kCapacity));
}
