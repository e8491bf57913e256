#pragma once
/// Batch normalization folded into weights, for training with quantized weights (arXiv:1806.08342, section 3.2.2).
///
///   σ = √(variance + ε), per output channel, of the batch (B) and of the moving averages (M);   c = σ_B / σ_M
///   w_fold = c · γ·w/σ_B = γ·w/σ_M            its quantized form w_q does not jitter from batch to batch
///   unfrozen   y = conv(x, w_q) / c + β − γ·μ_B/σ_B      the batch's own normalization, the correction 1/c behind
///   frozen     y = conv(x, w_q) + β − γ·μ_M/σ_M          what is deployed
///
/// One step, unfrozen:                                        and back:
///   z = conv(x, w)             the host's                      batch_norm_backward    du, dγ, dβ, dμ_B, dσ²_B
///   batch_moments(z)           μ_B and σ²_B                    the host's             du → dw_q and dx
///   fold_weights(w)            w_fold                          fake_quantize_backward dw_q → dw_fold
///   fake_quantize(w_fold)      w_q                             fold_weights_backward  dw_fold → dw, and the rest of dγ
///   u = conv(x, w_q)           the host's                      batch_moments_backward dμ_B, dσ²_B → dz
///   batch_norm_forward(u)      y                               the host's             dz → more of dw and dx
///   track_moments              μ_M and σ²_M
/// Frozen, z and its moments are not needed; dμ_B and dσ²_B are 0.
///
/// Variances are biased, Σ (z − μ)²/n, and batch_moments_backward is the derivative of just that. TensorFlow's folding
/// divides by n − 1 in its backward.
///
/// Activations are [rows][channels], channels innermost (NHWC). Weights are [outer][channels][inner] with the output
/// channels in the middle, as channel_quantizer has them: inner = 1 for HWIO and for depthwise [KH][KW][C][multiplier];
/// inner = size / channels for OIHW, OHWI and depthwise [C·multiplier][KH][KW].
///
/// Numerics. Per-channel numbers and sums are double, each sum in an order that the shape alone sets
/// (kernels/batch_norm.hpp): the same bits on every Arch and thread count. Elements are rounded to float once. Sums
/// over rows allocate 8 bytes for each sum, channel and 256 rows.
#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include <po2quant/kernels/batch_norm.hpp>
#include <po2quant/simd/arch.hpp>
#include <po2quant/training/channel_quantizer.hpp>

