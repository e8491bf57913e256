#pragma once
/// Which inputs are asked for ahead, and which outputs go past the caches.
#include <cstddef>
#include <span>

namespace po2quant::detail {

/// Outputs from here on are written past the caches (non-temporal stores): a cached store reads each line before it
/// writes it, and what does not stay in cache gains nothing by that. In place the line has been read already. 32 MB:
/// twice that, with its input, is beyond what a core has of any last-level cache so far.
inline constexpr std::size_t stream_bytes = std::size_t{32} << 20;

constexpr bool streams(std::size_t output_bytes) { return output_bytes >= stream_bytes; }

/// The same of an output that may be the input.
template <class T>
bool streams(std::span<const T> input, std::span<T> output) {
    return input.data() != output.data() && streams(output.size_bytes());
}

/// Inputs from here on are asked for ahead of the loads. 4 MB: more than a core has of L2. In L2 asking takes a tenth
/// of a pass that only reads, and gains nothing.
inline constexpr std::size_t far_bytes = std::size_t{4} << 20;

template <class T>
constexpr bool is_far(std::span<const T> input) {
    return input.size_bytes() >= far_bytes;
}

}  // namespace po2quant::detail
