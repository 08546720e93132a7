// The unit for which Catch2's header is precompiled; the test programs reuse the result.
// Not the main program (catch_main.cc), which needs a define before the header.
#include "tests/support/catch.h"
