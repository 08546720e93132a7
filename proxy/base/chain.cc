// Chain: list surgery on slices.
// Not the place where bytes are interpreted.
#include "proxy/base/chain.h"

#include <algorithm>
#include <cstring>

namespace proxy {
namespace {
// What a copy asks for when it must start a new chunk: small messages share one, large ones fill
// it.
constexpr std::size_t kCopyChunk = 4000;
constexpr std::size_t kLargestRoom = 16000;
}  // namespace

void Chain::clear() noexcept {
  offered_.reset();
  while (head_ != nullptr) {
    Slice* slice = head_;
    head_ = slice->next;
    ChunkPool& pool = slice->chunk->pool();
    slice->chunk.reset();
    pool.put_slice(slice);
  }
  tail_ = nullptr;
  size_ = 0;
}

Slice* Chain::push_slice(ChunkPool& pool) {
  Slice* slice = pool.get_slice();
  slice->next = nullptr;
  if (tail_ == nullptr) {
    head_ = slice;
  } else {
    tail_->next = slice;
  }
  tail_ = slice;
  return slice;
}

void Chain::append(Chain&& tail) noexcept {
  tail.offered_.reset();
  if (tail.head_ == nullptr) return;
  offered_.reset();
  size_ += std::exchange(tail.size_, 0);
  Slice* first = std::exchange(tail.head_, nullptr);
  Slice* last = std::exchange(tail.tail_, nullptr);
  if (tail_ != nullptr && tail_->chunk.get() == first->chunk.get() &&
      tail_->offset + tail_->length == first->offset) {
    // Many short reads into one chunk stay one slice.
    tail_->length += first->length;
    Slice* joined = std::exchange(first, first->next);
    ChunkPool& pool = joined->chunk->pool();
    joined->chunk.reset();
    pool.put_slice(joined);
    if (first == nullptr) return;
  }
  if (tail_ == nullptr) {
    head_ = first;
  } else {
    tail_->next = first;
  }
  tail_ = last;
}

void Chain::append(const ChunkRef& chunk, std::size_t offset, std::size_t length) {
  if (length == 0) return;
  if (tail_ != nullptr && tail_->chunk.get() == chunk.get() &&
      tail_->offset + tail_->length == offset) {
    tail_->length += static_cast<std::uint32_t>(length);
  } else {
    Slice* slice = push_slice(chunk->pool());
    slice->chunk = chunk.share();
    slice->offset = static_cast<std::uint32_t>(offset);
    slice->length = static_cast<std::uint32_t>(length);
  }
  size_ += length;
}

std::span<std::byte> Chain::room(ChunkPool& pool, std::size_t at_least) {
  ASSERT(at_least <= kLargestRoom);
  offered_.reset();
  if (tail_ != nullptr && tail_->offset + tail_->length == tail_->chunk->used() &&
      tail_->chunk->room().size() >= at_least) {
    return tail_->chunk->room();
  }
  offered_ = pool.get(std::max<std::size_t>(at_least, 1));
  return offered_->room();
}

void Chain::commit(std::size_t bytes) {
  if (bytes == 0) {
    offered_.reset();
    return;
  }
  if (offered_) {
    ChunkRef chunk = std::move(offered_);
    const std::size_t offset = chunk->used();
    chunk->grow_used(bytes);
    append(chunk, offset, bytes);
    return;
  }
  tail_->chunk->grow_used(bytes);
  tail_->length += static_cast<std::uint32_t>(bytes);
  size_ += bytes;
}

void Chain::append_copy(ChunkPool& pool, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    std::span<std::byte> free = room(pool, 1);
    if (offered_ && free.size() < bytes.size()) {
      const std::size_t wanted = bytes.size() <= kCopyChunk ? kCopyChunk : kLargestRoom;
      free = room(pool, std::min(wanted, std::max(bytes.size(), free.size() + 1)));
    }
    const std::size_t n = std::min(free.size(), bytes.size());
    std::memcpy(free.data(), bytes.data(), n);
    commit(n);
    bytes = bytes.subspan(n);
  }
}

void Chain::append_compact(ChunkPool& pool, Chain&& tail) {
  while (tail.head_ != nullptr) {
    Slice* slice = tail.head_;
    const bool wasteful = std::size_t{slice->length} * 4 < slice->chunk->capacity();
    if (slice->length < kSmall || wasteful) {
      append_copy(pool, slice->bytes());
      tail.drop_front(slice->length);
    } else {
      append(tail.take_front(slice->length));
    }
  }
}

Chain Chain::take_front(std::size_t bytes) {
  ASSERT(bytes <= size_);
  Chain front;
  while (bytes > 0) {
    Slice* slice = head_;
    if (slice->length <= bytes) {
      head_ = slice->next;
      if (head_ == nullptr) tail_ = nullptr;
      size_ -= slice->length;
      bytes -= slice->length;
      slice->next = nullptr;
      if (front.tail_ == nullptr) {
        front.head_ = slice;
      } else {
        front.tail_->next = slice;
      }
      front.tail_ = slice;
      front.size_ += slice->length;
    } else {
      front.append(slice->chunk, slice->offset, bytes);
      slice->offset += static_cast<std::uint32_t>(bytes);
      slice->length -= static_cast<std::uint32_t>(bytes);
      size_ -= bytes;
      bytes = 0;
    }
  }
  return front;
}

void Chain::drop_front(std::size_t bytes) noexcept {
  ASSERT(bytes <= size_);
  size_ -= bytes;
  while (bytes > 0) {
    Slice* slice = head_;
    if (slice->length > bytes) {
      slice->offset += static_cast<std::uint32_t>(bytes);
      slice->length -= static_cast<std::uint32_t>(bytes);
      return;
    }
    bytes -= slice->length;
    head_ = slice->next;
    ChunkPool& pool = slice->chunk->pool();
    slice->chunk.reset();
    pool.put_slice(slice);
  }
  if (head_ == nullptr) tail_ = nullptr;
}

Chain Chain::share() const {
  Chain copy;
  for (const Slice* slice = head_; slice != nullptr; slice = slice->next) {
    copy.append(slice->chunk, slice->offset, slice->length);
  }
  return copy;
}

std::size_t Chain::spans(std::span<std::span<const std::byte>> into) const noexcept {
  std::size_t n = 0;
  for (const Slice* slice = head_; slice != nullptr && n < into.size(); slice = slice->next) {
    into[n++] = slice->bytes();
  }
  return n;
}

void Chain::copy_to(std::span<std::byte> into) const noexcept {
  ASSERT(into.size() <= size_);
  for (const Slice* slice = head_; slice != nullptr && !into.empty(); slice = slice->next) {
    const std::size_t n = std::min<std::size_t>(slice->length, into.size());
    std::memcpy(into.data(), slice->bytes().data(), n);
    into = into.subspan(n);
  }
}

std::size_t Chain::pinned() const noexcept {
  std::size_t bytes = 0;
  const Chunk* last = nullptr;
  for (const Slice* slice = head_; slice != nullptr; slice = slice->next) {
    if (slice->chunk.get() != last) bytes += slice->chunk->capacity();
    last = slice->chunk.get();
  }
  return bytes;
}

}  // namespace proxy
