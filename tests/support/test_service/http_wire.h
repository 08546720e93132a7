// HTTP/1 on the wire as the test service reads it: request heads and bodies, from complete bytes.
// Not the proxy's codec and sharing nothing with it, so that neither can hide the other's faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace test_service {

struct Header {
  std::string_view name;
  std::string_view value;
};

enum class Framing : std::uint8_t { none, length, chunked };

// One request head. The views point into `text`, so a Request is not copied.
struct Request {
  Request() = default;
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;

  std::string text;
  std::string_view method;
  std::string_view target;
  std::string_view version;
  std::vector<Header> headers;
  Framing framing = Framing::none;
  std::uint64_t length = 0;
  bool keep_alive = true;
  bool expects_continue = false;
  bool wants_websocket = false;
  std::string_view content_type;
  std::string_view trailer;
  std::string_view websocket_key;
};

inline constexpr std::size_t kMaxHead = 256 * 1024;

bool equals_ignoring_case(std::string_view a, std::string_view b);

// Parses a whole head, its last empty line included. 0, or the status to refuse it with.
int parse_head(std::string_view head, Request& request);

// Takes a request's body out of its framing, piece by piece.
class BodyReader {
 public:
  enum class Step : std::uint8_t { more, piece, end, malformed };

  void start(const Request& request);
  // Consumes from the front of `in`. `piece` views the bytes that `in` viewed.
  Step next(std::string_view& in, std::string_view& piece);
  // The trailer lines as received, each with its CRLF. Whole after Step::end.
  const std::string& trailers() const { return trailers_; }

 private:
  enum class State : std::uint8_t { data, size_line, data_end, trailer_lines, end };

  Step size_line(std::string_view& in);
  Step trailer_line(std::string_view& in);

  State state_ = State::end;
  bool chunked_ = false;
  std::uint64_t left_ = 0;
  std::string trailers_;
};

}  // namespace test_service
