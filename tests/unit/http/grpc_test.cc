// What makes a message gRPC, what its headers say, and the count of its messages, however cut.
#include "proxy/http/grpc.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "proxy/http/reply.h"
#include "tests/support/catch.h"

using namespace std::chrono_literals;

namespace proxy::http {
namespace {

HeaderMap with(NameId name, std::string_view value) {
  HeaderMap headers;
  headers.add(name, value);
  return headers;
}

// A message of `size` bytes with its prefix.
std::string message(std::size_t size, char flag = 0) {
  std::string text(1, flag);
  for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(size >> shift & 0xFF);
  return text + std::string(size, 'm');
}

}  // namespace

TEST_CASE("gRPC is what its content-type says, and grpc-web is not", "[unit]") {
  const auto is = [](std::string_view type) { return is_grpc(with(NameId::content_type, type)); };
  for (const auto* type : {"application/grpc", "application/grpc+proto", "application/grpc+"}) {
    CHECK(is(type));
  }
  for (const auto* type :
       {"application/grpc-web", "application/grpc-web+proto", "application/grpcx",
        "application/grpc;charset=utf-8", "Application/grpc", "application/json", "",
        " application/grpc", "application/grp"}) {
    INFO(type);
    CHECK_FALSE(is(type));
  }
  CHECK_FALSE(is_grpc(HeaderMap{}));
}

TEST_CASE("grpc-status is 0 to 16, or invalid, or absent", "[unit]") {
  const auto status = [](std::string_view text) {
    return grpc_status_in(with(NameId::grpc_status, text));
  };
  CHECK(status("0") == 0);
  CHECK(status("16") == 16);
  CHECK(status("007") == 7);
  CHECK_FALSE(status("").has_value());
  CHECK_FALSE(grpc_status_in(HeaderMap{}).has_value());
  for (const auto* text :
       {"17", "-1", "4294967296", "99999999999999999999", "x", "1x", "1 2", "+1"}) {
    INFO(text);
    CHECK(status(text) == kInvalidGrpcStatus);
  }
}

TEST_CASE("a status that nobody said follows from the HTTP status", "[unit]") {
  const std::vector<std::pair<unsigned, int>> map{{400, 13}, {401, 16}, {403, 7},  {404, 12},
                                                  {429, 14}, {502, 14}, {503, 14}, {504, 14},
                                                  {200, 2},  {500, 2},  {418, 2}};
  for (const auto& [http, grpc] : map) CHECK(grpc_status_from_http(http) == grpc);
}

TEST_CASE("grpc-timeout: digits and a unit, else no deadline at all", "[unit]") {
  const auto timeout = [](std::string_view text) {
    return grpc_timeout_in(with(NameId::grpc_timeout, text));
  };
  CHECK(timeout("1H") == 3600s);
  CHECK(timeout("2M") == 120s);
  CHECK(timeout("10S") == 10s);
  CHECK(timeout("00000250m") == 250ms);
  CHECK(timeout("99999999u") == 99'999'999us);
  CHECK(timeout("1n") == 1us);
  CHECK(timeout("2001n") == 3us);
  CHECK(timeout("99999999H") == std::chrono::microseconds(99'999'999 * 3'600'000'000));
  for (const auto* text : {"", "m", "1", "100", "0m", "00000000S", "123456789m", "-1m", "+1m",
                           " 1m", "1 m", "1m ", "1.5S", "1h", "1s", "0x1m", "1mm"}) {
    INFO(text);
    CHECK_FALSE(timeout(text).has_value());
  }
  CHECK_FALSE(grpc_timeout_in(HeaderMap{}).has_value());
}

TEST_CASE("grpc-message is visible ASCII", "[unit]") {
  CHECK(grpc_message("upstream connect error") == "upstream connect error");
  CHECK(grpc_message("100%\r\n\x7f\xc3\xa4~ ") == "100%25%0D%0A%7F%C3%A4~ ");
}

TEST_CASE("messages are counted across any cut", "[unit]") {
  ChunkPool pool;
  const std::vector<std::size_t> sizes{0, 1, 0, 0, 300, 5, 70'000, 4, 0};
  std::string stream;
  for (const std::size_t size : sizes) stream += message(size, size % 2 != 0 ? 1 : 0);
  std::minstd_rand random(7);
  for (int round = 0; round < 300; ++round) {
    GrpcMessageCounter counter;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t most = round % 3 == 0 ? 3 : round % 3 == 1 ? 17 : 40'000;
      const std::size_t size = std::min<std::size_t>(1 + random() % most, stream.size() - at);
      Chain piece;
      const std::size_t half = size / 2;
      piece.append_copy(pool, std::string_view(stream).substr(at, half));
      Chain rest;
      rest.append_copy(pool, std::string_view(stream).substr(at + half, size - half));
      piece.append(std::move(rest));
      counter.add(piece);
      at += size;
      if (at > 20 && most == 3 && round != 0) break;  // the rest is as in the first round
    }
    if (round % 3 != 0 || round == 0) CHECK(counter.messages() == sizes.size());
  }
}

TEST_CASE("a message counts with its first byte, and false lengths are only skipped by", "[unit]") {
  ChunkPool pool;
  GrpcMessageCounter counter;
  const auto add = [&](std::string_view text) {
    Chain body;
    body.append_copy(pool, text);
    counter.add(body);
  };
  add("");
  CHECK(counter.messages() == 0);
  add(std::string_view("\0", 1));
  CHECK(counter.messages() == 1);
  add("\xff\xff\xff");
  add("\xff");
  CHECK(counter.messages() == 1);
  add(std::string(100'000, '\0'));  // within the four gigabytes that were announced
  CHECK(counter.messages() == 1);
}

TEST_CASE("every error with a status has a gRPC reply: trailers only", "[unit]") {
  static constexpr Code kCodes[] = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) Code::code,
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
  };
  for (const Code code : kCodes) {
    if (reply_status(code) == 0) continue;
    const Reply reply = make_grpc_reply(make_error(code, Side::local));
    CHECK(reply.head.status == 200);
    CHECK(reply.head.body.kind == BodyLength::Kind::none);
    CHECK(reply.body.empty());
    CHECK(reply.head.headers.get(NameId::content_type) == "application/grpc");
    CHECK(grpc_status_in(reply.head.headers) == static_cast<int>(grpc_status(code)));
    CHECK(grpc_status(code) != 0);
    CHECK(reply.head.headers.get(NameId::grpc_message) == text(code));
  }
  CHECK(grpc_status_in(make_grpc_reply(make_error(Code::denied, Side::local)).head.headers) == 7);
  CHECK(grpc_status_in(
            make_grpc_reply(make_error(Code::grpc_deadline, Side::upstream)).head.headers) == 4);
}

}  // namespace proxy::http
