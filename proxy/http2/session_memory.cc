// Free lists of blocks whose sizes are multiples of 64 bytes; what is in front of each names its
// list.
// Not a general allocator: one thread, small blocks.
#include "proxy/http2/session_memory.h"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace proxy::http2 {
namespace {

constexpr std::size_t kStep = 64;
constexpr std::size_t kLists = 16;  // up to 1 KiB, the word in front included
constexpr std::size_t kKeptBytes = std::size_t{128} * 1024;

// In front of every block.
struct alignas(std::max_align_t) Head {
  std::size_t list;  // kLists: the heap's
  Head* next;        // while it is in its list
};

class FreeLists {
 public:
  FreeLists() = default;
  FreeLists(const FreeLists&) = delete;
  FreeLists& operator=(const FreeLists&) = delete;
  ~FreeLists() {
    for (List& list : lists_) {
      while (Head* head = list.first) {
        list.first = head->next;
        std::free(head);
      }
    }
  }

  void* get(std::size_t bytes) noexcept {
    if (bytes > kLists * kStep - sizeof(Head)) return bytes_of(from_heap(bytes, kLists));
    const std::size_t which = (bytes + sizeof(Head) - 1) / kStep;
    List& list = lists_[which];
    if (list.first == nullptr) {
      return bytes_of(from_heap((which + 1) * kStep - sizeof(Head), which));
    }
    Head* head = list.first;
    list.first = head->next;
    list.kept -= (which + 1) * kStep;
    return bytes_of(head);
  }

  void put(void* block) noexcept {
    if (block == nullptr) return;
    Head* head = static_cast<Head*>(block) - 1;
    if (head->list == kLists || lists_[head->list].kept >= kKeptBytes) {
      std::free(head);
      return;
    }
    List& list = lists_[head->list];
    head->next = list.first;
    list.first = head;
    list.kept += (head->list + 1) * kStep;
  }

  void* resize(void* block, std::size_t bytes) noexcept {
    if (block == nullptr) return get(bytes);
    Head* head = static_cast<Head*>(block) - 1;
    if (head->list == kLists) {
      auto* grown = static_cast<Head*>(std::realloc(head, sizeof(Head) + bytes));
      return bytes_of(grown);
    }
    const std::size_t room = (head->list + 1) * kStep - sizeof(Head);
    if (bytes <= room) return block;
    void* larger = get(bytes);
    if (larger == nullptr) return nullptr;
    std::memcpy(larger, block, room);
    put(block);
    return larger;
  }

 private:
  struct List {
    Head* first = nullptr;
    std::size_t kept = 0;  // bytes in it
  };

  static Head* from_heap(std::size_t bytes, std::size_t which) noexcept {
    auto* head = static_cast<Head*>(std::malloc(sizeof(Head) + bytes));
    if (head != nullptr) head->list = which;
    return head;
  }
  static void* bytes_of(Head* head) noexcept { return head == nullptr ? nullptr : head + 1; }

  std::array<List, kLists> lists_;
};

thread_local FreeLists lists;

}  // namespace

nghttp2_mem* session_memory() noexcept {
  static thread_local nghttp2_mem memory = {
      &lists,
      [](std::size_t bytes, void* from) { return static_cast<FreeLists*>(from)->get(bytes); },
      [](void* block, void* from) { static_cast<FreeLists*>(from)->put(block); },
      [](std::size_t count, std::size_t each, void* from) {
        std::size_t bytes = 0;
        if (__builtin_mul_overflow(count, each, &bytes)) return static_cast<void*>(nullptr);
        void* block = static_cast<FreeLists*>(from)->get(bytes);
        return block == nullptr ? nullptr : std::memset(block, 0, bytes);
      },
      [](void* block, std::size_t bytes, void* from) {
        return static_cast<FreeLists*>(from)->resize(block, bytes);
      }};
  return &memory;
}

}  // namespace proxy::http2
