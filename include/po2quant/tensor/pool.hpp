#pragma once
/// Shape of a pooling op. Plain data.
#include <po2quant/tensor/window.hpp>

namespace po2quant {

/// Input (NHWC) and window; the output has the input's channels.
struct pool_shape {
    nhwc input;
    window2d window = {};

    constexpr nhwc output() const {
        const extent2d e = output_extent(input, window);
        return {input.batch, e.height, e.width, input.channels};
    }
};

/// The mean of `area` codes from their sum, rounded half up, in two widths:
///   int8 form, exponent e_x:       floor((2·sum + area) / (2·area))
///   int16 form, exponent e_x − 8:  floor((2·256·sum + area) / (2·area))
/// `fraction_bits` is 0 or 8.
PO2Q_INLINE constexpr std::int64_t rounded_mean(std::int64_t sum, std::int64_t area, int fraction_bits) {
    const std::int64_t numerator = 2 * (sum * (std::int64_t{1} << fraction_bits)) + area;
    const std::int64_t quotient = numerator / (2 * area);
    return numerator % (2 * area) < 0 ? quotient - 1 : quotient;
}

}  // namespace po2quant
