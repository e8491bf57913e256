// Catch2's main, compiled once: version 2 takes its time.
#define CATCH_CONFIG_MAIN
#if __has_include(<catch2/catch_all.hpp>)
#error "Catch2 3 brings its own main"
#else
#include <catch2/catch.hpp>
#endif
