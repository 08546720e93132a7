// The program's log and its rate limit.
#include "telemetry/log.h"

#include "telemetry/protobuf_struct.h"  // before other protobuf headers

#include <google/protobuf/util/json_util.h>
#include <unistd.h>

#include "tests/support/catch.h"

using namespace telemetry;

namespace {

class Pipe {
 public:
  Pipe() { REQUIRE(pipe(ends_) == 0); }
  ~Pipe() {
    close(ends_[0]);
    close(ends_[1]);
  }
  int in() const { return ends_[1]; }
  // What was written until now; something must have been.
  std::string read_all() const {
    char buffer[65536];
    const ssize_t n = read(ends_[0], buffer, sizeof buffer);
    return {buffer, static_cast<std::size_t>(n)};
  }

 private:
  int ends_[2];
};

}  // namespace

TEST_CASE("text lines have time, level and an escaped message", "[unit]") {
  Pipe pipe;
  Log log({.level = LogLevel::info, .format = LogFormat::text, .fd = pipe.in()});
  log.debug("not {}", "shown");
  log.info("listening on {}", "127.0.0.1:8000");
  log.warning("from outside: {}", "a\nb\x1B[31m\xFF");
  const std::string text = pipe.read_all();
  CAPTURE(text);
  CHECK(text.find("shown") == std::string::npos);
  CHECK(text.size() > 24);
  CHECK(text[10] == 'T');
  CHECK(text[23] == 'Z');
  CHECK(text.substr(24, 40).starts_with(" info    listening on 127.0.0.1:8000\n"));
  CHECK(text.ends_with(" warning from outside: a\\x0ab\\x1b[31m\\xff\n"));
}

TEST_CASE("json lines parse, and the level can change", "[unit]") {
  Pipe pipe;
  Log log({.level = LogLevel::error, .format = LogFormat::json, .fd = pipe.in()});
  log.info("hidden");
  log.set_level(LogLevel::debug);
  CHECK(log.wants(LogLevel::debug));
  log.debug("say \"{}\"\n", "\xFFx");
  const std::string text = pipe.read_all();
  google::protobuf::Struct object;
  REQUIRE(google::protobuf::util::JsonStringToMessage(text, &object).ok());
  CHECK(object.fields().at("message").string_value() == "say \"\xEF\xBF\xBDx\"\n");
  CHECK(object.fields().at("level").string_value() == "debug");
  CHECK(object.fields().count("time") == 1);
}

TEST_CASE("rate-limited lines say how many were left out", "[unit]") {
  Pipe pipe;
  Log log({.level = LogLevel::info, .format = LogFormat::text, .fd = pipe.in()});
  RateLimitedLog limited(log, 2, 1'000'000);
  for (std::uint64_t now = 0; now < 10; ++now) limited.warning(1, now, "handshake {}", now);
  limited.warning(2, 5, "another kind");
  std::string text = pipe.read_all();
  CHECK(std::count(text.begin(), text.end(), '\n') == 3);
  CHECK(text.find("handshake 1\n") != std::string::npos);
  CHECK(text.find("handshake 2") == std::string::npos);
  CHECK(text.find("another kind") != std::string::npos);
  limited.warning(1, 999'999, "too early");
  limited.warning(1, 1'000'000, "again");
  limited.warning(1, 1'000'001, "and again");
  text = pipe.read_all();
  CHECK(text.find("too early") == std::string::npos);
  CHECK(text.find("again (9 like this not shown)\n") != std::string::npos);
  CHECK(text.ends_with("and again\n"));
}
