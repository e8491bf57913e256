#pragma once
/// Random layers: geometry, weights, exponents, bias and rounding that reach every path of the convolutions, and an
/// account of their worst sums that shares nothing with the library's.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <po2quant/reference/conv2d.hpp>

#include "support/executors.hpp"
#include "support/random.hpp"

namespace po2quant::test {

/// Codes of a format: extremes are as likely as all else together, and now and then all codes are one extreme, so that
/// sums and saturation are tested at their ends.
template <class T>
void fill(std::vector<T>& codes, random_source& random, integer_format format = {.bits = 8 * sizeof(T)}) {
    const auto kind = random.integer(0, 15);
    for (T& c : codes) {
        const bool extreme = kind <= 1 || random.integer(0, 3) == 0;
        const bool low = kind <= 1 ? kind == 0 : random.integer(0, 1) == 0;
        c = static_cast<T>(extreme ? (low ? format.qmin() : format.qmax())
                                   : random.integer(format.qmin(), format.qmax()));
    }
}

/// Channel counts around registers and blocks.
inline std::int64_t random_channels(random_source& random) {
    static constexpr std::int64_t edges[] = {1,  2,  3,  4,  5,  7,  8,  9,  15, 16, 17,
                                             24, 31, 32, 33, 40, 63, 64, 65, 72, 96, 130};
    return random.integer(0, 1) ? random.one_of(edges) : random.integer(1, 50);
}

/// Any kernel, stride, dilation and asymmetric padding, kernels larger than the image among them; at least one output.
/// Half of them as networks have them: square, 3 or 5, moving by 1 or 2.
inline window2d random_window(random_source& random, const nhwc& input) {
    while (random.integer(0, 3) != 0) {
        window2d w{.kernel = {random.integer(1, 7), random.integer(1, 7)},
                   .stride = {random.integer(1, 4), random.integer(1, 4)},
                   .dilation = {random.integer(1, 3), random.integer(1, 3)}};
        if (random.integer(0, 1)) {
            const std::int64_t kernel = random.integer(1, 2) * 2 + 1;
            const std::int64_t stride = random.integer(1, 2);
            w = {.kernel = {kernel, kernel}, .stride = {stride, stride}, .dilation = {1, random.integer(0, 3) ? 1 : 2}};
        }
        const auto pad = [&](std::int64_t kernel, std::int64_t dilation) {
            return random.integer(0, 3) == 0 ? 0 : random.integer(0, dilated_kernel(kernel, dilation) - 1);
        };
        w.padding = {pad(w.kernel.height, w.dilation.height), pad(w.kernel.height, w.dilation.height),
                     pad(w.kernel.width, w.dilation.width), pad(w.kernel.width, w.dilation.width)};
        const extent2d out = output_extent(input, w);
        if (out.height > 0 && out.width > 0) return w;
    }
    return {};
}

/// Now and then taller than a strip of rows.
inline nhwc random_input(random_source& random) {
    if (random.integer(0, 7) == 0) return {1, random.integer(14, 60), random.integer(1, 5), random_channels(random)};
    return {random.integer(1, 2), random.integer(1, 13), random.integer(1, 13), random_channels(random)};
}

/// A convolution that the reference computes in a millisecond or so.
inline conv2d_shape random_conv2d_shape(random_source& random) {
    for (;;) {
        conv2d_shape s{.input = random_input(random), .outputs = random_channels(random)};
        // Few channels to few, in rows that are wide enough for registers of pixels.
        const bool wide = random.integer(0, 3) == 0;
        if (wide) {
            s.input = {random.integer(1, 2), random.integer(1, 6), random.integer(16, 110), random.integer(1, 8)};
            s.outputs = random.integer(0, 1) ? 8 : random.integer(1, 9);
            if (s.input.channels % 2 == 0 && s.outputs % 2 == 0) s.groups = random.integer(1, 2);
        } else if (random.integer(0, 3) == 0) {
            s.groups = random.integer(2, 5);
            s.input.channels = s.groups * random.integer(1, 9);
            s.outputs = s.groups * random.integer(1, 20);
        }
        s.window = random_window(random, s.input);
        if (s.macs() <= 1000000) return s;
    }
}

inline depthwise_conv2d_shape random_depthwise_shape(random_source& random) {
    for (;;) {
        // Few channels that move by two pixels, wide enough for vectors of several pixels.
        if (random.integer(0, 7) == 0) {
            const std::int64_t kernel = random.integer(1, 2) * 2 + 1;
            const std::int64_t side = kernel - 1;
            depthwise_conv2d_shape s{
                .input = {random.integer(1, 2), random.integer(1, 9), random.integer(5, 45), 8 * random.integer(1, 5)},
                .window = {.kernel = {kernel, kernel}, .stride = {2, 2}}};
            s.window.dilation.width = random.integer(0, 3) == 0 ? 2 : 1;
            s.window.padding = {random.integer(0, side), random.integer(0, side), random.integer(0, side),
                                random.integer(0, side)};
            const nhwc out = s.output();
            if (out.height > 0 && out.width > 0) return s;
        }
        depthwise_conv2d_shape s{.input = random_input(random),
                                 .multiplier = random.integer(0, 1) ? 1 : random.integer(2, 4)};
        s.window = random_window(random, s.input);
        if (s.macs() <= 300000) return s;
    }
}

/// The same, and layers whose rows are walked in parts, of channels in parts. The digests are of the others.
inline depthwise_conv2d_shape random_walked_shape(random_source& random) {
    while (random.integer(0, 3) == 0) {
        const std::int64_t kernel = random.integer(1, 2) * 2 + 1;
        const std::int64_t side = kernel - 1;
        const std::int64_t stride = random.integer(1, 2);
        depthwise_conv2d_shape s{
            .input = {1, random.integer(1, 6), random.integer(1, 150), random.integer(1, 300)},
            .window = {.kernel = {kernel, kernel}, .stride = {stride, random.integer(0, 3) == 0 ? 1 : stride}}};
        s.window.dilation.height = random.integer(0, 3) == 0 ? 2 : 1;
        s.window.padding = {random.integer(0, side), random.integer(0, side), random.integer(0, side),
                            random.integer(0, side)};
        const nhwc out = s.output();
        if (out.height > 0 && out.width > 0 && s.macs() <= 1000000) return s;
    }
    return random_depthwise_shape(random);
}

/// Exponents, bias and rounding of a layer with `outputs` output channels, with the memory that spans point to.
struct random_requantization {
    std::vector<int> weight_exponents;
    std::vector<int> bias_exponents;
    std::vector<std::int16_t> bias_i16;
    std::vector<std::int32_t> bias_i32;
    requantization q;

