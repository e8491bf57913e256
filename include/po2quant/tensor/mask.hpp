#pragma once
/// Masks of one bit per element: element i is bit i % 8 of byte i / 8.
#include <cstddef>

namespace po2quant {

/// Bytes of a mask of so many elements. Bits behind the last one are 0.
constexpr std::size_t mask_bytes(std::size_t elements) { return (elements + 7) / 8; }

}  // namespace po2quant