namespace po2quant {

/// A layer's batch normalization; all spans have one element per output channel.
struct batch_norm {
    std::span<const float> gamma = {};  ///< empty: 1 for all
    std::span<const float> beta = {};   ///< empty: 0 for all
    std::span<const double> moving_mean = {};
    std::span<const double> moving_variance = {};
    std::span<const double> batch_mean = {};      ///< not read where frozen
    std::span<const double> batch_variance = {};  ///< not read where frozen
    double epsilon = 1e-3;                        ///< above 0
    bool frozen = false;
};

/// Where batch_norm_backward puts what it finds per channel.
struct batch_norm_gradients {
    std::span<double> gamma;  ///< without the weights' part, which fold_weights_backward adds
    std::span<double> beta;
    std::span<double> batch_mean;      ///< 0 where frozen
    std::span<double> batch_variance;  ///< 0 where frozen
};

namespace detail {

/// Channels [first, first + width) are a task.
template <class Executor, class F>
void for_each_chunk(const Executor& run, std::size_t channels, F&& f) {
    constexpr std::size_t chunk = kernels::batch_norm_chunk;
    run.parallel_for(static_cast<std::int64_t>((channels + chunk - 1) / chunk), [&](std::int64_t task) {
        const std::size_t first = static_cast<std::size_t>(task) * chunk;
        f(first, std::min(chunk, channels - first));
    });
}

/// f(first row, rows, first channel, width) for tasks of 4096 rows at most and one chunk of channels.
template <class Executor, class F>
void for_each_part(const Executor& run, std::size_t rows, std::size_t channels, F&& f) {
    constexpr std::size_t chunk = kernels::batch_norm_chunk;
    constexpr std::size_t part = 16 * kernels::batch_norm_block;
    const std::size_t chunks = (channels + chunk - 1) / chunk;
    run.parallel_for(static_cast<std::int64_t>((rows + part - 1) / part * chunks), [&](std::int64_t task) {
        const std::size_t row = static_cast<std::size_t>(task) / chunks * part;
        const std::size_t c = static_cast<std::size_t>(task) % chunks * chunk;
        f(row, std::min(part, rows - row), c, std::min(chunk, channels - c));
    });
}

/// sums[t][c] over all rows: blocks of rows by kernel(first row, rows, first channel, width, to), on any thread, then
/// the blocks one after the other, as the kernels add them.
template <std::size_t Terms, class Executor, class Kernel>
void sum_rows(const Executor& run, std::size_t rows, std::size_t channels, double* const (&sums)[Terms],
              const Kernel& kernel) {
    constexpr std::size_t block = kernels::batch_norm_block;
    const std::size_t blocks = (rows + block - 1) / block;
    std::vector<double> of_blocks(Terms * blocks * channels);
    const auto at = [&](std::size_t term, std::size_t b, std::size_t c) {
        return of_blocks.data() + (term * blocks + b) * channels + c;
    };
    for_each_part(run, rows, channels, [&](std::size_t first, std::size_t count, std::size_t c, std::size_t width) {
        for (std::size_t row = first; row < first + count; row += block) {
            double* to[Terms];
            for (std::size_t t = 0; t < Terms; ++t) to[t] = at(t, row / block, c);
            kernel(row, std::min(block, first + count - row), c, width, to);
        }
    });
    for (std::size_t t = 0; t < Terms; ++t) {
        std::fill_n(sums[t], channels, 0.0);
        for (std::size_t b = 0; b < blocks; ++b)
            for (std::size_t c = 0; c < channels; ++c) sums[t][c] += *at(t, b, c);
    }
}

/// y = float((x − center[c]) · scale[c] + offset[c]) for all rows; no center or offset stands for zeros.
template <class Arch, class Executor>
void affine_rows(std::span<const float> x, std::span<float> y, const double* center, std::span<const double> scale,
                 const double* offset, const Executor& run) {
    static constexpr double zeros[kernels::batch_norm_chunk] = {};
    const std::size_t channels = scale.size();
    for_each_part(run, x.size() / channels, channels,
                  [&](std::size_t row, std::size_t rows, std::size_t c, std::size_t width) {
                      const std::size_t at = row * channels + c;
                      kernels::channel_affine<Arch>(x.data() + at, y.data() + at, rows, channels, width,
                                                    center == nullptr ? zeros : center + c, scale.data() + c,
                                                    offset == nullptr ? zeros : offset + c);
                  });
}

inline void check_rows(const char* function, std::size_t elements, std::size_t channels) {
    if (channels == 0) fail(function, "number of channels", "0", "1 or more");
    if (elements % channels != 0) fail(function, "size", text(elements), text("multiples of channels = ", channels));
}

inline void check_variances(const char* function, const char* name, std::span<const double> variance) {
    for (std::size_t c = 0; c < variance.size(); ++c)
        if (variance[c] < 0) fail(function, text(name, "[", c, "]"), std::to_string(variance[c]), "numbers >= 0");
}

inline void check_batch_norm(const char* function, const batch_norm& n) {
    const std::size_t channels = n.moving_mean.size();
    if (channels == 0) fail(function, "number of channels", "0", "1 or more");
    check_span(function, "moving_mean", n.moving_mean, channels);
    check_span(function, "moving_variance", n.moving_variance, channels);
    check_variances(function, "moving_variance", n.moving_variance);
    if (!n.gamma.empty()) check_span(function, "gamma", n.gamma, channels);
    if (!n.beta.empty()) check_span(function, "beta", n.beta, channels);
    if (!(n.epsilon > 0) || !std::isfinite(n.epsilon))
        fail(function, "epsilon", std::to_string(n.epsilon), "finite numbers > 0");
    if (n.frozen) return;
    check_span(function, "batch_mean", n.batch_mean, channels);
    check_span(function, "batch_variance", n.batch_variance, channels);
    check_variances(function, "batch_variance", n.batch_variance);
}

/// The numbers of one channel.
struct normalized_channel {
    double gamma;
    double beta;
    double moving_sigma;
    double mean;        ///< of the batch, or moving where frozen
    double sigma;       ///< likewise
    double correction;  ///< 1/c; 1 where frozen

