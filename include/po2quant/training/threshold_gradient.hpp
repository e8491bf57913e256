#pragma once
/// Gradients of fake_quantize with respect to its input and to its threshold, in one pass: TQT, LSQ, PACT.
///
///   S = Σ_i grad_output[i] · factor_i        factors by threshold_term (numerics/quantizer.hpp)
///
///   TQT    error    d loss / d log2 t = tqt_gradient(S, e), 2^e · ln 2 · S               (training/threshold.hpp)
///   LSQ    error    d loss / d s      = lsq_gradient(S, N, format), S / √(N·qmax)        (training/step_size.hpp)
///   PACT   beyond   d loss / d α      = S, α = qmax·2^e                                  (Choi et al.,
///   arXiv:1805.06085)
///
/// A sum has the same bits on every instruction set and for any number of threads: products are rounded to float, what
/// float additions lose is kept and added at the end, sums of blocks are doubles, and the order depends on the shape
/// alone. Hence |S − exact sum| <= 2^−23 · Σ |terms| (and parts of second order; simd/sums.hpp), usually near
/// 2^−24 · √(Σ terms²). NaN in x has factor 0, NaN in grad_output gives NaN; a product or a sum beyond float's range is
/// ±∞.
#include <po2quant/training/fake_quantize_backward.hpp>

namespace po2quant {

namespace detail {

inline constexpr std::size_t sum_blocks = 256;

/// A sum over the elements of a tensor: `part(begin, end, lanes)` adds those of a block to 16 sums. Blocks of a task's
/// elements, in at most sum_blocks groups of neighbours; the groups' sums are added one after the other.
template <class Executor, class Part>
double sum_by_blocks(std::size_t elements, const Executor& run, Part&& part) {
    const std::int64_t blocks = task_count(elements);
    const std::int64_t per_group =
        (blocks + static_cast<std::int64_t>(sum_blocks) - 1) / static_cast<std::int64_t>(sum_blocks);
    const std::int64_t groups = blocks == 0 ? 0 : (blocks + per_group - 1) / per_group;
    double sums[sum_blocks];
    run.parallel_for(groups, [&](std::int64_t group) {
        double sum = 0;
        for (std::int64_t b = group * per_group; b < std::min(blocks, (group + 1) * per_group); ++b) {
            const auto [begin, end] = task_range(b, elements);
            simd::compensated_lanes<simd::sum_lanes> lanes{};
            part(begin, end, lanes);
            sum += simd::tree_sum(lanes);
        }
        sums[group] = sum;
    });
    double all = 0;
    for (std::int64_t g = 0; g < groups; ++g) all += sums[g];
    return all;
}

template <class Quantizer>
kernels::threshold_step step_of(const Quantizer& q, const kernels::grid& g, gradient_options options,
                                threshold_term term) {
    return {g, term, pass_interval(q.format, q.mode, options.estimator),
            pass_interval(q.format, q.mode, ste::clip_code), passes_by_code(q.mode, options.estimator)};
}

inline void check_term(const char* function, threshold_term term) {
    check_range(function, "term", static_cast<int>(term), 0, static_cast<int>(threshold_term::beyond));
}

}  // namespace detail

/// fake_quantize_backward, and S of the whole tensor as the result. `grad_input` may be `grad_output` or `input`
/// itself. All three are of one storage type; factors are those of the floats, with y not rounded to the storage.
/// Errors as fake_quantize_backward's.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          readable_like<Input> Upstream = std::span<const storage_of<Input>>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
double fake_quantize_backward_threshold(const Input& input, const Upstream& grad_output, Output&& grad_input,
                                        const quantizer& q, threshold_term term, gradient_options options = {},
                                        const Executor& run = {}) {
    using storage = storage_of<Input>;
    const std::span<const storage> x(input);
    const std::span<const storage> dy(grad_output);
    const std::span<storage> dx(grad_input);
    detail::check_backward(x, dy, dx, q, options);
    detail::check_term("fake_quantize_backward_threshold", term);
    const bool stream = detail::streams_gradient(dx, x.data(), dy.data());
    return detail::with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        return detail::sum_by_blocks(x.size(), run, [&](std::size_t begin, std::size_t end, auto& lanes) {
            const kernels::grid g = kernels::grid_of(q, begin);
            kernels::pass_gradient_and_sum<Arch, Mode>(x.data() + begin, dy.data() + begin, dx.data() + begin, 1, 0,
                                                       end - begin, q.exponent, detail::step_of(q, g, options, term),
                                                       lanes, stream);
        });
    });
}

