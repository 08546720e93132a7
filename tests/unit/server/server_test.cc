// Whole servers in this process: two workers, load from test threads, scrapes, reloads, drains.
// Not the binary (e2e): no command line, and the signals come from this process.
#include "proxy/server/server.h"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/support/catch.h"
#include "tests/unit/server/support.h"
#include "tests/unit/telemetry/scrape_reader.h"

using namespace proxy;
using namespace proxy::test;

namespace {

// A configuration file that a test rewrites.
class ConfigFile {
 public:
  ConfigFile() {
    std::string form = (std::filesystem::temp_directory_path() / "server-test-XXXXXX").string();
    if (::mkdtemp(form.data()) == nullptr) std::abort();
    folder_ = form;
  }
  ~ConfigFile() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  void write(const std::string& text) const { std::ofstream(path(), std::ios::binary) << text; }
  std::string path() const { return folder_ / "hoplite.yaml"; }

 private:
  std::filesystem::path folder_;
};

// A server whose main loop runs on a thread of its own until it is told to leave.
class Running {
 public:
  explicit Running(const std::string& yaml) {
    std::signal(SIGPIPE, SIG_IGN);
    file.write(yaml);
    config::LoadRequest load;
    load.file = file.path();
    config::Loaded loaded = config::load(load);
    INFO(config::render(loaded.diagnostics));
    REQUIRE(loaded.ok());
    auto started = server::Server::start(load, std::move(loaded), log);
    if (!started) FAIL(started.error().text);
    server_ = std::move(*started);
    for (const server::Listening& listening : server_->listening()) {
      const std::string& address = listening.address;
      const auto port =
          static_cast<std::uint16_t>(std::stoul(address.substr(address.rfind(':') + 1)));
      if (listening.what == "inbound") inbound = port;
      if (listening.what == "outbound") outbound = port;
      if (listening.what == "stats") stats = port;
    }
    thread_ = std::thread([this] {
      exit_code = server_->run();
      ended_ = true;
    });
  }
  ~Running() { leave(); }
  void leave() {
    if (!thread_.joinable()) return;
    ::kill(::getpid(), SIGTERM);
    join();
  }
  // Signals until that is obeyed: what comes within 100 ms of the first one is one with it.
  void insist() {
    while (!ended_) {
      ::kill(::getpid(), SIGTERM);
      std::this_thread::yield();
    }
    join();
  }
  void join() {
    thread_.join();
    server_.reset();
  }
  std::string scrape() const { return body_of(fetch(stats, "/stats/prometheus")); }
  bool ready() const { return fetch(stats, "/healthz/ready").starts_with("HTTP/1.1 200 "); }

  ConfigFile file;
  telemetry::Log log{{.level = telemetry::LogLevel::off}};
  std::uint16_t inbound = 0;
  std::uint16_t outbound = 0;
  std::uint16_t stats = 0;
  int exit_code = -1;

 private:
  std::unique_ptr<server::Server> server_;
  std::atomic<bool> ended_ = false;
  std::thread thread_;
};

std::string yaml(std::uint16_t app, const std::string& more = "") {
  const std::string port = std::to_string(app);
  return "workload: {name: web, app: web}\n"
         "workers: 2\n"
         "inbound: {listen: '127.0.0.1:0', app: '127.0.0.1:" +
         port +
         "'}\n"
         "outbound:\n"
         "  listen: '127.0.0.1:0'\n"
         "  services:\n"
         "    - {hosts: [app], endpoints: ['127.0.0.1:" +
         port +
         "']}\n"
         "stats: {listen: '127.0.0.1:0'}\n"
         "log: {access: 'off'}\n" +
         more;
}

// The sum over all samples of a name, or of those with a label's value.
double sum(const std::vector<telemetry::testing::Sample>& samples, std::string_view name,
           std::string_view label = "", std::string_view value = "") {
  double total = 0;
  for (const auto& sample : samples) {
    if (sample.name != name) continue;
    if (label.empty() || sample.label(label) == value) total += sample.value;
  }
  return total;
}

std::vector<telemetry::testing::Sample> samples_of(const std::string& text) {
  std::vector<telemetry::testing::Sample> samples;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string_view line = std::string_view(text).substr(at, end - at);
    if (!line.empty() && line.front() != '#') {
      samples.push_back(telemetry::testing::read_sample(line));
    }
    at = end + 1;
  }
  return samples;
}

