// Walks the YAML nodes along the table of keys. yaml-cpp and its exceptions stay in this file.
// Not the conversion of values (assign.cc).
#include "proxy/config/parse.h"

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/depthguard.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "proxy/config/keys.h"
#include "proxy/config/values.h"

namespace proxy::config {
namespace {

std::string found(const YAML::Node& node) {
  if (node.IsScalar()) return fmt::format("found {}", quoted(node.Scalar()));
  if (node.IsSequence()) return "found a list";
  if (node.IsMap()) return "found a map";
  return "found nothing";
}

bool is_quoted(const YAML::Node& node) {
  return node.Tag() == "!";
}

std::string joined(std::string_view section, std::string_view name) {
  return section.empty() ? std::string(name) : fmt::format("{}.{}", section, name);
}

std::string item_path(std::string_view list, std::size_t index) {
  return fmt::format("{}[{}]", list, index);
}

// A key of this name in another section: "listen" at the top is likely to mean "inbound.listen".
std::string_view elsewhere(std::string_view name) {
  if (name.find_first_of(".[") != std::string_view::npos) return {};
  for (const auto& key : keys()) {
    if (key.path.ends_with(name) && key.path.size() > name.size() &&
        key.path[key.path.size() - name.size() - 1] == '.') {
      return key.path;
    }
  }
  return {};
}

std::string unknown_key(std::string_view section, std::string_view name) {
  const auto names = names_in(section);
  std::string message = "unknown key";
  if (const auto near = nearest_word(name, names); !near.empty()) {
    message += fmt::format("; did you mean \"{}\"?", near);
  } else if (const auto other = elsewhere(name); !other.empty()) {
    message += fmt::format("; did you mean \"{}\"?", other);
  }
  return message +
         fmt::format("{} allowed: {}", message.ends_with('?') ? "" : ";", fmt::join(names, ", "));
}

class Reader {
 public:
  Reader(std::string file, Origins& origins, Diagnostics& diagnostics)
      : file_(std::move(file)), origins_(origins), diagnostics_(diagnostics) {}

  // `table` is the section's path in the table, `shown` the same with item numbers.
  void section(const YAML::Node& node, std::string_view table, const std::string& shown,
               Object object) {
    if (node.IsNull()) return;  // "inbound:" with all its keys commented out
    if (!node.IsMap()) {
      report(place(node), shown,
             fmt::format("{}; allowed: a map with the keys {}", found(node),
                         fmt::join(names_in(table), ", ")));
      return;
    }
    each_key(node, shown, [&](const std::string& name, const Origin& at, const YAML::Node& value) {
      const auto table_path = joined(table, name);
      const auto shown_path = joined(shown, name);
      // The table's own separators are no part of a name: "log.level" at the top is no key.
      const bool plain = name.find_first_of(".[") == std::string::npos;
      if (const auto* key = plain ? find_key(table_path) : nullptr) {
        this->value(*key, value, shown_path, at, object);
      } else if (plain && is_section(table_path)) {
        origins_.set(shown_path, at);
        section(value, table_path, shown_path, object);
      } else {
        // Suggestions cost time: none for what is not shown.
        report(at, shown_path, reported_ < kMaxProblems ? unknown_key(table, name) : "");
      }
    });
  }

  Origin place(const YAML::Node& node) const { return place(node.Mark()); }

  Origin place(const YAML::Mark& mark) const {
    if (mark.is_null()) return {Source::file, file_, 0, 0};
    return {Source::file, file_, mark.line + 1, mark.column + 1};
  }

  void report(Origin at, std::string key, std::string message) {
    if (++reported_ > kMaxProblems) return;
    diagnostics_.push_back({Severity::error, std::move(at), std::move(key), std::move(message)});
  }

  [[nodiscard]] std::size_t not_shown() const {
    return reported_ > kMaxProblems ? reported_ - kMaxProblems : 0;
  }

 private:
  // Calls `each(name, place, value)` for every pair; repeated and strange keys are reported.
  template <class Each>
  void each_key(const YAML::Node& node, const std::string& shown, Each each) {
    std::map<std::string, Origin> seen;
    for (const auto& pair : node) {
      if (!within_budget(pair.first)) return;
      const auto at = place(pair.first);
      if (!pair.first.IsScalar()) {
        report(at, shown, fmt::format("{} as a key; allowed: a name", found(pair.first)));
        continue;
      }
      const auto& name = pair.first.Scalar();
      const auto [first, fresh] = seen.emplace(name, at);
      if (fresh) {
        each(name, at, pair.second);
      } else {
        report(at, joined(shown, name),
               fmt::format("repeated; it stands at line {} already", first->second.line));
      }
    }
  }

