// Writes what each connection received, byte for byte, to a file that tests read.
// Not a log: bytes are on file before they are parsed, so before anything is answered.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace test_service {

// The file is a sequence of records, each a line and, for `read`, that many raw bytes and a
// newline:
//   open ID\n    read ID SIZE\n<SIZE bytes>\n    eof ID\n    close ID\n
// IDs count connections from 1. Any thread may call; a record is one write().
class Recorder {
 public:
  Recorder() = default;
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  bool open(const std::string& path);
  void note(std::string_view what, std::uint64_t id);
  void read(std::uint64_t id, std::string_view bytes);

 private:
  void write_record(const std::string& record);

  int fd_ = -1;
};

}  // namespace test_service
