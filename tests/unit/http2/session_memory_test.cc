// The allocator of nghttp2's sessions: blocks of all sizes, used again, grown, and kept apart.
// Not what nghttp2 does with it: every other test of sessions runs on it.
#include "proxy/http2/session_memory.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/support/catch.h"

namespace proxy::http2 {

TEST_CASE("blocks hold what is asked for, keep apart, and are used again", "[http2]") {
  nghttp2_mem& memory = *session_memory();
  void* user = memory.mem_user_data;
  for (int round = 0; round < 3; ++round) {
    std::vector<unsigned char*> blocks;
    for (std::size_t size = 0; size <= 2100; ++size) {
      auto* block = static_cast<unsigned char*>(memory.malloc(size, user));
      REQUIRE(block != nullptr);
      REQUIRE(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t) == 0);
      std::memset(block, static_cast<int>(size % 251), size);
      blocks.push_back(block);
    }
    for (std::size_t size = 0; size < blocks.size(); ++size) {
      for (std::size_t i = 0; i < size; ++i) REQUIRE(blocks[size][i] == size % 251);
      memory.free(blocks[size], user);
    }
  }
  void* first = memory.malloc(200, user);
  memory.free(first, user);
  void* second = memory.malloc(190, user);
  CHECK(second == first);
  memory.free(second, user);
  memory.free(nullptr, user);
}

TEST_CASE("zeroed blocks are zero where old bytes stood", "[http2]") {
  nghttp2_mem& memory = *session_memory();
  void* user = memory.mem_user_data;
  void* dirty = memory.malloc(100, user);
  std::memset(dirty, 0xff, 100);
  memory.free(dirty, user);
  auto* clean = static_cast<unsigned char*>(memory.calloc(10, 10, user));
  for (int i = 0; i < 100; ++i) CHECK(clean[i] == 0);
  memory.free(clean, user);
  CHECK(memory.calloc(SIZE_MAX / 2, 3, user) == nullptr);
}

TEST_CASE("a block that grows keeps its bytes", "[http2]") {
  nghttp2_mem& memory = *session_memory();
  void* user = memory.mem_user_data;
  auto* text = static_cast<unsigned char*>(memory.realloc(nullptr, 1, user));
  text[0] = 7;
  std::size_t size = 1;
  while (size < 5000) {
    const std::size_t grown = size + 1 + size / 3;
    text = static_cast<unsigned char*>(memory.realloc(text, grown, user));
    for (std::size_t i = 0; i < size; ++i) REQUIRE(text[i] == (i + 7) % 256);
    for (std::size_t i = size; i < grown; ++i) text[i] = static_cast<unsigned char>(i + 7);
    size = grown;
  }
  memory.free(text, user);
}

}  // namespace proxy::http2
