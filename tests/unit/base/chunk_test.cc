// ChunkPool and ChunkRef: sizes, counting, reuse. Credit.
// Not Chain: chain_test.cc.
#include "proxy/base/chunk.h"

#include <vector>

#include "proxy/base/credit.h"
#include "tests/support/catch.h"

namespace proxy {

TEST_CASE("a chunk has the room that was asked for", "[base]") {
  ChunkPool pool;
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{984}, std::size_t{985},
                                  std::size_t{4000}, std::size_t{16000}, ChunkPool::kLargest}) {
    const ChunkRef chunk = pool.get(bytes);
    CHECK(chunk->room().size() >= bytes);
    CHECK(chunk->used() == 0);
    CHECK(pool.outstanding() == 1);
    CHECK(pool.outstanding_bytes() >= bytes);
  }
  CHECK(pool.outstanding() == 0);
  CHECK(pool.outstanding_bytes() == 0);
}

TEST_CASE("a chunk goes back with its last reference and comes out again empty", "[base]") {
  ChunkPool pool;
  ChunkRef first = pool.get(1000);
  Chunk* const memory = first.get();
  first->grow_used(10);
  ChunkRef second = first.share();
  CHECK(first->references() == 2);
  first.reset();
  CHECK_FALSE(first);
  CHECK(pool.outstanding() == 1);
  second.reset();
  CHECK(pool.outstanding() == 0);
  const ChunkRef again = pool.get(1000);
  CHECK(again.get() == memory);
  CHECK(again->used() == 0);
}

TEST_CASE("moving a reference does not count", "[base]") {
  ChunkPool pool;
  ChunkRef a = pool.get(1);
  ChunkRef b = std::move(a);
  CHECK(b->references() == 1);
  ChunkRef c = pool.get(1);
  c = std::move(b);
  CHECK(c->references() == 1);
  b.reset();
  CHECK(pool.outstanding() == 1);
}

TEST_CASE("a pool keeps a bounded number of free chunks", "[base]") {
  ChunkPool pool;
  std::vector<ChunkRef> burst;
  for (int i = 0; i < 100; ++i) burst.push_back(pool.get(ChunkPool::kLargest));
  CHECK(pool.outstanding_bytes() == 100 * std::size_t{65536});
  burst.clear();
  CHECK(pool.outstanding() == 0);
}

TEST_CASE("credit is level", "[base]") {
  Credit credit(100);
  CHECK(credit.may_read());
  credit.delivered(99);
  CHECK(credit.may_read());
  credit.delivered(50);  // a read may pass the limit; the next must wait
  CHECK_FALSE(credit.may_read());
  credit.consumed(49);
  CHECK_FALSE(credit.may_read());
  credit.consumed(1);
  CHECK(credit.may_read());
  credit.clear();
  CHECK(credit.outstanding() == 0);
}

}  // namespace proxy
