#pragma once
/// The sizes worth trying: every tail of the unrolled loops, and the neighbours of powers of two.
#include <algorithm>
#include <cstddef>
#include <vector>

namespace po2quant::test {

/// 0 … 4·lanes + 1, then 2^k · {1, 2, 3} ± 1 up to `most`, sorted.
inline std::vector<std::size_t> sizes_worth_trying(std::size_t lanes, std::size_t most) {
    std::vector<std::size_t> sizes;
    for (std::size_t n = 0; n <= 4 * lanes + 1; ++n) sizes.push_back(n);
    for (std::size_t power = 1; power <= most; power *= 2)
        for (const std::size_t factor : {std::size_t{1}, std::size_t{3}})
            for (const std::size_t n : {power * factor - 1, power * factor, power * factor + 1}) sizes.push_back(n);
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    sizes.erase(std::upper_bound(sizes.begin(), sizes.end(), std::max(most, 4 * lanes + 1)), sizes.end());
    return sizes;
}

}  // namespace po2quant::test
