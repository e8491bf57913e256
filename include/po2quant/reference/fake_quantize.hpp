#pragma once
/// Fake quantization and its gradient, element by element: the specification of kernels/fake_quantize*.hpp.
#include <cstdint>
#include <span>

#include <po2quant/numerics/quantizer.hpp>

namespace po2quant::reference {

inline void fake_quantize(std::span<const float> input, std::span<float> output, const quantizer& q) {
    for (std::size_t i = 0; i < input.size(); ++i) output[i] = po2quant::fake_quantize(input[i], q, i);
}

inline void fake_quantize_backward(std::span<const float> input, std::span<const float> grad_output,
                                   std::span<float> grad_input, const quantizer& q, ste estimator) {
    for (std::size_t i = 0; i < input.size(); ++i)
        grad_input[i] = fake_quantize_gradient(input[i], grad_output[i], q, estimator, i);
}

/// The quantizer of element i of data [outer][channels][inner] with one exponent per channel.
inline quantizer quantizer_of(std::size_t i, const quantizer& q, std::span<const int> exponents, std::size_t inner) {
    quantizer own = q;
    own.exponent = exponents[i / inner % exponents.size()];
    return own;
}

inline void fake_quantize_channels(std::span<const float> input, std::span<float> output, const quantizer& q,
                                   std::span<const int> exponents, std::size_t inner) {
    for (std::size_t i = 0; i < input.size(); ++i)
        output[i] = po2quant::fake_quantize(input[i], quantizer_of(i, q, exponents, inner), i);
}

inline void fake_quantize_backward_channels(std::span<const float> input, std::span<const float> grad_output,
                                            std::span<float> grad_input, const quantizer& q, ste estimator,
                                            std::span<const int> exponents, std::size_t inner) {
    for (std::size_t i = 0; i < input.size(); ++i)
        grad_input[i] =
            fake_quantize_gradient(input[i], grad_output[i], quantizer_of(i, q, exponents, inner), estimator, i);
}

}  // namespace po2quant::reference
