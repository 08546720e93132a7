// LinkEnd: whichever end goes first, the other knows at once.
// Not ownership: there is none.
#include "proxy/base/link.h"

#include <memory>

#include "tests/support/catch.h"

namespace proxy {
namespace {
struct Right;
struct Left {
  LinkEnd<Right> right;
};
struct Right {
  virtual ~Right() = default;
  LinkEnd<Left> left;
};
}  // namespace

TEST_CASE("joined ends point at each other until one is cut", "[base]") {
  Left left;
  Right right;
  CHECK_FALSE(left.right);
  join(left, left.right, right, right.left);
  CHECK(left.right.get() == &right);
  CHECK(right.left.get() == &left);
  right.left.cut();
  CHECK(left.right.get() == nullptr);
  CHECK(right.left.get() == nullptr);
  left.right.cut();  // again: harmless
  join(left, left.right, right, right.left);
  CHECK(left.right->left.get() == &left);
}

TEST_CASE("the destructor of either side cuts both ends", "[base]") {
  auto left = std::make_unique<Left>();
  auto right = std::make_unique<Right>();
  join(*left, left->right, *right, right->left);
  left.reset();
  CHECK_FALSE(right->left.joined());
  left = std::make_unique<Left>();
  join(*left, left->right, *right, right->left);
  right.reset();
  CHECK_FALSE(left->right.joined());
}

}  // namespace proxy
