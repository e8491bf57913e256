// Compiled once for each instruction set: po2quant's functions run for that of the flags.
#include "passes.hpp"

#include <po2quant/po2quant.hpp>

namespace pq = po2quant;

template <class Arch>
std::vector<float> passes<Arch>::on_grid(const std::vector<float>& x, int exponent) {
    std::vector<float> out(x.size());
    pq::fake_quantize(x, out, {.exponent = exponent});
    return out;
}

template <class Arch>
std::vector<std::int8_t> passes<Arch>::doubled_codes(const std::vector<float>& x, int exponent) {
    std::vector<std::int8_t> codes(x.size());
    pq::quantize(x, codes, {.exponent = exponent});
    std::vector<std::int8_t> sums(x.size());
    pq::add(codes, codes, sums, {.a_exponent = exponent, .b_exponent = exponent, .output_exponent = exponent});
    return sums;
}

template struct passes<po2quant::default_arch>;
