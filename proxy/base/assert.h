// ASSERT: a check of our own invariants, on in every test build.
// Not for input from the network, the kernel or a file: those are handled, never asserted.
#pragma once

#ifdef HOPLITE_ASSERTS
#include <cstdio>
#include <cstdlib>
#define ASSERT(condition)                                                                    \
  do {                                                                                       \
    if (!(condition)) {                                                                      \
      std::fprintf(stderr, "%s:%d: assertion failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
#else
#define ASSERT(condition) static_cast<void>(sizeof(!(condition)))
#endif
