// LinkEnd: one half of a two-way link between two objects of different owners.
// Not an owner. Cutting either end, or destroying it, cuts both: no pointer can dangle.
#pragma once

#include "proxy/base/assert.h"

namespace proxy {

// The untyped half: knows only the other half, so that both can be cut from either side.
class LinkEndBase {
 public:
  LinkEndBase() = default;
  LinkEndBase(const LinkEndBase&) = delete;
  LinkEndBase& operator=(const LinkEndBase&) = delete;
  ~LinkEndBase() { cut(); }

  bool joined() const noexcept { return other_ != nullptr; }
  void cut() noexcept {
    if (other_ == nullptr) return;
    other_->other_ = nullptr;
    other_->there_ = nullptr;
    other_ = nullptr;
    there_ = nullptr;
  }

 protected:
  static void join_ends(LinkEndBase& a, void* there_a, LinkEndBase& b, void* there_b) noexcept {
    ASSERT(!a.joined() && !b.joined());
    a.other_ = &b;
    a.there_ = there_a;
    b.other_ = &a;
    b.there_ = there_b;
  }
  void* there_ = nullptr;

 private:
  LinkEndBase* other_ = nullptr;
};

// Held by one side, points at the other: `LinkEnd<There>` is a member of Here.
template <class There>
class LinkEnd : public LinkEndBase {
 public:
  There* get() const noexcept { return static_cast<There*>(there_); }
  There* operator->() const noexcept {
    ASSERT(joined());
    return get();
  }
  explicit operator bool() const noexcept { return joined(); }

 private:
  template <class A, class B>
  friend void join(A& a, LinkEnd<B>& end_in_a, B& b, LinkEnd<A>& end_in_b) noexcept;
};

template <class A, class B>
void join(A& a, LinkEnd<B>& end_in_a, B& b, LinkEnd<A>& end_in_b) noexcept {
  LinkEnd<B>::join_ends(end_in_a, &b, end_in_b, &a);
}

}  // namespace proxy
