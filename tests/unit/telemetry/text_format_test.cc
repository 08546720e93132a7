// Which texts Prometheus' parser takes. Not what we write ourselves (collector_test.cc).
#include "telemetry/text_format.h"

#include <string>

#include "tests/support/catch.h"

using telemetry::is_text_format;

TEST_CASE("what exporters write is text format") {
  for (const std::string text : {"",
                                 "\n",
                                 "a 1",
                                 "a 1\n",
                                 "a\t1\n",
                                 "a 1 1700000000000\n",
                                 "a:b_C9 -1.5e-3\n",
                                 "a{} 1\n",
                                 "a{b=\"c\"} 1\n",
                                 "a { b = \"c\" , d=\"\" , } 1\n",
                                 "a{b=\"\\\"}\\\\\\n\"} NaN\n",
                                 "a{b=\"\xc3\xa9\"} +Inf\n",
                                 "a -Inf\n",
                                 "a Inf\n",
                                 "a nan\n",
                                 "a +5\n",
                                 "  # TYPE a counter\n",

                                 "# anything\n",
                                 "#\n",
                                 "# \n",
                                 "#TYPE a nothing\n",
                                 "# HELP a any { text\n",
                                 "# HELP a\n",
                                 "# TYPE a counter\na 1\n",
                                 "# TYPE a untyped\n",
                                 "# EOF\n",
                                 "# UNIT a s\n"}) {
    INFO(text);
    CHECK(is_text_format(text));
  }
}

TEST_CASE("anything else is not") {
  for (const std::string text : {"a",
                                 "a\n",
                                 "a x\n",
                                 "a 1 x\n",
                                 "a 1 \n",
                                 "a 1e400\n",
                                 "a 1 1 1\n",
                                 "a 1 1.5\n",
                                 "1a 1\n",
                                 "a{ 1\n",
                                 "a{b} 1\n",
                                 "a{b=c} 1\n",
                                 "a{b=\"c} 1\n",
                                 "a{b=\"c\" d=\"e\"} 1\n",
                                 "a{b:c=\"d\"} 1\n",
                                 "a{,} 1\n",
                                 "a{b=\"\xff\"} 1\n",
                                 "a 1\r\n",
                                 "# TYPE a\n",
                                 "# TYPE a thing\n",
                                 "# TYPE 1 counter\n",
                                 "# HELP \n",
                                 "# HELP a \xff\n",
                                 "<html>\n",
                                 "{\"a\": 1}\n",
                                 "oops\n",
                                 "a 0x\n",
                                 "a -\n",
                                 " a 1\n",
                                 "a -nan\n",
                                 "a +nan\n",
                                 "a nan(1)\n",
                                 "a +-5\n",
                                 "# TYPE a  counter\n",
                                 "a +\n",
                                 "a 1 # {x=\"y\"} 1\n",
                                 "\x1f\x8b\x08"}) {
    INFO(text);
    CHECK_FALSE(is_text_format(text));
    CHECK_FALSE(is_text_format("a 1\n" + text));
  }
}
