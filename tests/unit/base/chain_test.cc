// Chain: every operation, and a long random run against a plain string.
// Not the pool: chunk_test.cc.
#include "proxy/base/chain.h"

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "tests/support/catch.h"

namespace proxy {
namespace {

std::string text_of(const Chain& chain) {
  std::string all(chain.size(), '\0');
  chain.copy_to(std::as_writable_bytes(std::span(all)));
  return all;
}

std::size_t slices_of(const Chain& chain) {
  std::size_t n = 0;
  for (const Slice* slice = chain.slices(); slice != nullptr; slice = slice->next) ++n;
  return n;
}

// As a socket read does: bytes behind what the chunk holds.
Chain read_into(const ChunkRef& chunk, std::string_view text) {
  const std::size_t offset = chunk->used();
  std::ranges::copy(std::as_bytes(std::span(text)), chunk->room().begin());
  chunk->grow_used(text.size());
  Chain chain;
  chain.append(chunk, offset, text.size());
  return chain;
}

}  // namespace

TEST_CASE("copies share chunks when small and fill them when large", "[base]") {
  ChunkPool pool;
  for (const std::size_t size : {1, 983, 984, 985, 4000, 4001, 15999, 16000, 16001, 70000}) {
    CAPTURE(size);
    Chain chain;
    const std::string text(size, 'x');
    chain.append_copy(pool, text);
    CHECK(text_of(chain) == text);
    CHECK(chain.pinned() <= 4 * size + 1024);
    chain.append_copy(pool, "yz");
    CHECK(text_of(chain) == text + "yz");
  }
  CHECK(pool.outstanding() == 0);
}

TEST_CASE("room and commit write behind the last byte", "[base]") {
  ChunkPool pool;
  Chain chain;
  chain.append_copy(pool, "head ");
  auto room = chain.room(pool, 100);
  REQUIRE(room.size() >= 100);
  std::ranges::copy(std::as_bytes(std::span("tail", 4)), room.begin());
  chain.commit(4);
  CHECK(text_of(chain) == "head tail");
  CHECK(slices_of(chain) == 1);

  room = chain.room(pool, 16000);  // does not fit there: another chunk
  chain.commit(0);
  CHECK(chain.size() == 9);
  room = chain.room(pool, 16000);
  room[0] = std::byte{'!'};
  chain.commit(1);
  CHECK(text_of(chain) == "head tail!");
  CHECK(slices_of(chain) == 2);
}

TEST_CASE("room that was offered and not used is given back with the chain's content", "[base]") {
  ChunkPool pool;
  Chain chain;
  static_cast<void>(chain.room(pool, 10));
  const Chain other = std::move(chain);
  CHECK(pool.outstanding() == 0);
}

TEST_CASE("two chains over one chunk do not write over each other", "[base]") {
  ChunkPool pool;
  Chain one;
  one.append_copy(pool, "common");
  Chain two = one.share();
  one.append_copy(pool, " one");
  two.append_copy(pool, " two");
  CHECK(text_of(one) == "common one");
  CHECK(text_of(two) == "common two");
}

TEST_CASE("parts can be taken, dropped and joined again", "[base]") {
  ChunkPool pool;
  Chain chain;
  chain.append_copy(pool, "0123456789");
  Chain front = chain.take_front(4);
  CHECK(text_of(front) == "0123");
  CHECK(text_of(chain) == "456789");
  front.append(std::move(chain));
  CHECK(text_of(front) == "0123456789");
  CHECK(slices_of(front) == 1);  // contiguous
  CHECK(chain.empty());
  CHECK(chain.slices() == nullptr);
  front.drop_front(10);
  CHECK(front.empty());
  CHECK(front.first().empty());
  front.append_copy(pool, "again");
  CHECK(text_of(front) == "again");
  CHECK(front.take_front(0).empty());
}

TEST_CASE("many short reads kept in a queue do not keep many chunks", "[base]") {
  ChunkPool pool;
  Chain queue;
  std::string all;
  for (int i = 0; i < 5000; ++i) {
    const ChunkRef chunk = pool.get(16000);
    const std::string text(1, static_cast<char>('a' + i % 26));
    queue.append_compact(pool, read_into(chunk, text));
    all += text;
  }
  CHECK(text_of(queue) == all);
  CHECK(queue.pinned() <= 4 * queue.size() + 16384);
}

TEST_CASE("a queue pins at most four times its bytes whatever the reads", "[base]") {
  ChunkPool pool;
  std::mt19937 random(7);
  for (int round = 0; round < 50; ++round) {
    Chain queue;
    for (int i = 0; i < 30; ++i) {
      const ChunkRef chunk = pool.get(random() % 2 == 0 ? 16000 : 64000);
      queue.append_compact(pool, read_into(chunk, std::string(1 + random() % 9000, 'x')));
      REQUIRE(queue.pinned() <= 4 * queue.size() + 16384);
    }
  }
}

TEST_CASE("spans give the front without copying", "[base]") {
  ChunkPool pool;
  Chain chain;
  const std::string text(40000, 'q');
  chain.append_copy(pool, text);
  std::array<std::span<const std::byte>, 2> spans;
  CHECK(chain.spans(spans) == 2);
  CHECK(spans[0].data() == chain.first().data());
  std::array<std::span<const std::byte>, 16> more;
  const std::size_t n = chain.spans(more);
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < n; ++i) bytes += more[i].size();
  CHECK(bytes == text.size());
}

TEST_CASE("a random run gives what a string gives", "[base]") {
  ChunkPool pool;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    std::array<Chain, 3> chains;
    std::array<std::string, 3> texts;
    ChunkRef chunk = pool.get(16000);
    for (int step = 0; step < 2000; ++step) {
      const std::size_t a = random() % 3;
      const std::size_t b = (a + 1 + random() % 2) % 3;
      const std::string fresh(random() % (random() % 10 == 0 ? 20000 : 40),
                              static_cast<char>('a' + random() % 26));
      switch (random() % 7) {
        case 0:
          chains[a].append_copy(pool, fresh);
          texts[a] += fresh;
          break;
        case 1: {
          if (chunk->room().size() < fresh.size()) chunk = pool.get(20000);
          chains[a].append(read_into(chunk, fresh));
          texts[a] += fresh;
          break;
        }
        case 2: {
          const std::size_t n = random() % (texts[a].size() + 1);
          chains[b].append(chains[a].take_front(n));
          texts[b] += texts[a].substr(0, n);
          texts[a].erase(0, n);
          break;
        }
        case 3: {
          const std::size_t n = random() % (texts[a].size() + 1);
          chains[a].drop_front(n);
          texts[a].erase(0, n);
          break;
        }
        case 4:
          if (texts[a].size() + texts[b].size() > 100000) break;
          chains[a].append(chains[b].share());
          texts[a] += texts[b];
          break;
        case 5:
          chains[a].append_compact(pool, std::move(chains[b]));
          texts[a] += texts[b];
          texts[b].clear();
          break;
        default:
          if (texts[a].size() > 60000) {
            chains[a] = std::move(chains[b]);
            texts[a] = std::exchange(texts[b], {});
          }
      }
      REQUIRE(chains[a].size() == texts[a].size());
      if (step % 16 == 0) REQUIRE(text_of(chains[a]) == texts[a]);
    }
    for (std::size_t i = 0; i < 3; ++i) CHECK(text_of(chains[i]) == texts[i]);
    for (Chain& chain : chains) chain.clear();
    chunk.reset();
    CHECK(pool.outstanding() == 0);
  }
}

}  // namespace proxy
