// Tests of telemetry/utf8.h and of response flags.
#include "telemetry/utf8.h"

#include <string>

#include "telemetry/labels.h"
#include "tests/support/catch.h"

using namespace telemetry;
using namespace std::string_literals;

TEST_CASE("utf8_length takes well-formed sequences only", "[unit]") {
  CHECK(utf8_length("a") == 1);
  CHECK(utf8_length("\xC3\xA9") == 2);
  CHECK(utf8_length("\xE2\x82\xAC") == 3);
  CHECK(utf8_length("\xF0\x9F\x98\x80") == 4);
  CHECK(utf8_length("\xF4\x8F\xBF\xBF") == 4);
  const std::string bad[] = {"\x80",              // continuation alone
                             "\xC3",              // cut
                             "\xC0\x80",          // overlong
                             "\xC1\xBF",          // overlong
                             "\xE0\x9F\xBF",      // overlong
                             "\xF0\x8F\xBF\xBF",  // overlong
                             "\xED\xA0\x80",      // surrogate
                             "\xF4\x90\x80\x80",  // beyond U+10FFFF
                             "\xF5\x80\x80\x80",
                             "\xFF",
                             "\xE2\x82",
                             "\xE2\x28\xA1",
                             "\xF0\x9F\x98"};
  for (const std::string& bytes : bad) {
    CAPTURE(bytes.size(), static_cast<unsigned char>(bytes[0]));
    CHECK(utf8_length(bytes) == 0);
  }
}

TEST_CASE("label values are repaired and cut", "[unit]") {
  const auto clean = [](std::string value) {
    const bool changed = clean_label(value);
    return std::pair(changed, value);
  };
  CHECK(clean("") == std::pair(false, ""s));
  CHECK(clean("caf\xC3\xA9 \"x\" \\") == std::pair(false, "caf\xC3\xA9 \"x\" \\"s));
  CHECK(clean("a\xFF\xFE"
              "b") == std::pair(true,
                                "a\xEF\xBF\xBD\xEF\xBF\xBD"
                                "b"s));
  CHECK(clean("a\nb\0c"s) == std::pair(true,
                                       "a\xEF\xBF\xBD"
                                       "b\xEF\xBF\xBD"
                                       "c"s));
  CHECK(clean(std::string(256, 'a')) == std::pair(false, std::string(256, 'a')));
  CHECK(clean(std::string(257, 'a')) == std::pair(true, std::string(256, 'a')));
  // The cut comes before a code point, not inside.
  CHECK(clean(std::string(255, 'a') + "\xC3\xA9") == std::pair(true, std::string(255, 'a')));
  CHECK(clean(std::string(254, 'a') + "\xC3\xA9") ==
        std::pair(false, std::string(254, 'a') + "\xC3\xA9"));
  // Repairing makes longer: still within the bound.
  CHECK(clean(std::string(1000, '\xFF')).second.size() == 255);
}

TEST_CASE("JSON strings escape what must be", "[unit]") {
  std::string out;
  append_json(out, "a\"b\\c\n\t\r\x01\x7F\xC3\xA9\xFF"s);
  CHECK(out == "\"a\\\"b\\\\c\\n\\t\\r\\u0001\\u007f\xC3\xA9\xEF\xBF\xBD\"");
  out.clear();
  append_printable(out, "a\\b\x1B[31m\xFF\xC3\xA9"s);
  CHECK(out == "a\\x5cb\\x1b[31m\\xff\xC3\xA9");
}

TEST_CASE("response flags have Envoy's codes", "[unit]") {
  CHECK(text(Flags{}) == "-");
  CHECK(text(Flags{Flag::uf}) == "UF");
  CHECK(text(Flags{Flag::urx} | Flag::uf) == "UF,URX");
  CHECK(text(Flags{Flag::udo}) == "UDO");
  CHECK(text(Flags{Flag::drop_overload}) == "DO");
  CHECK(flag_from("DPE") == Flag::dpe);
  CHECK(!flag_from("XX"));
  for (std::size_t i = 0; i < kFlagTexts.size(); ++i) {
    CHECK(flag_from(kFlagTexts[i]) == static_cast<Flag>(i));
  }
  const std::string_view all =
      "UH,UF,UO,NR,URX,NC,DT,DC,LH,UT,LR,UR,UC,DI,FI,RL,UAEX,RLSE,IH,SI,DPE,UPE,UMSDR,RFCF,NFCF,OM,"
      "DF,DO,DR,UDO";
  CHECK(text(Flags::from_bits((1U << 30) - 1)) == all);
}