  void value(const Key& key, const YAML::Node& node, const std::string& shown, const Origin& at,
             Object object) {
    if (!within_budget(node)) return;
    origins_.set(shown, node.IsNull() || node.Mark().is_null() ? at : place(node));
    const auto slot = slot_of(key, object);
    if (is_scalar(key.kind)) {
      scalar(key, node, shown, slot);
    } else if (key.kind == Kind::text_map) {
      text_map(key, node, shown, *std::get<std::map<std::string, std::string>*>(slot));
    } else if (key.kind == Kind::services) {
      list(key, node, shown, [&](const YAML::Node& item, const std::string& path) {
        Service service;
        section(item, "outbound.services[]", path, &service);
        if (item.IsNull()) report(place(item), path, "found nothing; allowed: a map");
        std::get<std::vector<Service>*>(slot)->push_back(std::move(service));
      });
    } else if (key.kind == Kind::ports) {
      list(key, node, shown, [&](const YAML::Node& item, const std::string& path) {
        InboundPort port;
        section(item, "inbound.ports[]", path, &port);
        if (item.IsNull()) report(place(item), path, "found nothing; allowed: a map");
        std::get<std::vector<InboundPort>*>(slot)->push_back(std::move(port));
      });
    } else if (key.kind == Kind::rules) {
      list(key, node, shown, [&](const YAML::Node& item, const std::string& path) {
        std::get<std::vector<AllowRule>*>(slot)->push_back(rule(item, path));
      });
    } else {
      list(key, node, shown, [&](const YAML::Node& item, const std::string& path) {
        if (!item.IsScalar()) {
          report(place(item), path, fmt::format("{}; allowed: a text", found(item)));
        } else if (auto problem = append(key, slot, item.Scalar())) {
          report(place(item), path, std::move(*problem));
        }
      });
    }
  }

  void scalar(const Key& key, const YAML::Node& node, const std::string& shown, Slot slot) {
    const bool text_only = key.kind == Kind::boolean || key.kind == Kind::count;
    if (!node.IsScalar() || (text_only && is_quoted(node))) {
      const auto* as = node.IsScalar() ? " in quotes" : "";
      report(origins_.of(shown), shown,
             fmt::format("{}{}; allowed: {}", found(node), as, allowed(key)));
    } else if (auto problem = assign(key, slot, node.Scalar())) {
      report(origins_.of(shown), shown, std::move(*problem));
    }
  }

  template <class Each>
  void list(const Key& key, const YAML::Node& node, const std::string& shown, Each each) {
    if (!node.IsSequence() || node.size() < key.traits.min || node.size() > key.traits.max) {
      const auto what =
          node.IsSequence() ? fmt::format("found {} items", node.size()) : found(node);
      report(origins_.of(shown), shown, fmt::format("{}; allowed: {}", what, allowed(key)));
      return;
    }
    std::size_t index = 0;
    for (const auto& item : node) {
      if (!within_budget(item)) return;
      const auto path = item_path(shown, index++);
      origins_.set(path, place(item));
      each(item, path);
    }
  }

  AllowRule rule(const YAML::Node& item, const std::string& path) {
    AllowRule rule;
    if (item.IsScalar()) {
      const auto& key = *find_key("mtls.allow[].principal");
      if (auto problem = assign(key, slot_of(key, &rule), item.Scalar())) {
        report(place(item), path, std::move(*problem));
      }
    } else if (item.IsNull()) {
      report(place(item), path, "found nothing; allowed: a principal, or a map");
    } else {
      section(item, "mtls.allow[]", path, &rule);
    }
    return rule;
  }

  void text_map(const Key& key, const YAML::Node& node, const std::string& shown,
                std::map<std::string, std::string>& into) {
    if (!node.IsMap() || node.size() > key.traits.max) {
      const auto what = node.IsMap() ? fmt::format("found {} keys", node.size()) : found(node);
      report(origins_.of(shown), shown, fmt::format("{}; allowed: {}", what, allowed(key)));
      return;
    }
    each_key(node, shown, [&](const std::string& name, const Origin& at, const YAML::Node& text) {
      const auto path = joined(shown, name);
      origins_.set(path, at);
      if (!within_budget(text)) return;
      if (name.empty() || name.size() > 256 || !is_plain_text(name)) {
        report(at, shown,
               fmt::format("found {} as a name; allowed: text of 1 to 256 bytes", quoted(name)));
      } else if (!text.IsScalar() || text.Scalar().size() > 256 || !is_plain_text(text.Scalar())) {
        report(at, path, fmt::format("{}; allowed: text of 0 to 256 bytes", found(text)));
      } else {
        into[name] = text.Scalar();
      }
    });
  }

