// FileWatch: every way files change, Kubernetes' symlink swap among them.
// Not what is done about it.
#include "proxy/net/file_watch.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/certs.h"
#include "tests/support/loop_fixture.h"

namespace proxy::net {
namespace {
namespace fs = std::filesystem;
using namespace std::chrono_literals;

struct Watched {
  explicit Watched(std::vector<std::string> paths)
      : watch(fixture.loop, std::move(paths), [this] { ++calls; }) {}
  void pass(int intervals) {
    for (int i = 0; i < intervals; ++i) fixture.advance(FileWatch::kInterval + 2ms);
  }
  test::LoopFixture fixture;
  int calls = 0;
  FileWatch watch;
};

}  // namespace

TEST_CASE("a file that is written, replaced, removed or made is one change each", "[net]") {
  const ::test::Folder folder;
  const std::string path = folder.write("cert", "one");
  Watched watched({path, folder.path("absent")});
  watched.pass(5);
  CHECK(watched.calls == 0);

  folder.write("cert", "another");
  watched.pass(4);
  CHECK(watched.calls == 1);

  folder.write("new", "renamed");
  fs::rename(folder.path("new"), path);
  watched.pass(4);
  CHECK(watched.calls == 2);

  fs::remove(path);
  watched.pass(4);
  CHECK(watched.calls == 3);

  folder.write("absent", "x");
  watched.pass(4);
  CHECK(watched.calls == 4);
}

TEST_CASE("files still being written are waited for", "[net]") {
  const ::test::Folder folder;
  const std::string cert = folder.write("cert", "");
  const std::string key = folder.write("key", "");
  Watched watched({cert, key});
  std::string text;
  for (int i = 0; i < 5; ++i) {
    text += "more";
    folder.write(i % 2 == 0 ? "cert" : "key", text);
    watched.pass(1);
  }
  CHECK(watched.calls == 0);
  watched.pass(3);
  CHECK(watched.calls == 1);
}

TEST_CASE("a symlink swap as Kubernetes makes it is one change", "[net]") {
  const ::test::Folder folder;
  const fs::path root = fs::path(folder.path("x")).parent_path();
  fs::create_directory(root / "..2026_1");
  fs::create_directory(root / "..2026_2");
  std::ofstream(root / "..2026_1" / "tls.crt") << "same size 1";
  std::ofstream(root / "..2026_2" / "tls.crt") << "same size 2";
  fs::create_directory_symlink("..2026_1", root / "..data");
  fs::create_symlink("..data/tls.crt", root / "tls.crt");
  Watched watched({(root / "tls.crt").string()});
  watched.pass(3);
  CHECK(watched.calls == 0);
  fs::create_directory_symlink("..2026_2", root / "..data_tmp");
  fs::rename(root / "..data_tmp", root / "..data");
  fs::remove_all(root / "..2026_1");
  watched.pass(3);
  CHECK(watched.calls == 1);
}

TEST_CASE("other files can be watched instead", "[net]") {
  const ::test::Folder folder;
  const std::string one = folder.write("one", "1");
  const std::string two = folder.write("two", "2");
  Watched watched({one});
  watched.watch.watch({two});
  folder.write("one", "changed");
  watched.pass(3);
  CHECK(watched.calls == 0);
  folder.write("two", "changed");
  watched.pass(3);
  CHECK(watched.calls == 1);
}

}  // namespace proxy::net
