// The words of faults, alone and joined with those of their codes.
// Not when each is found: tests/unit/http1 runs the tables of hostile messages.
#include "proxy/http/fault.h"

#include <array>
#include <set>
#include <string_view>

#include "proxy/http/reply.h"
#include "tests/support/catch.h"

namespace proxy::http {
namespace {

constexpr std::array kAll = {
#define HOPLITE_FAULT(fault, code, part, word, text) Fault::fault,
#include "proxy/http/faults.def"
#undef HOPLITE_FAULT
};

Error error_of(Code code, Fault fault) {
  return make_error(code, Side::downstream, detail_of(fault));
}

}  // namespace

TEST_CASE("every fault has a word of its own, fit for a log's field", "[unit]") {
  std::set<std::string_view> words;
  for (const Fault fault : kAll) {
    CAPTURE(word_of(fault));
    CHECK(words.insert(word_of(fault)).second);
    CHECK(word_of(fault).find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") ==
          std::string_view::npos);
  }
}

TEST_CASE("a fault adds its words to those of its code", "[unit]") {
  const Error request = error_of(Code::bad_request, Fault::bare_lf);
  CHECK(fault_of(request) == Fault::bare_lf);
  CHECK(details_of(request) == "bad_request:bare_lf");
  CHECK(text_of(request) == "malformed request: bare LF");
  CHECK(make_reply(request).body == "malformed request: bare LF\n");
  const Error response = error_of(Code::bad_response, Fault::bare_lf);
  CHECK(details_of(response) == "upstream_protocol_error:bare_lf");
  CHECK(text_of(response) == "malformed response from upstream: bare LF");
  CHECK(details_of(error_of(Code::head_too_large, Fault::too_many_headers)) ==
        "request_head_too_large:too_many_headers");
}

TEST_CASE("a fault that says what its code says is not said twice", "[unit]") {
  for (const Fault fault : kAll) {
    if (fault == Fault::none || word_of(fault) != details(code_of(fault))) continue;
    CAPTURE(word_of(fault));
    CHECK(details_of(error_of(code_of(fault), fault)) == details(code_of(fault)));
    CHECK(text_of(error_of(code_of(fault), fault)) == text(code_of(fault)));
  }
  CHECK(details_of(error_of(Code::unknown_method, Fault::unknown_method)) == "unknown_method");
  CHECK(details_of(error_of(Code::bad_response, Fault::unknown_coding)) ==
        "upstream_protocol_error:unknown_transfer_coding");
}

TEST_CASE("a detail that is no fault is left alone", "[unit]") {
  for (const std::int32_t detail : {0, -1, 1, 104, 255, 256, 1 << 30}) {
    CAPTURE(detail);
    const Error lost = make_error(Code::downstream_closed, Side::downstream, detail);
    CHECK(fault_of(lost) == Fault::none);
    CHECK(details_of(lost) == "downstream_closed");
    CHECK(text_of(lost) == text(Code::downstream_closed));
  }
  CHECK(details_of(make_error(Code::bad_request, Side::downstream)) == "bad_request");
  CHECK(details_of(make_error(Code::bad_response, Side::upstream, 10'000)) ==
        "upstream_protocol_error");
}

}  // namespace proxy::http