/// The same with one exponent per channel: sums[c] = S of channel c; `sums` has one element per channel.
template <class Arch = default_arch, storage_range Input = std::span<const float>,
          readable_like<Input> Upstream = std::span<const storage_of<Input>>,
          writable_like<Input> Output = std::span<storage_of<Input>>, executor Executor = serial_executor>
void fake_quantize_backward_threshold(const Input& input, const Upstream& grad_output, Output&& grad_input,
                                      const channel_quantizer& q, threshold_term term, std::span<double> sums,
                                      gradient_options options = {}, const Executor& run = {}) {
    constexpr const char* function = "fake_quantize_backward_threshold";
    using storage = storage_of<Input>;
    const std::span<const storage> in(input);
    const std::span<const storage> up(grad_output);
    const std::span<storage> down(grad_input);
    detail::check_backward(in, up, down, q, options);
    detail::check_term(function, term);
    const std::size_t channels = q.exponents.size();
    detail::check_span(function, "sums", sums, channels);
    detail::check_overlap(function, "sums", sums, in, false);
    detail::check_overlap(function, "sums", sums, up, false);
    detail::check_overlap(function, "sums", sums, down, false);
    const auto inner = static_cast<std::size_t>(q.inner);
    const storage* x = in.data();
    const storage* dy = up.data();
    storage* dx = down.data();
    detail::with_rounding(q.mode, [&]<rounding Mode>(std::integral_constant<rounding, Mode>) {
        if (inner > 1) {
            // Tasks of whole channels, whose runs follow each other.
            const std::size_t outer = in.size() / (channels * inner);
            const std::size_t of_channel = std::max<std::size_t>(1, outer * inner);
            const std::size_t per_task =
                std::max<std::size_t>(1, static_cast<std::size_t>(detail::task_elements) / of_channel);
            run.parallel_for(static_cast<std::int64_t>((channels + per_task - 1) / per_task), [&](std::int64_t task) {
                const std::size_t first = static_cast<std::size_t>(task) * per_task;
                for (std::size_t c = first; c < std::min(channels, first + per_task); ++c) {
                    simd::compensated_lanes<simd::sum_lanes> lanes{};
                    const std::size_t i = c * inner;
                    kernels::pass_gradient_and_sum<Arch, Mode>(
                        x + i, dy + i, dx + i, outer, channels * inner, inner, q.exponents[c],
                        detail::step_of(q, kernels::grid_of(q, i), options, term), lanes);
                    sums[c] = simd::tree_sum(lanes);
                }
            });
            return;
        }
        // Channel innermost: groups of rows, as many as a fixed number of partial sums allows; wide rows by chunks.
        constexpr std::size_t partial_sums = 4096;
        const std::size_t rows = in.size() / channels;
        for (std::size_t first = 0; first < channels; first += kernels::channels_at_once) {
            const std::size_t width = std::min(kernels::channels_at_once, channels - first);
            const std::size_t least = std::max<std::size_t>(1, static_cast<std::size_t>(detail::task_elements) / width);
            const std::size_t most = std::min<std::size_t>(64, std::max<std::size_t>(1, partial_sums / width));
            const std::size_t per_group = std::max(least, (rows + most - 1) / most);
            const std::size_t groups = (rows + per_group - 1) / per_group;
            double parts[partial_sums] = {};
            run.parallel_for(static_cast<std::int64_t>(groups), [&](std::int64_t group) {
                const std::size_t row = static_cast<std::size_t>(group) * per_group;
                const std::size_t i = row * channels + first;
                const kernels::grid g = kernels::grid_of(q, i);
                kernels::pass_gradient_and_sum_channels<Arch, Mode>(
                    x + i, dy + i, dx + i, std::min(per_group, rows - row), channels, width, q.exponents.data() + first,
                    detail::step_of(q, g, options, term), parts + static_cast<std::size_t>(group) * width);
            });
            for (std::size_t c = 0; c < width; ++c) {
                double sum = 0;
                for (std::size_t group = 0; group < groups; ++group) sum += parts[group * width + c];
                sums[first + c] = sum;
            }
        }
    });
}

}  // namespace po2quant