    random_requantization(random_source& random, std::int64_t outputs) {
        // Mostly as networks have them; sometimes as far apart as exponents go: shifts of -300..300.
        const bool wild = random.integer(0, 7) == 0;
        const auto exponents = [&](std::int64_t low, std::int64_t high) {
            std::vector<int> all(static_cast<std::size_t>(random.integer(0, 1) ? outputs : 1));
            for (int& e : all)
                e = static_cast<int>(wild && random.integer(0, 3) == 0 ? random.integer(-100, 100)
                                                                       : random.integer(low, high));
            return all;
        };
        weight_exponents = exponents(-9, -6);
        q.input_exponent = exponents(-7, -3)[0];
        // Sums are on a grid of -16..-9: biases both finer and coarser.
        bias_exponents = exponents(-20, -6);
        q.output_exponent = exponents(-6, -1)[0];
        if (random.integer(0, 5) == 0) q.output_exponent = static_cast<int>(random.integer(-60, 30));
        const auto kind = random.integer(0, 2);
        if (kind == 1) bias_i16.resize(static_cast<std::size_t>(outputs));
        if (kind == 2) bias_i32.resize(static_cast<std::size_t>(outputs));
        fill(bias_i16, random);
        const auto any = random.integer(0, 9) == 0;
        for (auto& b : bias_i32)
            b = static_cast<std::int32_t>(
                any ? random.integer(std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max())
                    : random.integer(-1000000, 1000000));
        q.weight_exponents = weight_exponents;
        q.bias_exponents = bias_exponents;
        q.clamp = static_cast<activation>(random.integer(0, 2));
        q.mode = static_cast<rounding>(random.integer(0, 3));
        if (random.integer(0, 3) == 0)
            q.output_format = {.bits = static_cast<int>(random.integer(2, 8)),
                               .narrow_range = random.integer(0, 1) == 1};
        if (random.integer(0, 3) == 0)
            q.input_format = {.bits = static_cast<int>(random.integer(2, 8)),
                              .narrow_range = random.integer(0, 1) == 1};
        // Never negative.
        if (random.integer(0, 3) == 0)
            q.input_format = {.bits = static_cast<int>(random.integer(2, 7)), .is_signed = false};
        if (random.integer(0, 7) == 0)
            q.output_format = {.bits = static_cast<int>(random.integer(2, 7)), .is_signed = false};
    }
    random_requantization(const random_requantization&) = delete;

