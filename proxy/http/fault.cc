// The tables behind Fault. The joined words are made by the compiler: nothing is put together when
// a message is refused.
// Not the place where faults are found: the parsers are.
#include "proxy/http/fault.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace proxy::http {
namespace {

struct Words {
  std::string_view details;
  std::string_view line;  // with its line end
};

constexpr std::string_view without_end(std::string_view line) {
  return line.substr(0, line.size() - 1);
}

constexpr std::array kCodes = {
#define HOPLITE_ERROR(code, status, grpc, flag, replay, details, text) Words{details, text "\n"},
#include "proxy/base/errors.def"
#undef HOPLITE_ERROR
};

struct Row {
  Code code;
  Part part;
  Words own;
};

constexpr std::array kRows = {
#define HOPLITE_FAULT(fault, code, part, word, text) Row{Code::code, Part::part, {word, text "\n"}},
#include "proxy/http/faults.def"
#undef HOPLITE_FAULT
};

template <std::size_t kSize>
constexpr std::array<char, kSize> join(std::string_view a, std::string_view b, std::string_view c) {
  std::array<char, kSize> joined{};
  char* to = std::copy(a.begin(), a.end(), joined.begin());
  to = std::copy(b.begin(), b.end(), to);
  std::copy(c.begin(), c.end(), to);
  return joined;
}

// The words of a code, then those of a fault: "bad_request" ":" "bare_lf".
template <std::size_t kFault, bool kResponse>
struct Joined {
  static constexpr Words kFirst =
      kCodes[static_cast<std::size_t>(kResponse ? Code::bad_response : kRows[kFault].code)];
  static constexpr Words kSecond = kRows[kFault].own;
  static constexpr auto kDetails = join<kFirst.details.size() + 1 + kSecond.details.size()>(
      kFirst.details, ":", kSecond.details);
  static constexpr auto kLine = join<kFirst.line.size() + 1 + kSecond.line.size()>(
      without_end(kFirst.line), ": ", kSecond.line);

  // A fault that says what its code says already adds nothing.
  static constexpr Words words() {
    if (kFirst.details == kSecond.details) return kFirst;
    return {{kDetails.data(), kDetails.size()}, {kLine.data(), kLine.size()}};
  }
};

template <bool kResponse>
constexpr auto kJoined = []<std::size_t... kFault>(std::index_sequence<kFault...>) {
  return std::array{Joined<kFault, kResponse>::words()...};
}(std::make_index_sequence<kRows.size()>());

const Row& row(Fault fault) noexcept {
  return kRows[static_cast<std::size_t>(fault)];
}

// Both words of an error that carries `fault`, which is not none.
const Words& joined(Code code, Fault fault) noexcept {
  const auto index = static_cast<std::size_t>(fault);
  return code == Code::bad_response ? kJoined<true>[index] : kJoined<false>[index];
}

}  // namespace

Code code_of(Fault fault) noexcept {
  return row(fault).code;
}
Part part_of(Fault fault) noexcept {
  return row(fault).part;
}
std::string_view word_of(Fault fault) noexcept {
  return row(fault).own.details;
}

Fault fault_of(const Error& why) noexcept {
  if (why.detail <= 0 || static_cast<std::size_t>(why.detail) >= kRows.size()) return Fault::none;
  const auto fault = static_cast<Fault>(why.detail);
  return why.code == Code::bad_response || why.code == code_of(fault) ? fault : Fault::none;
}

std::string_view details_of(const Error& why) noexcept {
  const Fault fault = fault_of(why);
  return fault == Fault::none ? details(why.code) : joined(why.code, fault).details;
}

std::string_view line_of(const Error& why) noexcept {
  const Fault fault = fault_of(why);
  return fault == Fault::none ? kCodes[static_cast<std::size_t>(why.code)].line
                              : joined(why.code, fault).line;
}

std::string_view text_of(const Error& why) noexcept {
  return without_end(line_of(why));
}

}  // namespace proxy::http
