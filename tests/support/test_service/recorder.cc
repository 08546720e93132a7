// The record file of the test service.
// Not buffered, for a reader in another process waits for it.
#include "tests/support/test_service/recorder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace test_service {

Recorder::~Recorder() {
  if (fd_ >= 0) ::close(fd_);
}

bool Recorder::open(const std::string& path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC, 0600);
  return fd_ >= 0;
}

void Recorder::note(std::string_view what, std::uint64_t id) {
  write_record(std::string(what) + ' ' + std::to_string(id) + '\n');
}

void Recorder::read(std::uint64_t id, std::string_view bytes) {
  std::string record = "read " + std::to_string(id) + ' ' + std::to_string(bytes.size()) + '\n';
  record.append(bytes).push_back('\n');
  write_record(record);
}

void Recorder::write_record(const std::string& record) {
  if (::write(fd_, record.data(), record.size()) != static_cast<ssize_t>(record.size())) {
    std::perror("test_service: cannot write the record");  // a short record would mislead a test
    std::_Exit(1);
  }
}

}  // namespace test_service