  bool within_budget(const YAML::Node& node) {
    if (++values_ == kMaxValues) {
      report(place(node), {}, fmt::format("more than {} values, aliases unfolded", kMaxValues));
    }
    return values_ < kMaxValues;
  }

  std::string file_;
  Origins& origins_;
  Diagnostics& diagnostics_;
  std::size_t values_ = 0;
  std::size_t reported_ = 0;
};

// yaml-cpp takes some of these for the end of the file, and reads past others.
std::optional<YAML::Mark> bad_byte(std::string_view text) {
  YAML::Mark mark;
  mark.line = 0;
  mark.column = 0;
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  while (!text.empty()) {
    const auto byte = static_cast<unsigned char>(text.front());
    const auto length = utf8_sequence(text);
    const bool control = (byte < 0x20 && byte != '\t' && byte != '\n' && byte != '\r');
    if (length == 0 || control || byte == 0x7f) return mark;
    ++mark.column;
    if (byte == '\n') {
      ++mark.line;
      mark.column = 0;
    }
    text.remove_prefix(length);
  }
  return std::nullopt;
}

// The usual slip: listen: *:8000, which YAML reads as an alias.
std::string hint(std::string_view text, int line) {
  for (int i = 0; i < line; ++i) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  text = text.substr(0, text.find('\n'));
  if (text.find('\t') != std::string_view::npos) return "; a tab stands where spaces are meant?";
  for (const std::string_view opening : {": *", "- *", ": [:", ": %", ": @", ": `"}) {
    if (text.find(opening) == std::string_view::npos) continue;
    return "; a value that begins with * [ % @ or ` stands in quotes, as in \"*:8000\"";
  }
  return {};
}

// Throws where yaml-cpp would find empty documents without end: at a token that begins no value, as
// in ", a".
class Documents final : public YAML::EventHandler {
 public:
  static void check(const std::string& text) {
    std::istringstream in(text);
    YAML::Parser parser(in);
    Documents documents;
    while (parser.HandleNextDocument(documents)) {
    }
  }

 private:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (mark.pos == begin_) throw YAML::ParserException(mark, "no value can begin here");
    begin_ = mark.pos;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

  int begin_ = -1;
};

void walk(std::string_view text, Reader& reader, Config& config) {
  try {
    const std::string yaml(text);
    Documents::check(yaml);
    const auto documents = YAML::LoadAll(yaml);
    if (documents.size() > 1) {
      reader.report(reader.place(documents[1]), {}, "a second document; allowed: one a file");
    }
    if (!documents.empty()) reader.section(documents[0], "", "", &config);
  } catch (const YAML::DeepRecursion& problem) {
    reader.report(reader.place(problem.mark), {}, "nested too deeply");
  } catch (const YAML::Exception& problem) {
    reader.report(reader.place(problem.mark), {},
                  fmt::format("not YAML: {}{}", problem.msg,
                              problem.mark.is_null() ? "" : hint(text, problem.mark.line)));
  } catch (const std::exception& problem) {
    reader.report(reader.place(YAML::Mark::null_mark()), {},
                  fmt::format("not YAML: {}", problem.what()));
  }
}

}  // namespace

void parse(std::string_view text, const std::string& file, Config& config, Origins& origins,
           Diagnostics& diagnostics) {
  Diagnostics own;
  Reader reader(file, origins, own);
  if (text.size() > kMaxFileBytes) {
    reader.report(
        {Source::file, file, 0, 0}, {},
        fmt::format("found {} bytes; allowed: at most {}", text.size(), size_text(kMaxFileBytes)));
  } else if (const auto mark = bad_byte(text)) {
    reader.report(reader.place(*mark), {}, "not text: a control character or invalid UTF-8");
  } else {
    walk(text, reader, config);
  }
  std::stable_sort(own.begin(), own.end(), [](const Diagnostic& a, const Diagnostic& b) {
    return std::pair(a.origin.line, a.origin.column) < std::pair(b.origin.line, b.origin.column);
  });
  if (reader.not_shown() > 0) {
    own.push_back({Severity::error,
                   {Source::file, file, 0, 0},
                   {},
                   fmt::format("and {} more problems", reader.not_shown())});
  }
  std::move(own.begin(), own.end(), std::back_inserter(diagnostics));
}

}  // namespace proxy::config
