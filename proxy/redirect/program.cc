// posix_spawn with three pipes, served by one poll loop so that neither side can block the other.
#include "proxy/redirect/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <fmt/format.h>

namespace proxy::redirect {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxOutput = 16U << 20;  // a node with 100,000 rules prints this much

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { reset(); }
  void reset() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct Pipe {
  Descriptor read, write;

  bool open() {
    std::array<int, 2> fds{};
    if (::pipe2(fds.data(), O_CLOEXEC) != 0) return false;
    read = Descriptor(fds[0]);
    write = Descriptor(fds[1]);
    return true;
  }
};

std::vector<char*> pointers(const std::vector<std::string>& words) {
  std::vector<char*> out;
  out.reserve(words.size() + 1);
  for (const auto& word : words) out.push_back(const_cast<char*>(word.c_str()));
  out.push_back(nullptr);
  return out;
}

// The child must not inherit that we ignore SIGPIPE.
int spawn(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
          const Pipe& in, const Pipe& out, const Pipe& err, pid_t& pid) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_adddup2(&actions, in.read.get(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);
  sigset_t defaults;
  ::sigemptyset(&defaults);
  ::sigaddset(&defaults, SIGPIPE);
  ::posix_spawnattr_setsigdefault(&attributes, &defaults);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
  const int error = ::posix_spawn(&pid, argv[0].c_str(), &actions, &attributes,
                                  pointers(argv).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  return error;
}

void feed(Descriptor& fd, std::string_view& input) {
  const auto written = ::write(fd.get(), input.data(), input.size());
  if (written > 0) input.remove_prefix(static_cast<std::size_t>(written));
  if (written < 0 && errno != EAGAIN && errno != EINTR) input = {};  // it does not want the rest
  if (input.empty()) fd.reset();
}

void drain(Descriptor& fd, std::string& output) {
  std::array<char, 65536> buffer;
  const auto got = ::read(fd.get(), buffer.data(), buffer.size());
  if (got > 0 && output.size() < kMaxOutput) {
    output.append(buffer.data(), static_cast<std::size_t>(got));
  } else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
    fd.reset();
  }
}

// Until all pipes are closed; false when the time is up first.
bool converse(Pipe& in, Pipe& out, Pipe& err, std::string_view input, Finished& finished,
              Clock::time_point end) {
  ::fcntl(in.write.get(), F_SETFL, O_NONBLOCK);
  if (input.empty()) in.write.reset();
  while (out.read.get() >= 0 || err.read.get() >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
    if (left.count() <= 0) return false;
    // poll() passes over descriptors of -1.
    std::array<pollfd, 3> polled = {pollfd{in.write.get(), POLLOUT, 0},
                                    pollfd{out.read.get(), POLLIN, 0},
                                    pollfd{err.read.get(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), static_cast<int>(left.count())) < 0) continue;
    if (polled[0].revents != 0) feed(in.write, input);
    if (polled[1].revents != 0) drain(out.read, finished.out);
    if (polled[2].revents != 0) drain(err.read, finished.err);
  }
  return true;
}

int wait_for(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

std::string find_program(std::string_view name) {
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "";
  folders += ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin";
  std::string_view rest = folders;
  while (!rest.empty()) {
    const auto folder = rest.substr(0, rest.find(':'));
    rest.remove_prefix(std::min(folder.size() + 1, rest.size()));
    if (!folder.starts_with('/')) continue;  // never from where we happen to stand
    auto candidate = fmt::format("{}/{}", folder, name);
    if (::access(candidate.c_str(), X_OK) == 0) return candidate;
  }
  return {};
}

std::expected<Finished, std::string> run_program(const std::vector<std::string>& argv,
                                                 const std::vector<std::string>& environment,
                                                 std::string_view input, int seconds) {
  Pipe in, out, err;
  if (!in.open() || !out.open() || !err.open()) {
    return std::unexpected(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  pid_t pid = 0;
  if (const int error = spawn(argv, environment, in, out, err, pid); error != 0) {
    return std::unexpected(fmt::format("cannot start {}: {}", argv[0], std::strerror(error)));
  }
  in.read.reset();
  out.write.reset();
  err.write.reset();
  Finished finished;
  const auto end = Clock::now() + std::chrono::seconds(seconds);
  if (!converse(in, out, err, input, finished, end)) {
    ::kill(pid, SIGKILL);
    wait_for(pid);
    return std::unexpected(
        fmt::format("{} did not end within {} s and was stopped", argv[0], seconds));
  }
  finished.code = wait_for(pid);
  return finished;
}

}  // namespace proxy::redirect
