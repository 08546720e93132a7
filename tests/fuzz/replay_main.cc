// Runs a fuzz target over files and folders of seeds: an ordinary test without a fuzzer. Each seed
// is also cut short and mutated a little, always in the same way.
// Not a fuzzer: it learns nothing.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace {

void run(const std::string& seed) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(seed.data()), seed.size());
}

void replay(const std::filesystem::path& path, std::size_t& count) {
  std::ifstream file(path, std::ios::binary);
  const std::string seed{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  run(seed);
  std::minstd_rand random(1);
  constexpr char kBytes[] = "\r\n\t :;,0159afX\x00\x7f\x80";
  for (int i = 0; i < 200 && !seed.empty(); ++i) {
    std::string other = seed;
    const std::size_t at = random() % other.size();
    switch (random() % 4) {
      case 0:
        other[at] = kBytes[random() % (sizeof kBytes - 1)];
        break;
      case 1:
        other.insert(at, 1, kBytes[random() % (sizeof kBytes - 1)]);
        break;
      case 2:
        other.erase(at, 1 + random() % 4);
        break;
      default:
        other.resize(at);
        break;
    }
    run(other);
  }
  ++count;
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::filesystem::is_directory(argv[i])) {
      for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
        replay(entry.path(), count);
      }
    } else {
      replay(argv[i], count);
    }
  }
  std::printf("%zu seeds\n", count);
  return count == 0 ? 1 : 0;
}
