// IntrusiveList: a doubly linked list whose nodes are members of what they link.
// Not an owner: an element leaves its list in its own destructor, so size() is always the truth.
#pragma once

#include <cstddef>

#include "proxy/base/assert.h"

namespace proxy {

template <class T, class Tag>
class IntrusiveList;

// Base class of an element. Tag tells apart the lists one object can be in at the same time.
template <class T, class Tag = void>
class ListHook {
 public:
  ListHook() = default;
  ListHook(const ListHook&) = delete;
  ListHook& operator=(const ListHook&) = delete;
  ~ListHook() { unlink(); }

  bool linked() const noexcept { return list_ != nullptr; }
  void unlink() noexcept {
    if (list_ == nullptr) return;
    prev_->next_ = next_;
    next_->prev_ = prev_;
    --list_->size_;
    list_ = nullptr;
  }

 private:
  friend class IntrusiveList<T, Tag>;
  ListHook* prev_ = nullptr;
  ListHook* next_ = nullptr;
  IntrusiveList<T, Tag>* list_ = nullptr;
};

template <class T, class Tag = void>
class IntrusiveList {
 public:
  using Hook = ListHook<T, Tag>;

  IntrusiveList() noexcept { root_.prev_ = root_.next_ = &root_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    while (!empty()) root_.next_->unlink();
  }

  bool empty() const noexcept { return root_.next_ == &root_; }
  std::size_t size() const noexcept { return size_; }
  T& front() noexcept {
    ASSERT(!empty());
    return owner(root_.next_);
  }
  T& back() noexcept {
    ASSERT(!empty());
    return owner(root_.prev_);
  }
  void push_back(T& element) noexcept { insert_before(root_, element); }
  void push_front(T& element) noexcept { insert_before(*root_.next_, element); }
  // Takes the first element out; null when empty.
  T* pop_front() noexcept {
    if (empty()) return nullptr;
    T& element = owner(root_.next_);
    static_cast<Hook&>(element).unlink();
    return &element;
  }
  // Moves all elements of `other` to the end of this list.
  void take_all(IntrusiveList& other) noexcept {
    while (T* element = other.pop_front()) push_back(*element);
  }
  // Calls `visit` for each element; it may unlink the element it is given, and no other.
  template <class Visit>
  void for_each(Visit&& visit) {
    for (Hook* hook = root_.next_; hook != &root_;) {
      Hook* next = hook->next_;
      visit(owner(hook));
      hook = next;
    }
  }

 private:
  friend class ListHook<T, Tag>;
  static T& owner(Hook* hook) noexcept { return *static_cast<T*>(hook); }
  void insert_before(Hook& place, T& element) noexcept {
    Hook& hook = element;
    if (&place == &hook) return;  // it is there already
    hook.unlink();
    hook.prev_ = place.prev_;
    hook.next_ = &place;
    place.prev_->next_ = &hook;
    place.prev_ = &hook;
    hook.list_ = this;
    ++size_;
  }

  Hook root_;  // never linked by itself: its list_ stays null
  std::size_t size_ = 0;
};

}  // namespace proxy
