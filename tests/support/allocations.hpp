#pragma once
/// Programs that link allocations.cpp count what they allocate.
#include <cstddef>

namespace po2quant::test {

/// How often operator new was called, by any thread.
std::size_t allocations();

}  // namespace po2quant::test