    normalized_channel(const batch_norm& n, std::size_t c)
        : gamma(n.gamma.empty() ? 1.0 : static_cast<double>(n.gamma[c])),
          beta(n.beta.empty() ? 0.0 : static_cast<double>(n.beta[c])),
          moving_sigma(std::sqrt(n.moving_variance[c] + n.epsilon)),
          mean(n.frozen ? n.moving_mean[c] : n.batch_mean[c]),
          sigma(n.frozen ? moving_sigma : std::sqrt(n.batch_variance[c] + n.epsilon)),
          correction(n.frozen ? 1.0 : moving_sigma / sigma) {}
    double offset() const { return beta - gamma * mean / sigma; }
};

}  // namespace detail

// ---- moments --------------------------------------------------------------------------------------------------------

/// mean[c] = Σ x / n, variance[c] = Σ (x − mean)² / n over the n rows of x [n][channels], channels = mean.size(). Two
/// passes, so that a large mean costs no digits. NaN and ∞ go into the results. No rows give 0. Throws
/// std::invalid_argument, before anything is written, for sizes that differ or do not divide and null spans.
template <class Arch = default_arch, executor Executor = serial_executor>
void batch_moments(std::span<const float> x, std::span<double> mean, std::span<double> variance,
                   const Executor& run = {}) {
    constexpr const char* function = "batch_moments";
    const std::size_t channels = mean.size();
    detail::check_rows(function, x.size(), channels);
    detail::check_span(function, "x", x, x.size());
    detail::check_span(function, "mean", mean, channels);
    detail::check_span(function, "variance", variance, channels);
    detail::check_overlap(function, "variance", variance, std::span<const double>(mean), false);
    const std::size_t rows = x.size() / channels;
    const double n = rows == 0 ? 1.0 : static_cast<double>(rows);
    detail::sum_rows<1>(run, rows, channels, {mean.data()},
                        [&](std::size_t row, std::size_t count, std::size_t c, std::size_t width, double** sum) {
                            kernels::channel_sums<Arch>(x.data() + row * channels + c, count, channels, width, *sum);
                        });
    for (double& m : mean) m /= n;
    detail::sum_rows<1>(run, rows, channels, {variance.data()},
                        [&](std::size_t row, std::size_t count, std::size_t c, std::size_t width, double** sum) {
                            kernels::channel_squares<Arch>(x.data() + row * channels + c, count, channels, width,
                                                           mean.data() + c, *sum);
                        });
    for (double& v : variance) v /= n;
}

/// grad_x = grad_mean/n + 2 · grad_variance · (x − mean)/n: what batch_moments' results send back. `grad_x` may be `x`.
/// Errors as batch_moments'.
template <class Arch = default_arch, executor Executor = serial_executor>
void batch_moments_backward(std::span<const float> x, std::span<const double> mean, std::span<const double> grad_mean,
                            std::span<const double> grad_variance, std::span<float> grad_x, const Executor& run = {}) {
    constexpr const char* function = "batch_moments_backward";
    const std::size_t channels = mean.size();
    detail::check_rows(function, x.size(), channels);
    detail::check_span(function, "x", x, x.size());
    detail::check_span(function, "mean", mean, channels);
    detail::check_span(function, "grad_mean", grad_mean, channels);
    detail::check_span(function, "grad_variance", grad_variance, channels);
    detail::check_span(function, "grad_x", grad_x, x.size());
    detail::check_overlap(function, "grad_x", grad_x, x, true);
    const auto n = static_cast<double>(x.size() / channels);
    std::vector<double> scale(channels);
    std::vector<double> offset(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        scale[c] = 2 * grad_variance[c] / n;
        offset[c] = grad_mean[c] / n;
    }
    detail::affine_rows<Arch>(x, grad_x, mean.data(), scale, offset.data(), run);
}

/// moving ← moving − (moving − batch) · (1 − decay) for means and variances, channel by channel; 0 <= decay < 1. A
/// channel whose batch moments are not finite keeps its averages. Returns how many those were: training sees
/// divergence, the averages do not. Throws std::invalid_argument, before anything is written, for sizes that differ,
/// null spans, and a decay out of range.
inline std::size_t track_moments(std::span<const double> batch_mean, std::span<const double> batch_variance,
                                 std::span<double> moving_mean, std::span<double> moving_variance,
                                 double decay = 0.999) {
    constexpr const char* function = "track_moments";
    const std::size_t channels = batch_mean.size();
    detail::check_span(function, "batch_mean", batch_mean, channels);
    detail::check_span(function, "batch_variance", batch_variance, channels);
    detail::check_span(function, "moving_mean", moving_mean, channels);
    detail::check_span(function, "moving_variance", moving_variance, channels);
    if (!(0 <= decay && decay < 1)) detail::fail(function, "decay", std::to_string(decay), "0 <= decay < 1");
    std::size_t skipped = 0;
    for (std::size_t c = 0; c < channels; ++c) {
        if (!std::isfinite(batch_mean[c]) || !std::isfinite(batch_variance[c])) {
            ++skipped;
            continue;
        }
        moving_mean[c] -= (moving_mean[c] - batch_mean[c]) * (1 - decay);
        moving_variance[c] -= (moving_variance[c] - batch_variance[c]) * (1 - decay);
    }
    return skipped;
}

// ---- weights and bias -----------------------------------------------------------------------------------------------

/// folded = w · γ/σ_M, for training, frozen or not, and for deployment. `folded` may be `weights`. Throws
/// std::invalid_argument, before anything is written, for sizes that differ or do not divide, null spans, partial
/// overlap, an epsilon that is not above 0 and variances below 0.
template <class Arch = default_arch, executor Executor = serial_executor>
void fold_weights(std::span<const float> weights, std::int64_t inner, const batch_norm& norm, std::span<float> folded,
                  const Executor& run = {}) {
    constexpr const char* function = "fold_weights";
    const std::size_t channels = norm.moving_mean.size();
    detail::check_batch_norm(function, norm);
    detail::check_channels(function, weights.size(), channels, inner);
    detail::check_span(function, "weights", weights, weights.size());
    detail::check_span(function, "folded", folded, weights.size());
    detail::check_overlap(function, "folded", folded, weights, true);
    const auto length = static_cast<std::size_t>(inner);
    const std::size_t outer = weights.size() / (channels * length);
    detail::for_each_chunk(run, channels, [&](std::size_t c, std::size_t width) {
        double scale[kernels::batch_norm_chunk];
        const double zero[kernels::batch_norm_chunk] = {};
        for (std::size_t k = 0; k < width; ++k) {
            const detail::normalized_channel own(norm, c + k);
            scale[k] = own.gamma / own.moving_sigma;
        }
        if (length == 1)
            kernels::channel_affine<Arch>(weights.data() + c, folded.data() + c, outer, channels, width, zero, scale,
                                          zero);
        for (std::size_t o = 0; o < outer && length != 1; ++o)
            for (std::size_t k = 0; k < width; ++k) {
                const std::size_t at = (o * channels + c + k) * length;
                kernels::channel_scale<Arch>(weights.data() + at, folded.data() + at, length, scale[k]);
            }
    });
}

/// grad_weights = grad_folded · γ/σ_M, and grad_gamma[c] += Σ grad_folded · w / σ_M (the gradient of γ through the
/// weights: what batch_norm_backward wrote is added to). `grad_weights` may be `grad_folded`, not `weights`. Errors as
/// fold_weights'.
template <class Arch = default_arch, executor Executor = serial_executor>
void fold_weights_backward(std::span<const float> weights, std::span<const float> grad_folded, std::int64_t inner,
                           const batch_norm& norm, std::span<float> grad_weights, std::span<double> grad_gamma,
                           const Executor& run = {}) {
    constexpr const char* function = "fold_weights_backward";
    const std::size_t channels = norm.moving_mean.size();
    detail::check_batch_norm(function, norm);
    detail::check_channels(function, weights.size(), channels, inner);
    detail::check_span(function, "weights", weights, weights.size());
    detail::check_span(function, "grad_folded", grad_folded, weights.size());
    detail::check_span(function, "grad_weights", grad_weights, weights.size());
    detail::check_span(function, "grad_gamma", grad_gamma, channels);
    detail::check_overlap(function, "grad_weights", grad_weights, weights, false);
    detail::check_overlap(function, "grad_weights", grad_weights, grad_folded, true);
    const auto length = static_cast<std::size_t>(inner);
    const std::size_t outer = weights.size() / (channels * length);
    detail::for_each_chunk(run, channels, [&](std::size_t c, std::size_t width) {
        double sum[kernels::batch_norm_chunk];
        double product[kernels::batch_norm_chunk] = {};
        if (length == 1)
            kernels::channel_products<Arch>(grad_folded.data() + c, weights.data() + c, outer, channels, width, sum,
                                            product);
        for (std::size_t o = 0; o < outer && length != 1; ++o)
            for (std::size_t k = 0; k < width; ++k) {
                const std::size_t at = (o * channels + c + k) * length;
                double part = 0;
                kernels::channel_products<Arch>(grad_folded.data() + at, weights.data() + at, length, 1, 1, sum, &part);
                product[k] += part;
            }
        for (std::size_t k = 0; k < width; ++k) {
            const detail::normalized_channel own(norm, c + k);
            grad_gamma[c + k] += product[k] / own.moving_sigma;
        }
    });
    fold_weights<Arch>(grad_folded, inner, norm, grad_weights, run);
}

/// bias[c] = β − γ·μ_M/σ_M: the bias of the deployed layer, frozen or not. Errors as fold_weights'.
inline void fold_bias(const batch_norm& norm, std::span<float> bias) {
    batch_norm moving = norm;
    moving.frozen = true;
    detail::check_batch_norm("fold_bias", moving);
    detail::check_span("fold_bias", "bias", bias, norm.moving_mean.size());
    for (std::size_t c = 0; c < bias.size(); ++c)
        bias[c] = static_cast<float>(detail::normalized_channel(moving, c).offset());
}

// ---- activations ----------------------------------------------------------------------------------------------------

/// y = u/c + β − γ·μ_B/σ_B, or frozen y = u + b with b = fold_bias's float, of u = conv(x, w_q) [rows][channels]. y may
/// be u. Frozen, u + b is rounded to float once, as a float32 convolution with a bias rounds it. Errors as
/// fold_weights'.
template <class Arch = default_arch, executor Executor = serial_executor>
void batch_norm_forward(std::span<const float> u, const batch_norm& norm, std::span<float> y,
                        const Executor& run = {}) {
    constexpr const char* function = "batch_norm_forward";
    const std::size_t channels = norm.moving_mean.size();
    detail::check_batch_norm(function, norm);
    detail::check_rows(function, u.size(), channels);
    detail::check_span(function, "u", u, u.size());
    detail::check_span(function, "y", y, u.size());
    detail::check_overlap(function, "y", y, u, true);
    std::vector<double> scale(channels);
    std::vector<double> offset(channels);
    for (std::size_t c = 0; c < channels; ++c) {
        const detail::normalized_channel own(norm, c);
        scale[c] = own.correction;
        offset[c] = norm.frozen ? static_cast<double>(static_cast<float>(own.offset())) : own.offset();
    }
    detail::affine_rows<Arch>(u, y, nullptr, scale, offset.data(), run);
}

/// The gradients of batch_norm_forward for the gradient dy of its result, with D = Σ dy and P = Σ dy·u over the rows:
///
///   du = dy/c        dβ = D        dγ = −D·μ/σ
///   dμ_B = −D·γ/σ_B        dσ²_B = (D·γ·μ_B − P·σ_M) / (2·σ_B³)
/// Frozen: c = 1, μ and σ of the moving averages, dμ_B = dσ²_B = 0. `grads` is overwritten. grad_u may be grad_y.
/// Errors as fold_weights'.
template <class Arch = default_arch, executor Executor = serial_executor>
void batch_norm_backward(std::span<const float> u, std::span<const float> grad_y, const batch_norm& norm,
                         const batch_norm_gradients& grads, std::span<float> grad_u, const Executor& run = {}) {
    constexpr const char* function = "batch_norm_backward";
    const std::size_t channels = norm.moving_mean.size();
    detail::check_batch_norm(function, norm);
    detail::check_rows(function, u.size(), channels);
    detail::check_span(function, "u", u, u.size());
    detail::check_span(function, "grad_y", grad_y, u.size());
    detail::check_span(function, "grad_u", grad_u, u.size());
    detail::check_span(function, "grads.gamma", grads.gamma, channels);
    detail::check_span(function, "grads.beta", grads.beta, channels);
    detail::check_span(function, "grads.batch_mean", grads.batch_mean, channels);
    detail::check_span(function, "grads.batch_variance", grads.batch_variance, channels);
    detail::check_overlap(function, "grad_u", grad_u, u, false);
    detail::check_overlap(function, "grad_u", grad_u, grad_y, true);
    const std::size_t rows = u.size() / channels;
    std::vector<double> products(channels);
    std::vector<double> scale(channels);
    detail::sum_rows<2>(run, rows, channels, {grads.beta.data(), products.data()},
                        [&](std::size_t row, std::size_t count, std::size_t c, std::size_t width, double** to) {
                            const std::size_t at = row * channels + c;
                            kernels::channel_products<Arch>(grad_y.data() + at, u.data() + at, count, channels, width,
                                                            to[0], to[1]);
                        });
    for (std::size_t c = 0; c < channels; ++c) {
        const detail::normalized_channel own(norm, c);
        const double sum = grads.beta[c];
        const double cube = own.sigma * own.sigma * own.sigma;
        scale[c] = own.correction;
        grads.gamma[c] = -sum * own.mean / own.sigma;
        grads.batch_mean[c] = norm.frozen ? 0 : -sum * own.gamma / own.sigma;
        grads.batch_variance[c] =
            norm.frozen ? 0 : (sum * own.gamma * own.mean - products[c] * own.moving_sigma) / (2 * cube);
    }
    detail::affine_rows<Arch>(grad_y, grad_u, nullptr, scale, nullptr, run);
}

}  // namespace po2quant
