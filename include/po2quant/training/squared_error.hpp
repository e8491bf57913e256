#pragma once
/// The exponent of least squared error, searched over several in one pass: for calibration, and for weights.
#include <span>
#include <vector>

#include <po2quant/kernels/squared_error.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/training/range.hpp>

namespace po2quant {

/// Exponents to compare, from coarse to fine: first, first − 1, …, first − count + 1.
struct exponent_candidates {
    static constexpr int most = 16;
    int first = 0;
    int count = 1;
};

/// The exponent that a rule gives, and finer ones behind it, as far as exponents go. The defaults are the coarsest that
/// can be best, no_clip, and three that cut more and more; Vitis AI's search is
/// {.rule = exponent_rule::vitis, .count = 5}.
struct candidate_rule {
    exponent_rule rule = exponent_rule::no_clip;
    int count = 4;
};
constexpr exponent_candidates candidates_for(const range& seen, integer_format format, candidate_rule how = {}) {
    const int first = exponent_for(seen, format, how.rule);
    const int room = first - min_exponent + 1;
    return {first, how.count < room ? how.count : room};
}

/// Squared errors by candidate, in the square of the data's unit, and how many values they are of.
struct squared_errors {
    exponent_candidates candidates;
    double sums[exponent_candidates::most] = {};
    std::uint64_t finite = 0;
    std::uint64_t non_finite = 0;

    /// The candidate of least error; of equals the coarsest, which cuts least.
    constexpr int exponent() const {
        int best = 0;
        for (int c = 1; c < candidates.count; ++c)
            if (sums[c] < sums[best]) best = c;
        return candidates.first - best;
    }
};

/// The errors of two batches or workers that tried the same candidates. Sums of doubles depend on their order in the
/// last bits: merge in a fixed one. Throws std::invalid_argument for other candidates.
inline squared_errors merge(const squared_errors& a, const squared_errors& b) {
    detail::check_range("merge", "candidates.first", b.candidates.first, a.candidates.first, a.candidates.first);
    detail::check_range("merge", "candidates.count", b.candidates.count, a.candidates.count, a.candidates.count);
    squared_errors both = a;
    for (int c = 0; c < a.candidates.count; ++c) both.sums[c] += b.sums[c];
    both.finite += b.finite;
    both.non_finite += b.non_finite;
    return both;
}

/// Σ (x − fake_quantize(x))^2 for each candidate, over the finite values of `data`; q.exponent is not read. The tensor
/// is cut into blocks of 32768 elements whose sums are added in a tree, so the bits are the same for every instruction
/// set and number of threads (reference/squared_error.hpp). Vitis AI's diffs search, with mode half_up for activations
/// and half_away for weights. Allocates 8 bytes per block and candidate. Throws std::invalid_argument, before anything
/// is computed, for a null span, a format, candidates out of range, and stochastic rounding.
template <class Arch = default_arch, executor Executor = serial_executor>
squared_errors observe_squared_errors(std::span<const float> data, const quantizer& q,
                                      const exponent_candidates& candidates, const Executor& run = {}) {
    constexpr const char* function = "observe_squared_errors";
    detail::check_span(function, "data", data, data.size());
    detail::check_format(function, q.format);
    detail::check_range(function, "mode", static_cast<int>(q.mode), 0, static_cast<int>(rounding::floor));
    detail::check_exponent(function, "candidates.first", candidates.first);
    detail::check_range(function, "candidates.count", candidates.count, 1,
                        std::min(exponent_candidates::most, candidates.first - min_exponent + 1));
    squared_errors result{.candidates = candidates};
    const auto count = static_cast<std::size_t>(candidates.count);
    const auto blocks = static_cast<std::size_t>(detail::task_count(data.size()));
    std::vector<double> sums(blocks * count);
    std::vector<std::uint64_t> non_finite(blocks);
    static_assert(detail::task_elements == 32768 && detail::task_elements % simd::sum_lanes == 0);
    detail::with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        if constexpr (Mode != rounding::stochastic) {
            run.parallel_for(static_cast<std::int64_t>(blocks), [&](std::int64_t task) {
                const auto [begin, end] = detail::task_range(task, data.size());
                const auto block = static_cast<std::size_t>(task);
                kernels::squared_errors<Arch, Mode>(data.data() + begin, end - begin, candidates.first,
                                                    candidates.count, kernels::grid_of(q, 0),
                                                    sums.data() + block * count);
                non_finite[block] = kernels::minmax<Arch>(data.data() + begin, end - begin).non_finite;
            });
        }
    });
    for (std::size_t distance = 1; distance < blocks; distance *= 2)
        for (std::size_t b = 0; b + distance < blocks; b += 2 * distance)
            for (std::size_t c = 0; c < count; ++c) sums[b * count + c] += sums[(b + distance) * count + c];
    if (blocks != 0)
        for (std::size_t c = 0; c < count; ++c) result.sums[c] = sums[c];
    for (const std::uint64_t n : non_finite) result.non_finite += n;
    result.finite = data.size() - result.non_finite;
    return result;
}

}  // namespace po2quant
