// Says whether this network namespace is redirected as wanted: compares the rules, and makes
// connections and sees where they arrive. Changes nothing that outlives it.
#pragma once

#include "proxy/redirect/apply.h"
#include "proxy/redirect/options.h"

namespace proxy::redirect {

struct Verdict {
  unsigned passed = 0;
  unsigned failed = 0;
  unsigned skipped = 0;  // could not be tried; why was said
};

// Prints one line for each thing looked at, to stdout. What needs a capability that is missing is
// skipped in words, so that also the unprivileged proxy container can be checked from inside.
Verdict check(const Options& options, const Manner& manner);

}  // namespace proxy::redirect
