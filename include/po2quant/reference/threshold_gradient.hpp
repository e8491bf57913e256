#pragma once
/// Gradient sums of thresholds, element by element: the specification of training/threshold_gradient.hpp, of its order
/// of additions too.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/reference/fake_quantize.hpp>

namespace po2quant::reference {

/// What dy of element `index` is multiplied with, as threshold_term says.
inline float threshold_factor(float x, const quantizer& q, threshold_term term, std::uint64_t index) {
    if (x != x) return 0.0F;
    if (term == threshold_term::beyond)
        return x >= static_cast<float>(q.format.qmax()) * exp2_float(q.exponent) ? 1.0F : 0.0F;
    const bool inside = fake_quantize_gradient(x, 1.0F, q, ste::clip_code, index) != 0;
    const auto code = static_cast<float>(quantize(x, q, index));
    return inside ? code - x * exp2_float(-q.exponent) : code;
}

/// A sum of floats and what its additions lost; the total of both is a double, that of an infinite sum infinite.
struct sum_and_rest {
    float sum = 0;
    float rest = 0;

    void add(float term) {
        const float next = sum + term;
        rest += term - (next - sum);
        sum = next;
    }
    double total() const {
        return std::isinf(sum) ? double{sum} : static_cast<double>(sum) + static_cast<double>(rest);
    }
};

/// 16 sums, element i of a block in sum i % 16, joined by halves: 0 + 8, 1 + 9, …; 0 + 4, …; 0 + 2, 1 + 3; 0 + 1.
inline double join(const std::vector<sum_and_rest>& lane) {
    std::vector<double> sum;
    for (const sum_and_rest& s : lane) sum.push_back(s.total());
    for (std::size_t half = sum.size() / 2; half > 0; half /= 2)
        for (std::size_t k = 0; k < half; ++k) sum[k] += sum[k + half];
    return sum[0];
}

/// Rounded to float once: the product of doubles is exact.
inline float product(float dy, float factor) {
    return static_cast<float>(static_cast<double>(dy) * static_cast<double>(factor));
}

/// Blocks of task_elements, in 256 groups of neighbours at most; a group's blocks, then the groups, one by one.
inline double threshold_sum(std::span<const float> x, std::span<const float> dy, const quantizer& q,
                            threshold_term term) {
    const std::size_t block = detail::task_elements;
    const std::size_t blocks = (x.size() + block - 1) / block;
    const std::size_t per_group = (blocks + 255) / 256;
    double all = 0;
    for (std::size_t first = 0; first < blocks; first += per_group) {
        double group = 0;
        for (std::size_t b = first; b < std::min(blocks, first + per_group); ++b) {
            std::vector<sum_and_rest> lane(16);
            for (std::size_t i = b * block; i < std::min(x.size(), (b + 1) * block); ++i)
                lane[(i - b * block) % 16].add(product(dy[i], threshold_factor(x[i], q, term, i)));
            group += join(lane);
        }
        all += group;
    }
    return all;
}

/// Per channel of data [outer][channels][inner]. inner > 1: 16 sums over all runs of a channel, each run from sum 0 on.
/// inner = 1: rows one by one, in groups of at least task_elements elements and at most 64, of 4096 sums in all.
inline std::vector<double> threshold_sums(std::span<const float> x, std::span<const float> dy, const quantizer& q,
                                          std::span<const int> exponents, std::size_t inner, threshold_term term) {
    const std::size_t channels = exponents.size();
    std::vector<double> sums(channels);
    const auto term_of = [&](std::size_t i) {
        return product(dy[i], threshold_factor(x[i], quantizer_of(i, q, exponents, inner), term, i));
    };
    if (inner > 1) {
        for (std::size_t c = 0; c < channels; ++c) {
            std::vector<sum_and_rest> lane(16);
            for (std::size_t first = c * inner; first < x.size(); first += channels * inner)
                for (std::size_t k = 0; k < inner; ++k) lane[k % 16].add(term_of(first + k));
            sums[c] = join(lane);
        }
        return sums;
    }
    const std::size_t rows = x.size() / channels;
    for (std::size_t c = 0; c < channels; ++c) {
        const std::size_t chunk = c / 1024 * 1024;
        const std::size_t width = std::min<std::size_t>(1024, channels - chunk);
        const std::size_t least = std::max<std::size_t>(1, detail::task_elements / width);
        const std::size_t most = std::min<std::size_t>(64, std::max<std::size_t>(1, 4096 / width));
        const std::size_t per_group = std::max(least, (rows + most - 1) / most);
        for (std::size_t first = 0; first < rows; first += per_group) {
            sum_and_rest group;
            for (std::size_t row = first; row < std::min(rows, first + per_group); ++row)
                group.add(term_of(row * channels + c));
            sums[c] += group.total();
        }
    }
    return sums;
}

}  // namespace po2quant::reference
