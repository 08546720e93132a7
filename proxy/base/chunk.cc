// The free lists of ChunkPool.
// Not a general allocator: four sizes, one thread.
#include "proxy/base/chunk.h"

#include <cstdlib>
#include <exception>
#include <new>

#include "proxy/base/chain.h"

namespace proxy {

namespace {
constexpr std::size_t kKeptSlices = 4096;
}

ChunkPool::~ChunkPool() {
  ASSERT(outstanding_ == 0);
  for (Chunk* chunk : free_) {
    while (chunk != nullptr) std::free(std::exchange(chunk, chunk->next_free_));
  }
  while (free_slices_ != nullptr) delete std::exchange(free_slices_, free_slices_->next);
}

ChunkRef ChunkPool::get(std::size_t bytes) {
  ASSERT(bytes <= kLargest);
  std::uint32_t size_class = 0;
  while (kSizes[size_class] - sizeof(Chunk) < bytes && size_class + 1 < kSizes.size()) ++size_class;
  const std::uint32_t size = kSizes[size_class];
  Chunk* chunk = free_[size_class];
  if (chunk != nullptr) {
    free_[size_class] = chunk->next_free_;
    --free_count_[size_class];
  } else {
    void* memory = std::malloc(size);
    if (memory == nullptr) std::terminate();
    chunk = new (memory) Chunk;
    chunk->pool_ = this;
    chunk->capacity_ = size - static_cast<std::uint32_t>(sizeof(Chunk));
    chunk->size_class_ = size_class;
  }
  chunk->used_ = 0;
  ++outstanding_;
  outstanding_bytes_ += size;
  return ChunkRef(chunk);
}

void ChunkPool::put(Chunk* chunk) noexcept {
  const std::uint32_t size_class = chunk->size_class_;
  --outstanding_;
  outstanding_bytes_ -= kSizes[size_class];
  if (free_count_[size_class] * kSizes[size_class] >= kKeptBytes) {
    std::free(chunk);
    return;
  }
  chunk->next_free_ = std::exchange(free_[size_class], chunk);
  ++free_count_[size_class];
}

Slice* ChunkPool::get_slice() {
  ++outstanding_;
  if (free_slices_ == nullptr) return new Slice;
  --free_slice_count_;
  return std::exchange(free_slices_, free_slices_->next);
}

void ChunkPool::put_slice(Slice* slice) noexcept {
  --outstanding_;
  if (free_slice_count_ >= kKeptSlices) {
    delete slice;
    return;
  }
  slice->next = std::exchange(free_slices_, slice);
  ++free_slice_count_;
}

}  // namespace proxy
