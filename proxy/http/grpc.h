// gRPC on an HTTP message: what makes a request one, its status, its deadline, its messages'
// bounds. Not a codec: messages are counted as they pass and never looked into.
// (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md)
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/chain.h"
#include "proxy/http/header_map.h"

namespace proxy::http {

// content-type is exactly application/grpc or begins with application/grpc+, as Istio decides it:
// grpc-web is none. In any version of HTTP.
bool is_grpc(const HeaderMap& headers) noexcept;

// A grpc-status that is there but is none of 0 to 16: what Envoy says of it.
inline constexpr int kInvalidGrpcStatus = -1;

// What grpc-status says; nothing when it is absent or empty.
std::optional<int> grpc_status_in(const HeaderMap& headers) noexcept;
// The status of an answer that says none, from its HTTP status, by Envoy's map.
int grpc_status_from_http(unsigned status) noexcept;

// The time that grpc-timeout gives: one to eight digits and a unit of H, M, S, m, u, n, rounded up
// to microseconds. Nothing for anything else, and for 0, which is no positive number: like Envoy,
// we let such a request go without a deadline, because the server has its own opinion of it and a
// proxy that guessed would break calls that work without it.
std::optional<std::chrono::microseconds> grpc_timeout_in(const HeaderMap& headers) noexcept;

// `text` as a value of grpc-message: what is not visible ASCII or a space, and %, is %XX.
std::string grpc_message(std::string_view text);

// Counts the messages of one direction by their 5-byte prefixes, however DATA cuts them. A message
// counts with its prefix's first byte, as in Envoy. The length in a prefix is only skipped by, so a
// false one can spoil the count and nothing else.
class GrpcMessageCounter {
 public:
  void add(const Chain& body) noexcept;
  std::uint64_t messages() const noexcept { return messages_; }

 private:
  static constexpr std::uint8_t kPrefix = 5;

  std::uint64_t messages_ = 0;
  std::uint32_t left_ = 0;   // of the present message's payload; its length while in the prefix
  std::uint8_t prefix_ = 0;  // bytes of the present prefix that have come, 0 to 4
};

}  // namespace proxy::http
