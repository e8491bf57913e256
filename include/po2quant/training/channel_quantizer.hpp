#pragma once
/// One exponent per channel, and how training ops cut a tensor into tasks and runs of one channel.
#include <algorithm>
#include <cstdint>
#include <span>

#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/parallel.hpp>
#include <po2quant/tensor/check.hpp>

namespace po2quant {

/// A quantizer whose exponent depends on the channel. The data is [outer][channels][inner], in elements, with
/// channels = exponents.size() and outer = size / (channels * inner):
///
///   inner = 1                  channel innermost: NHWC activations, HWIO weights
///   inner = size / channels    channel outermost: OIHW weights
///   anything between           e.g. NCHW activations: inner = height * width
struct channel_quantizer {
    integer_format format = int8;
    std::span<const int> exponents = {};
    std::int64_t inner = 1;
    rounding mode = rounding::half_up;
    std::uint64_t seed = 0;
};

namespace detail {

/// Calls f(begin, count, channel) for the runs of one channel inside a task.
template <class F>
void for_each_run(element_range task, std::size_t inner, std::size_t channels, F&& f) {
    for (std::size_t i = task.begin; i < task.end;) {
        const std::size_t count = std::min(task.end - i, inner - i % inner);
        f(i, count, i / inner % channels);
        i += count;
    }
}

PO2Q_INLINE void check_exponent(const char* function, const char* argument, int exponent) {
    check_range(function, argument, exponent, min_exponent, max_exponent);
}

PO2Q_INLINE void check_format(const char* function, integer_format format) {
    check_range(function, "format.bits", format.bits, min_bits, max_bits);
    if (!format.is_signed && format.narrow_range) [[unlikely]]
        fail(function, "format.narrow_range", "true for an unsigned format", "signed formats only");
}

PO2Q_INLINE void check_rounding(const char* function, rounding mode) {
    check_range(function, "mode", static_cast<int>(mode), 0, static_cast<int>(rounding::stochastic));
}

PO2Q_INLINE void check_quantizer(const char* function, const quantizer& q, std::size_t) {
    check_format(function, q.format);
    check_exponent(function, "exponent", q.exponent);
    check_rounding(function, q.mode);
}

/// `elements` must be a whole number of [channels][inner] blocks.
inline void check_channels(const char* function, std::size_t elements, std::size_t channels, std::int64_t inner) {
    if (channels == 0) fail(function, "number of channels", "0", "1 or more");
    check_range(function, "inner", inner, 1, std::max<std::int64_t>(1, static_cast<std::int64_t>(elements)));
    std::size_t block = 0;
    if (__builtin_mul_overflow(channels, static_cast<std::size_t>(inner), &block) || elements % block != 0)
        fail(function, "size", text(elements), text("multiples of channels * inner = ", channels, " * ", inner));
}

inline void check_channel_exponents(const char* function, const channel_quantizer& q, std::size_t elements) {
    check_channels(function, elements, q.exponents.size(), q.inner);
    check_span(function, "exponents", q.exponents, q.exponents.size());
    for (std::size_t c = 0; c < q.exponents.size(); ++c)
        if (q.exponents[c] < min_exponent || q.exponents[c] > max_exponent)
            check_exponent(function, text("exponents[", c, "]").c_str(), q.exponents[c]);
}

inline void check_quantizer(const char* function, const channel_quantizer& q, std::size_t elements) {
    check_format(function, q.format);
    check_channel_exponents(function, q, elements);
    check_rounding(function, q.mode);
}

PO2Q_INLINE void check_estimator(const char* function, ste estimator) {
    check_range(function, "estimator", static_cast<int>(estimator), 0, static_cast<int>(ste::pact));
}

/// All codes of a format must fit [low, high], those of an element type.
inline void check_code_range(const char* function, integer_format format, int low, int high) {
    if (format.qmin() < low || format.qmax() > high)
        fail(function, "format", text(format.qmin(), "..", format.qmax()),
             text("inside the element type, ", low, "..", high));
}

/// Whether gradients pass by the codes themselves, not by an interval of inputs.
constexpr bool passes_by_code(rounding mode, ste estimator) {
    return mode == rounding::stochastic && estimator == ste::clip_code;
}

/// with_shift_rounding of all modes.
template <class F>
decltype(auto) with_rounding(rounding mode, F&& f) {
    if (mode == rounding::stochastic) return f(std::integral_constant<rounding, rounding::stochastic>{});
    return with_shift_rounding(mode, f);
}

}  // namespace detail
}  // namespace po2quant
