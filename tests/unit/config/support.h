// What the configuration tests share: a file in a directory of its own, and loading from text.
// Not a test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "proxy/config/sources.h"

namespace proxy::config {

/// A directory that goes with this object.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string form = (std::filesystem::temp_directory_path() / "hoplite-config-XXXXXX").string();
    if (::mkdtemp(form.data()) == nullptr) std::abort();
    path_ = form;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }
  std::string write(const std::string& name, const std::string& text) const {
    std::ofstream(file(name), std::ios::binary) << text;
    return file(name);
  }
  /// `text` without this directory's name, so that "hoplite.yaml:1:1" can be expected.
  [[nodiscard]] std::string without(std::string text) const {
    const auto prefix = path_.string() + "/";
    for (auto at = text.find(prefix); at != std::string::npos; at = text.find(prefix)) {
      text.erase(at, prefix.size());
    }
    return text;
  }

 private:
  std::filesystem::path path_;
};

/// Loads `yaml` as hoplite.yaml, without looking up names or reading credentials.
inline Loaded load_text(const std::string& yaml, FlagValues flags = {},
                        Environment environment = {}) {
  const TemporaryDirectory directory;
  return load(
      {directory.write("hoplite.yaml", yaml), std::move(flags), std::move(environment), false});
}

/// The rendered diagnostics of `yaml`.
inline std::string problems(const std::string& yaml) {
  const TemporaryDirectory directory;
  return directory.without(
      render(load({directory.write("hoplite.yaml", yaml), {}, {}, false}).diagnostics));
}

}  // namespace proxy::config
