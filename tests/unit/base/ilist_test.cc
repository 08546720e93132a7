// IntrusiveList: order, leaving, taking over, life ends.
// Not thread-safe and not tested so.
#include "proxy/base/ilist.h"

#include <memory>
#include <vector>

#include "tests/support/catch.h"

namespace proxy {
namespace {

struct Tagged;
struct Item : ListHook<Item>, ListHook<Item, Tagged> {
  explicit Item(int n) : number(n) {}
  int number;
};
using List = IntrusiveList<Item>;

std::vector<int> numbers(List& list) {
  std::vector<int> all;
  list.for_each([&](Item& item) { all.push_back(item.number); });
  return all;
}

}  // namespace

TEST_CASE("a list keeps order and its size is the truth", "[base]") {
  List list;
  Item one(1), two(2), three(3);
  list.push_back(two);
  list.push_back(three);
  list.push_front(one);
  CHECK(numbers(list) == std::vector{1, 2, 3});
  CHECK(list.front().number == 1);
  CHECK(list.back().number == 3);
  list.push_back(one);  // moves
  CHECK(numbers(list) == std::vector{2, 3, 1});
  CHECK(list.size() == 3);
  list.push_front(two);  // where it is
  list.push_back(one);
  CHECK(numbers(list) == std::vector{2, 3, 1});
  CHECK(list.pop_front() == &two);
  CHECK(list.size() == 2);
}

TEST_CASE("an element leaves in its destructor, and a list lets all go in its own", "[base]") {
  Item stays(1);
  {
    List list;
    list.push_back(stays);
    {
      const std::unique_ptr<Item> goes = std::make_unique<Item>(2);
      list.push_back(*goes);
      CHECK(list.size() == 2);
    }
    CHECK(numbers(list) == std::vector{1});
  }
  CHECK_FALSE(stays.ListHook<Item>::linked());
}

TEST_CASE("an element can be in one list for each tag", "[base]") {
  List list;
  IntrusiveList<Item, Tagged> other;
  Item item(1);
  list.push_back(item);
  other.push_back(item);
  item.ListHook<Item>::unlink();
  CHECK(list.empty());
  CHECK(other.size() == 1);
}

TEST_CASE("a visitor may unlink what it is given", "[base]") {
  List list;
  Item one(1), two(2), three(3);
  for (Item* item : {&one, &two, &three}) list.push_back(*item);
  list.for_each([](Item& item) {
    if (item.number == 2) item.ListHook<Item>::unlink();
  });
  CHECK(numbers(list) == std::vector{1, 3});
}

TEST_CASE("all elements move to another list", "[base]") {
  List from, to;
  Item one(1), two(2), three(3);
  to.push_back(one);
  from.push_back(two);
  from.push_back(three);
  to.take_all(from);
  CHECK(from.empty());
  CHECK(from.size() == 0);
  CHECK(numbers(to) == std::vector{1, 2, 3});
  two.ListHook<Item>::unlink();
  CHECK(to.size() == 2);
}

}  // namespace proxy
