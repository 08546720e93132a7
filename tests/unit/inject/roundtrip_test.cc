// Inject and uninject give the same bytes, whatever the layout; injecting twice changes nothing.
// Not what is injected (inject_test.cc).
#include <random>
#include <string>
#include <vector>

#include "proxy/inject/inject.h"
#include "tests/support/catch.h"
#include "tests/unit/inject/corpus.h"

namespace {

using proxy::inject::inject;
using proxy::inject::Settings;
using proxy::inject::uninject;

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += by.size()) {
    text.replace(at, what.size(), by);
  }
  return text;
}

std::string without_last_line_end(std::string text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.pop_back();
  return text;
}

std::vector<Settings> options() {
  Settings native;
  native.image = "hoplite:test";
  auto classic = native;
  classic.classic = true;
  auto plain = native;
  plain.mtls = "off";
  plain.mode = "TPROXY";
  return {native, classic, plain};
}

void check(const std::string& text, const Settings& settings) {
  INFO(text);
  const auto done = inject(text, settings);
  if (!done) FAIL(done.error().line << ':' << done.error().column << ' ' << done.error().message);
  REQUIRE(!done->done.empty());
  INFO(done->text);
  const auto again = inject(done->text, settings);
  REQUIRE(again);
  CHECK(again->text == done->text);
  CHECK(again->done.empty());
  const auto back = uninject(done->text);
  REQUIRE(back);
  CHECK(back->text == text);
  CHECK(back->done.size() == done->done.size());
}

// --- manifests by chance ------------------------------------------------------------------------

class Writer {
 public:
  explicit Writer(unsigned seed) : random_(seed) {}

  std::string pod() {
    std::string out = pick({"", "# before\n", "---\n", "--- # begins\n\n"});
    out += "apiVersion: apps/v1\nkind: Deployment\n";
    const auto indent = pick({"  ", "    ", " "});
    out += "metadata:\n" + indent + "name: x\nspec:\n" + indent + "template:\n";
    const auto inner = indent + indent;
    std::vector<std::string> parts{metadata(inner, indent), spec(inner, indent)};
    std::shuffle(parts.begin(), parts.end(), random_);
    for (const auto& part : parts) out += part;
    out += pick({"", "", "# after\n", "\n\n", "...\n"});
    if (chance()) out = without_last_line_end(out);
    if (chance()) out = replaced(out, "\n", "\r\n");
    return out;
  }

 private:
  bool chance() { return random_() % 3 == 0; }

  std::string pick(std::vector<std::string> choices) { return choices[random_() % choices.size()]; }

  std::string noise(const std::string& indent) {
    return pick({"", "", "", "", "\n", indent + "# why\n", "# far left\n", "   \n"});
  }

  std::string metadata(const std::string& at, const std::string& step) {
    const auto in = at + step;
    std::string out = noise(at);
    switch (random_() % 5) {
      case 0:
        return out;
      case 1:
        return out + at + pick({"metadata:\n", "metadata: {}\n", "metadata: null # n\n"});
      case 2:
        return out + at + "metadata: {labels: {app: x}" +
               pick({"", ", annotations: {}", ", annotations: {a: 'b', c: \"d\"}"}) + "}\n";
      default:
        break;
    }
    out += at + "metadata:\n" + noise(in) + in + "labels: {app: x}\n" + noise(in);
    if (chance()) return out;
    out += in + pick({"annotations: # a\n", "annotations: {}\n", "annotations: ~\n"});
    if (out.ends_with("# a\n") && !chance()) {
      out += noise(in + step) + in + step + "prometheus.io/scrape: \"true\"\n" + noise(in + step);
      out += in + step +
             pick({"prometheus.io/port: \"9797\" # p\n",
                   "text: |\n" + in + step + " # text\n\n" + in + step + " more\n", "k: '1.10'\n"});
    }
    return out;
  }

  std::string spec(const std::string& at, const std::string& step) {
    const auto in = at + step;
    std::vector<std::string> parts;
    const auto items = in + pick({"", step});
    parts.push_back(in + "containers:\n" + noise(items) + items + "- name: x\n" + probe(items) +
                    noise(items) + items + "-   image: y\n" + items + "    name: z\n");
    for (const std::string name : {"initContainers", "volumes"}) {
      switch (random_() % 5) {
        case 0:
          break;
        case 1:
          parts.push_back(in + name + pick({": []\n", ":\n", ": [ ] # none\n", ": null\n"}));
          break;
        case 2:
          parts.push_back(in + name + ": [{name: a}, {name: b}]\n");
          break;
        default:
          parts.push_back(in + name + ":\n" + noise(items) + items + "- name: a # a\n" +
                          noise(items) + items + "- name: b\n" + noise(items) +
                          pick({"", items + "  args:\n" + items + "  - |" + pick({"", "+", "-"}) +
                                        "\n" + items + "    # text\n\n"}));
      }
    }
    std::shuffle(parts.begin(), parts.end(), random_);
    std::string out = noise(at) + at + "spec:\n" + noise(in);
    for (const auto& part : parts) out += part + noise(in);
    return out;
  }

  std::string probe(const std::string& items) {
    const auto in = items + "  ";
    switch (random_() % 5) {
      case 0:
        return in + "livenessProbe: {httpGet: {port: 80, path: /x}} # l\n";
      case 1:
        return in + "readinessProbe:\n" + noise(in) + in + "  tcpSocket:\n" + in +
               "    port: 80 # p\n" + in + "  periodSeconds: 3\n";
      case 2:
        return in + "startupProbe:\n" + in + "    grpc: {port: 5,\n" + in + "      service: s}\n";
      case 3:
        return in + "livenessProbe:\n" + in + "  exec: {command: [a]}\n";
      default:
        return "";
    }
  }

  std::mt19937 random_;
};

}  // namespace

TEST_CASE("every layout of the corpus comes back byte for byte") {
  for (const auto& manifest : tests::inject::kManifests) {
    DYNAMIC_SECTION(manifest.name) {
      const std::string text(manifest.text);
      for (const auto& settings : options()) {
        check(text, settings);
        check(without_last_line_end(text), settings);
        check(replaced(text, "\n", "\r\n"), settings);
        check(without_last_line_end(replaced(text, "\n", "\r\n")), settings);
        check(text + "\n\n# a comment\n", settings);
      }
    }
  }
}

TEST_CASE("all of the corpus in one stream comes back byte for byte") {
  std::string text;
  for (const auto& manifest : tests::inject::kManifests) {
    text += std::string(manifest.text.starts_with("\xEF\xBB\xBF") ? manifest.text.substr(3)
                                                                  : manifest.text);
    text += "\n---\n";
  }
  for (const auto& settings : options()) check(text, settings);
}

TEST_CASE("manifests laid out by chance come back byte for byte") {
  const auto settings = options();
  for (unsigned seed = 0; seed < 600; ++seed) {
    INFO("seed " << seed);
    check(Writer(seed).pod(), settings[seed % settings.size()]);
  }
}
