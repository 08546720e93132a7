// Chunk: a counted block of bytes; ChunkPool: where one thread gets and returns them.
// Not thread-safe and not shared between threads: counts are plain integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "proxy/base/assert.h"

namespace proxy {

class ChunkPool;
struct Slice;

// Bytes [0, used) may be referred to by any number of slices and never change again; bytes
// [used, capacity) belong to whoever holds the chunk as the tail it writes to. So a chunk can be
// appended to while earlier parts of it are already on their way.
class Chunk {
 public:
  std::span<std::byte> room() noexcept { return {bytes() + used_, capacity_ - used_}; }
  std::size_t used() const noexcept { return used_; }
  std::size_t capacity() const noexcept { return capacity_; }
  // Nothing refers to the bytes any more (one reference, the caller's): start over.
  void forget_used() noexcept {
    ASSERT(references_ == 1);
    used_ = 0;
  }
  std::byte* bytes() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
  void grow_used(std::size_t n) noexcept {
    ASSERT(n <= capacity_ - used_);
    used_ += static_cast<std::uint32_t>(n);
  }
  ChunkPool& pool() noexcept { return *pool_; }
  std::uint32_t references() const noexcept { return references_; }

 private:
  friend class ChunkPool;
  friend class ChunkRef;
  ChunkPool* pool_ = nullptr;
  Chunk* next_free_ = nullptr;
  std::uint32_t references_ = 0;
  std::uint32_t used_ = 0;
  std::uint32_t capacity_ = 0;
  std::uint32_t size_class_ = 0;
};

// One counted reference to a chunk.
class ChunkRef {
 public:
  ChunkRef() = default;
  explicit ChunkRef(Chunk* chunk) noexcept : chunk_(chunk) {
    if (chunk_ != nullptr) ++chunk_->references_;
  }
  ChunkRef(ChunkRef&& other) noexcept : chunk_(std::exchange(other.chunk_, nullptr)) {}
  ChunkRef& operator=(ChunkRef&& other) noexcept {
    std::swap(chunk_, other.chunk_);
    return *this;
  }
  ~ChunkRef() { reset(); }
  ChunkRef share() const noexcept { return ChunkRef(chunk_); }
  inline void reset() noexcept;
  Chunk* get() const noexcept { return chunk_; }
  Chunk* operator->() const noexcept { return chunk_; }
  explicit operator bool() const noexcept { return chunk_ != nullptr; }

 private:
  Chunk* chunk_ = nullptr;
};

// Free lists of four sizes of chunk and of slice nodes. Outlives every chunk and chain made from
// it. What is returned beyond `kKeptBytes` a size goes back to the allocator, so that a burst
// does not stay resident for ever.
class ChunkPool {
 public:
  static constexpr std::array<std::uint32_t, 4> kSizes = {1024, 4096, 16384, 65536};
  static constexpr std::size_t kLargest = kSizes.back() - sizeof(Chunk);
  static constexpr std::size_t kKeptBytes = std::size_t{1} << 20;

  ChunkPool() = default;
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;
  ~ChunkPool();

  // A chunk with room for at least `bytes`; `bytes` is at most kLargest. The room is what is left
  // of the size class after the header.
  ChunkRef get(std::size_t bytes);

  // Chunks and slice nodes handed out and not yet returned: 0 at the end of every test.
  std::size_t outstanding() const noexcept { return outstanding_; }
  // Bytes in chunks handed out, headers included.
  std::size_t outstanding_bytes() const noexcept { return outstanding_bytes_; }

 private:
  friend class ChunkRef;
  friend class Chain;
  void put(Chunk* chunk) noexcept;
  Slice* get_slice();
  void put_slice(Slice* slice) noexcept;

  std::array<Chunk*, kSizes.size()> free_{};
  std::array<std::size_t, kSizes.size()> free_count_{};
  Slice* free_slices_ = nullptr;
  std::size_t free_slice_count_ = 0;
  std::size_t outstanding_ = 0;
  std::size_t outstanding_bytes_ = 0;
};

void ChunkRef::reset() noexcept {
  Chunk* chunk = std::exchange(chunk_, nullptr);
  if (chunk != nullptr && --chunk->references_ == 0) chunk->pool_->put(chunk);
}

}  // namespace proxy