// When nothing is in flight any more: a client has its answer before the worker has counted it.
std::vector<telemetry::testing::Sample> settled(Running& server) {
  auto samples = samples_of(server.scrape());
  while (sum(samples, "hoplite_requests_in_flight") != 0) samples = samples_of(server.scrape());
  return samples;
}

bool balanced(const std::vector<telemetry::testing::Sample>& samples) {
  const double started = sum(samples, "hoplite_requests_started_total");
  const double completed = sum(samples, "hoplite_requests_completed_total");
  return started == completed + sum(samples, "hoplite_requests_in_flight") &&
         completed == sum(samples, "istio_requests_total");
}

}  // namespace

TEST_CASE("a request through each listener is in its own metrics", "[unit]") {
  OkService service;
  Running server(yaml(service.port()));
  CHECK(server.ready());
  {
    Blocking in(server.inbound);
    Blocking out(server.outbound);
    for (int i = 0; i < 10; ++i) {
      CHECK(in.get("/") == 200);
      CHECK(out.get("/") == 200);
    }
  }
  const auto samples = settled(server);
  CHECK(sum(samples, "istio_requests_total", "reporter", "destination") == 10);
  CHECK(sum(samples, "istio_requests_total", "reporter", "source") == 10);
  CHECK(balanced(samples));
  server.leave();
  CHECK(server.exit_code == 0);
}

TEST_CASE("servers start and drain again and again", "[unit]") {
  OkService service;
  for (int round = 0; round < 9; ++round) {
    INFO(round);
    Running server(yaml(service.port()));
    // Some leave idle, some with connections kept alive, some in the middle of a head.
    Blocking used(server.inbound);
    Blocking half(server.outbound);
    if (round % 3 > 0) CHECK(used.get("/") == 200);
    if (round % 3 == 2) {
      CHECK(half.send("GET / HTTP/1.1\r\nHo"));
      half.close();
    }
    server.leave();
    CHECK(server.exit_code == 0);
    CHECK_FALSE(Blocking(server.stats).connected());
  }
}

TEST_CASE("a second SIGTERM ends what a drain would wait for", "[unit]") {
  OkService service;
  Running server(yaml(service.port(), "timeouts: {drain: 60s, header: 60s}\n"));
  Blocking stuck(server.inbound);
  CHECK(stuck.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nab"));
  Blocking(server.inbound).get("/");  // it has surely been read by then
  ::kill(::getpid(), SIGTERM);
  while (server.ready()) std::this_thread::yield();
  CHECK(fetch(server.stats, "/healthz/live").starts_with("HTTP/1.1 200 "));
  server.insist();
  CHECK(server.exit_code == 0);
}

TEST_CASE("SIGTERM to a process and to its group is one word", "[unit]") {
  // A machine that puts more than 100 ms between the two has said two words: it tries again.
  bool served = false;
  for (int tries = 0; tries < 20 && !served; ++tries) {
    OkService service;
    Running server(yaml(service.port(), "timeouts: {drain: 60s, header: 60s}\n"));
    Blocking slow(server.inbound);
    CHECK(slow.send("POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nab"));
    Blocking(server.inbound).get("/");  // it has surely been read by then
    ::kill(::getpid(), SIGTERM);
    ::kill(::getpid(), SIGTERM);
    while (server.ready()) std::this_thread::yield();
    served = slow.send("cde") && slow.until("HTTP/1.1 200 ");
    slow.close();
    server.join();
    CHECK(server.exit_code == 0);
  }
  CHECK(served);
}

TEST_CASE("load, scrapes and reloads at the same time", "[unit]") {
  OkService service;
  Running server(yaml(service.port()));
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> served = 0;
  std::atomic<std::uint64_t> failed = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&, i] {
      while (!stop) {
        Blocking connection(i % 2 == 0 ? server.inbound : server.outbound);
        for (int n = 0; n < 20 && !stop; ++n) ++(connection.get("/x") == 200 ? served : failed);
      }
    });
  }
  std::uint64_t scrapes = 0;
  for (int reload = 1; reload <= 10; ++reload) {
    // Every other reload changes what clusters are made of.
    server.file.write(yaml(service.port(), reload % 2 == 0
                                               ? "timeouts: {connect: 4s}\n"
                                               : "mtls: {trust_domain: other.local}\n"));
    ::kill(::getpid(), SIGHUP);
    const auto accepted = [&] {
      const auto samples = samples_of(server.scrape());
      ++scrapes;
      if (!balanced(samples)) ++failed;
      return sum(samples, "hoplite_reloads_total", "result", "accepted");
    };
    while (accepted() < reload) {
    }
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  CHECK(failed == 0);
  CHECK(served > 0);
  const auto samples = settled(server);
  CHECK(sum(samples, "istio_requests_total") == static_cast<double>(served));
  CHECK(sum(samples, "istio_requests_total", "response_code", "200") ==
        static_cast<double>(served));
  CHECK(service.requests() == served);
  WARN("requests " << served << ", scrapes " << scrapes);
}

