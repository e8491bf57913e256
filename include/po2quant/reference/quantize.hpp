#pragma once
/// Codes from floats and back, element by element: the specification of kernels/quantize.hpp.
#include <po2quant/reference/fake_quantize.hpp>

namespace po2quant::reference {

template <class Code>
void quantize(std::span<const float> input, std::span<Code> codes, const quantizer& q) {
    for (std::size_t i = 0; i < input.size(); ++i) codes[i] = static_cast<Code>(po2quant::quantize(input[i], q, i));
}

template <class Code>
void quantize_channels(std::span<const float> input, std::span<Code> codes, const quantizer& q,
                       std::span<const int> exponents, std::size_t inner) {
    for (std::size_t i = 0; i < input.size(); ++i)
        codes[i] = static_cast<Code>(po2quant::quantize(input[i], quantizer_of(i, q, exponents, inner), i));
}

template <class Code>
void dequantize(std::span<const Code> codes, std::span<float> output, int exponent) {
    for (std::size_t i = 0; i < codes.size(); ++i) output[i] = po2quant::dequantize(codes[i], exponent);
}

template <class Code>
void dequantize_channels(std::span<const Code> codes, std::span<float> output, std::span<const int> exponents,
                         std::size_t inner) {
    for (std::size_t i = 0; i < codes.size(); ++i)
        output[i] = po2quant::dequantize(codes[i], exponents[i / inner % exponents.size()]);
}

}  // namespace po2quant::reference