    bias_codes bias() const {
        if (!bias_i16.empty()) return bias_i16;
        if (!bias_i32.empty()) return bias_i32;
        return {};
    }
};

/// The worst sums of one output channel, by the definition: products at the end of the input format that helps, the
/// aligned bias, half_up's constant; each left out where it would help the other side. In long double, so that what
/// does not fit is seen and what fits is exact.
class worst_sum {
public:
    explicit worst_sum(const requantization& q) : q_(q) {}
    void add_weight(std::int8_t w) {
        add(w * (w > 0 ? q_.input_format.qmax() : q_.input_format.qmin()));
        add(w * (w > 0 ? q_.input_format.qmin() : q_.input_format.qmax()));
    }
    /// The rest of channel o.
    void finish(const bias_codes& bias, std::size_t o) {
        const auto pick = [o](std::span<const int> all) { return all.size() == 1 ? all[0] : all[o]; };
        const int grid = q_.input_exponent + pick(q_.weight_exponents);
        if (!bias.empty())
            add(std::floor(std::ldexp(static_cast<long double>(bias[o]), pick(q_.bias_exponents) - grid)));
        const int shift = q_.output_exponent - grid;
        if (q_.mode == rounding::half_up && shift >= 1 && shift <= 31) add(std::ldexp(0.5L, shift));
    }
    long double magnitude() const { return std::max(high_, -low_); }

private:
    void add(long double term) { (term < 0 ? low_ : high_) += term; }

    const requantization& q_;
    long double low_ = 0;
    long double high_ = 0;
};

/// Of all output channels; weights in the layout hwio.
inline std::vector<long double> worst_sums(const conv2d_shape& s, const std::vector<std::int8_t>& hwio,
                                           const requantization& q, const bias_codes& bias) {
    std::vector<worst_sum> all(static_cast<std::size_t>(s.outputs), worst_sum(q));
    for (std::size_t i = 0; i < hwio.size(); ++i) all[i % all.size()].add_weight(hwio[i]);
    std::vector<long double> magnitudes;
    for (std::size_t o = 0; o < all.size(); ++o) {
        all[o].finish(bias, o);
        magnitudes.push_back(all[o].magnitude());
    }
    return magnitudes;
}

/// Weights [KH][KW][Cin/groups][Cout] written down in another layout, by the loops of that layout.
inline std::vector<std::int8_t> in_layout(weight_layout layout, extent2d kernel, std::int64_t inputs,
                                          std::int64_t outputs, const std::vector<std::int8_t>& hwio) {
    std::vector<std::int8_t> all;
    const auto take = [&](std::int64_t y, std::int64_t x, std::int64_t c, std::int64_t o) {
        all.push_back(hwio[static_cast<std::size_t>(((y * kernel.width + x) * inputs + c) * outputs + o)]);
    };
    if (layout == weight_layout::hwio) return hwio;
    for (std::int64_t o = 0; o < outputs; ++o) {
        if (layout == weight_layout::ohwi)
            for (std::int64_t y = 0; y < kernel.height; ++y)
                for (std::int64_t x = 0; x < kernel.width; ++x)
                    for (std::int64_t c = 0; c < inputs; ++c) take(y, x, c, o);
        else
            for (std::int64_t c = 0; c < inputs; ++c)
                for (std::int64_t y = 0; y < kernel.height; ++y)
                    for (std::int64_t x = 0; x < kernel.width; ++x) take(y, x, c, o);
    }
    return all;
}

/// Mostly the calling thread, tasks shuffled; sometimes several threads.
inline test_executor random_executor(random_source& random) {
    static const std::vector<test_executor> all = executors();
    return random.integer(0, 9) == 0 ? random.one_of(all) : test_executor{};
}

}  // namespace po2quant::test