TEST_CASE("a drain under load loses no request", "[unit]") {
  OkService service;
  Running server(yaml(service.port()));
  std::atomic<std::uint64_t> served = 0;
  std::atomic<std::uint64_t> lost = 0;
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&] {
      // Connection after connection, each for a few requests, until none is taken any more.
      while (true) {
        Blocking connection(server.inbound);
        if (!connection.connected()) return;
        for (int n = 0; n < 5; ++n) {
          const int status = connection.get("/");
          if (status != 200) ++lost;
          if (status != 200 || connection.received.find("onnection: close") != std::string::npos) {
            break;
          }
          ++served;
        }
      }
    });
  }
  while (served < 200) std::this_thread::yield();
  server.leave();
  for (std::thread& client : clients) client.join();
  CHECK(server.exit_code == 0);
  CHECK(lost == 0);
}

TEST_CASE("a broken configuration keeps the old one in force", "[unit]") {
  OkService service;
  Running server(yaml(service.port()));
  server.file.write("inbound: {listen: nonsense}\n");
  ::kill(::getpid(), SIGHUP);
  while (sum(samples_of(server.scrape()), "hoplite_reloads_total", "result", "rejected") < 1) {
  }
  CHECK(Blocking(server.inbound).get("/") == 200);
  // A worker count is for a start only.
  server.file.write("workers: 1\n" +
                    yaml(service.port()).substr(yaml(service.port()).find("inbound")));
  ::kill(::getpid(), SIGHUP);
  while (sum(samples_of(server.scrape()), "hoplite_reloads_total", "result", "rejected") < 2) {
  }
  CHECK(Blocking(server.inbound).get("/") == 200);
}

TEST_CASE("a port in use stops the start, and leaves nothing running", "[unit]") {
  OkService service;
  std::string text = yaml(service.port());
  text.replace(text.find("stats: {listen: '127.0.0.1:0'}"), 30,
               "stats: {listen: '127.0.0.1:" + std::to_string(service.port()) + "'}");
  ConfigFile file;
  file.write(text);
  config::LoadRequest load;
  load.file = file.path();
  config::Loaded loaded = config::load(load);
  REQUIRE(loaded.ok());
  telemetry::Log log{{.level = telemetry::LogLevel::off}};
  const auto started = server::Server::start(load, std::move(loaded), log);
  REQUIRE_FALSE(started.has_value());
  CHECK(started.error().address_in_use == "127.0.0.1:" + std::to_string(service.port()));
}
