// The table of one instruction set; see kernel_table.hpp.
#include "dot_products.hpp"
#include "kernel_table.hpp"
#include "shapes.hpp"

#include <po2quant/kernels/exponent_histogram.hpp>
#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/kernels/fake_quantize_backward.hpp>
#include <po2quant/kernels/minmax.hpp>
#include <po2quant/kernels/quantize.hpp>
#include <po2quant/kernels/requantize.hpp>
#include <po2quant/training/streaming.hpp>

namespace po2quant::bench {
namespace {

using isa = default_arch;
using po2quant::detail::far_bytes;
using po2quant::detail::stream_bytes;

template <rounding Mode, class Storage>
void fake_quantize(const Storage* in, Storage* out, std::size_t n) {
    kernels::forward_extras extras;
    extras.stream = n * sizeof(Storage) >= stream_bytes && in != out;
    kernels::fake_quantize<isa, Mode>(in, out, n, exponent, {-128.0F, 127.0F, 0, 0}, extras);
}
void fake_quantize_observe_mask(const float* in, float* out, std::uint8_t* mask, std::size_t n) {
    kernels::extremes seen;
    kernels::forward_extras extras;
    extras.mask = mask;
    extras.pass = pass_interval(int8, rounding::half_up, ste::clip_code);
    extras.stream = n * sizeof(float) >= stream_bytes;
    extras.seen = &seen;
    kernels::fake_quantize<isa, rounding::half_up>(in, out, n, exponent, {-128.0F, 127.0F, 0, 0}, extras);
    asm volatile("" : : "r"(&seen) : "memory");  // somebody may read it
}

constexpr std::size_t channels = 64;
struct channel_exponents {
    int of[channels];
    constexpr channel_exponents() : of{} {
        for (std::size_t c = 0; c < channels; ++c) of[c] = exponent - static_cast<int>(c % 3);
    }
};
constexpr channel_exponents exponents;

void fake_quantize_channels_inner(const float* in, float* out, std::size_t n) {
    kernels::forward_extras extras;
    extras.stream = n * sizeof(float) >= stream_bytes;
    kernels::fake_quantize_channels<isa, rounding::half_up>(in, out, n, exponents.of, channels, 0,
                                                            {-128.0F, 127.0F, 0, 0}, extras);
}
void fake_quantize_channels_outer(const float* in, float* out, std::size_t n) {
    kernels::forward_extras extras;
    extras.stream = n * sizeof(float) >= stream_bytes;
    const std::size_t inner = n / channels;
    for (std::size_t c = 0; c < channels; ++c)
        kernels::fake_quantize<isa, rounding::half_up>(in + c * inner, out + c * inner, inner, exponents.of[c],
                                                       {-128.0F, 127.0F, 0, c * inner}, extras);
}
void backward_mask(const std::uint8_t* mask, const float* dy, float* dx, std::size_t n) {
    kernels::pass_gradient_masked<isa>(mask, 0, dy, dx, n, n * sizeof(float) >= stream_bytes);
}
double backward_tqt(const float* x, const float* dy, float* dx, std::size_t n) {
    const float_interval pass = pass_interval(int8, rounding::half_up, ste::clip_code);
    const kernels::grid g{-128.0F, 127.0F, 0, 0};
    simd::compensated_lanes<simd::sum_lanes> lanes{};
    kernels::pass_gradient_and_sum<isa, rounding::half_up>(x, dy, dx, 1, 0, n, exponent,
                                                           {g, threshold_term::error, pass, pass, false}, lanes,
                                                           n * sizeof(float) >= stream_bytes);
    return lanes.total(0);
}
void histogram(const float* in, std::size_t n, std::uint64_t* counts) {
    kernels::exponent_histogram<isa>(in, n, counts, n * sizeof(float) >= far_bytes);
}
template <class Storage>
void fake_quantize_backward(const Storage* x, const Storage* dy, Storage* dx, std::size_t n) {
    const float_interval codes = pass_interval(int8, rounding::half_up, ste::clip_code);
    kernels::pass_gradient<isa>(x, dy, dx, n, {codes.low * exp2_float(exponent), codes.high * exp2_float(exponent)},
                                n * sizeof(Storage) >= stream_bytes);
}
float minmax(const float* in, std::size_t n) {
    const kernels::extremes e = kernels::minmax<isa>(in, n, n * sizeof(float) >= far_bytes);
    return e.min + e.max;
}
void quantize(const float* in, std::int8_t* out, std::size_t n) {
    kernels::quantize<isa, rounding::half_up>(in, out, n, exponent, {-128.0F, 127.0F, 0, 0},
                                              n * sizeof(float) >= far_bytes);
}
void dequantize(const std::int8_t* in, float* out, std::size_t n) { kernels::dequantize<isa>(in, out, n, exponent); }
void add(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::size_t n) {
    kernels::add<isa, rounding::half_up>(a, b, out, 1, n, 0, {1, 0, {1, rounding::half_up, {0, 127}}});
}

using batch = simd::f32<isa>;

void read(const float* in, std::size_t n) {
    constexpr std::size_t step = 4 * batch::size;
    batch a(0.0F);
    batch b(0.0F);
    batch c(0.0F);
    batch d(0.0F);
    for (std::size_t i = 0; i + step <= n; i += step) {
        a = a | batch::load_unaligned(in + i);
        b = b | batch::load_unaligned(in + i + batch::size);
        c = c | batch::load_unaligned(in + i + 2 * batch::size);
        d = d | batch::load_unaligned(in + i + 3 * batch::size);
    }
    alignas(64) float sink[16];
    ((a | b) | (c | d)).store_aligned(sink);
    asm volatile("" : : "r"(sink) : "memory");  // somebody may read it
}

void read_write(float* p, std::size_t n) {
    constexpr std::size_t step = 4 * batch::size;
    float nothing = 0;
    asm("" : "+m"(nothing));  // the compiler must not see that nothing changes
    const batch bits(nothing);
    for (std::size_t i = 0; i + step <= n; i += step) {
        const batch v0 = batch::load_unaligned(p + i) | bits;
        const batch v1 = batch::load_unaligned(p + i + batch::size) | bits;
        const batch v2 = batch::load_unaligned(p + i + 2 * batch::size) | bits;
        const batch v3 = batch::load_unaligned(p + i + 3 * batch::size) | bits;
        v0.store_unaligned(p + i);
        v1.store_unaligned(p + i + batch::size);
        v2.store_unaligned(p + i + 2 * batch::size);
        v3.store_unaligned(p + i + 3 * batch::size);
    }
}

void read2_write1(const float* a, const float* b, float* out, std::size_t n) {
    constexpr std::size_t step = 4 * batch::size;
    for (std::size_t i = 0; i + step <= n; i += step) {
        const batch v0 = batch::load_unaligned(a + i) & batch::load_unaligned(b + i);
        const batch v1 = batch::load_unaligned(a + i + batch::size) & batch::load_unaligned(b + i + batch::size);
        const batch v2 =
            batch::load_unaligned(a + i + 2 * batch::size) & batch::load_unaligned(b + i + 2 * batch::size);
        const batch v3 =
            batch::load_unaligned(a + i + 3 * batch::size) & batch::load_unaligned(b + i + 3 * batch::size);
        v0.store_unaligned(out + i);
        v1.store_unaligned(out + i + batch::size);
        v2.store_unaligned(out + i + 2 * batch::size);
        v3.store_unaligned(out + i + 3 * batch::size);
    }
}

}  // namespace

template <class Arch>
kernel_table compiled_kernels::operator()(Arch arch) const {
    return {
        Arch::name,
        &fake_quantize<rounding::half_up, float>,
        &fake_quantize_backward<float>,
        &fake_quantize<rounding::stochastic, float>,
        &fake_quantize<rounding::half_up, bfloat16>,
        &fake_quantize<rounding::half_up, float16>,
        &fake_quantize_backward<bfloat16>,
        &fake_quantize_backward<float16>,
        &fake_quantize_observe_mask,
        &fake_quantize_channels_inner,
        &fake_quantize_channels_outer,
        &backward_mask,
        &backward_tqt,
        &histogram,
        &minmax,
        &quantize,
        &dequantize,
        &add,
        compiled_layer_kernels{}(arch),
        &dot_products<Arch>,
        &read,
        &read_write,
        &read2_write1,
    };
}
template kernel_table compiled_kernels::operator()(isa) const;

}  // namespace po2quant::bench
