// Chain: a queue of byte slices over counted chunks. How all payload moves through the proxy.
// Not contiguous and not copyable: share() makes more references to the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "proxy/base/chunk.h"

namespace proxy {

// A node of a Chain: `length` bytes from `offset` of `chunk`. Never empty.
struct Slice {
  Slice* next = nullptr;
  ChunkRef chunk;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;

  std::span<const std::byte> bytes() const noexcept {
    return {chunk.get()->bytes() + offset, length};
  }
};

class Chain {
 public:
  Chain() = default;
  Chain(Chain&& other) noexcept
      : head_(std::exchange(other.head_, nullptr)),
        tail_(std::exchange(other.tail_, nullptr)),
        size_(std::exchange(other.size_, 0)) {
    other.offered_.reset();
  }
  Chain& operator=(Chain&& other) noexcept {
    if (this != &other) {
      clear();
      head_ = std::exchange(other.head_, nullptr);
      tail_ = std::exchange(other.tail_, nullptr);
      size_ = std::exchange(other.size_, 0);
      other.offered_.reset();
    }
    return *this;
  }
  ~Chain() { clear(); }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  void clear() noexcept;

  // All of `tail`, moved, behind what is here. No copy; joins slices that are contiguous.
  void append(Chain&& tail) noexcept;
  // `length` bytes from `offset` of `chunk`, by reference. Joins the last slice when contiguous.
  void append(const ChunkRef& chunk, std::size_t offset, std::size_t length);
  // A copy of `bytes`, into the last slice's chunk where that has room, else into new chunks.
  void append_copy(ChunkPool& pool, std::span<const std::byte> bytes);
  void append_copy(ChunkPool& pool, std::string_view text) {
    append_copy(pool, std::as_bytes(std::span(text)));
  }
  // Like append(Chain), but a slice under kSmall bytes, or under a quarter of its chunk, is copied
  // into the tail chunk: a queue of n bytes never pins more than 4n and one chunk (many tiny reads
  // would otherwise each keep a whole read chunk alive).
  void append_compact(ChunkPool& pool, Chain&& tail);

  // At least `at_least` (<= 16,000) writable bytes directly behind the last byte of this chain.
  // They join the chain with commit(n), which must be the next call on this chain.
  std::span<std::byte> room(ChunkPool& pool, std::size_t at_least);
  void commit(std::size_t bytes);

  // The first `bytes` (<= size()), moved out / thrown away.
  Chain take_front(std::size_t bytes);
  void drop_front(std::size_t bytes) noexcept;

  // More references to the same bytes; O(slices).
  Chain share() const;

  // The first slice's bytes; empty when the chain is empty.
  std::span<const std::byte> first() const noexcept {
    return head_ == nullptr ? std::span<const std::byte>{} : head_->bytes();
  }
  const Slice* slices() const noexcept { return head_; }
  // Fills up to `into.size()` spans from the front; returns how many.
  std::size_t spans(std::span<std::span<const std::byte>> into) const noexcept;
  // Copies the first into.size() (<= size()) bytes out.
  void copy_to(std::span<std::byte> into) const noexcept;
  // Bytes of all chunks this chain keeps alive (a chunk met in adjacent slices counts once).
  std::size_t pinned() const noexcept;

  static constexpr std::size_t kSmall = 2048;

 private:
  Slice* push_slice(ChunkPool& pool);

  Slice* head_ = nullptr;
  Slice* tail_ = nullptr;
  std::size_t size_ = 0;
  // The chunk room() offered last, when it is not the tail slice's own.
  ChunkRef offered_;
};

}  // namespace proxy
