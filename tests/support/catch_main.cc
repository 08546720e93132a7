// The one main() of the Catch2 programs. Catch2 v3 brings its own in Catch2::Catch2WithMain.

#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
