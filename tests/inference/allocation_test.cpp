// No op allocates when it runs. This program counts its allocations.
#include <atomic>
#include <cstdlib>
#include <new>

#include <po2quant/po2quant.hpp>

#include "inference/kernels.hpp"
#include "support/catch.hpp"

namespace {

std::atomic<std::size_t> allocations = 0;  // other tests start threads

void* counted(void* p) {
    ++allocations;
    if (p == nullptr) throw std::bad_alloc();
    return p;
}

}  // namespace

// Out of line: g++ takes a free() that it sees beside a new-expression for a mistake.
#define PO2QUANT_NOT_INLINE __attribute__((noinline))
PO2QUANT_NOT_INLINE void* operator new(std::size_t n) { return counted(std::malloc(n)); }
PO2QUANT_NOT_INLINE void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    ++allocations;
    return std::malloc(n);
}
PO2QUANT_NOT_INLINE void* operator new(std::size_t n, std::align_val_t a) {
    const auto align = static_cast<std::size_t>(a);
    return counted(std::aligned_alloc(align, (n + align - 1) / align * align));
}
PO2QUANT_NOT_INLINE void operator delete(void* p) noexcept { std::free(p); }
PO2QUANT_NOT_INLINE void operator delete(void* p, std::size_t) noexcept { std::free(p); }
PO2QUANT_NOT_INLINE void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
PO2QUANT_NOT_INLINE void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
PO2QUANT_NOT_INLINE void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

namespace po2quant::test {
namespace {

TEST_CASE("ops allocate nothing when they run") {
    const window2d same{.kernel = {3, 3}, .padding = {1, 1, 1, 1}};
    const conv2d_shape s{.input = {2, 9, 9, 20}, .outputs = 70, .window = same};
    const depthwise_conv2d_shape d{.input = s.input, .window = same};
    const pool_shape p{s.input, same};
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()), 3);
    const int e7[] = {-7};
    const std::vector<int> exponents(20, -3);
    std::vector<std::int8_t> x(static_cast<std::size_t>(s.input.elements()), 5);
    std::vector<std::int16_t> x_wide(x.size(), 500);
    std::vector<std::int8_t> y(static_cast<std::size_t>(s.output().elements()));
    const std::vector<std::int8_t> y_residual(y.size(), 9);
    std::vector<std::int8_t> z(x.size());
    std::vector<std::int16_t> z_wide(2 * x.size());
    std::vector<std::int32_t> sums(y.size());
    std::vector<float> floats(x.size());
    const concat_part<std::int8_t> parts[] = {{x, 20, -3}, {z, 20, -4}};
    for (const rounding mode : {rounding::half_up, rounding::half_even}) {
        requantization q{.input_exponent = -4, .weight_exponents = e7, .output_exponent = -4, .mode = mode};
        const conv2d layer = make_layer(s, weights, {}, q);
        const depthwise_conv2d depthwise =
            make_layer(d, std::span(weights).first(static_cast<std::size_t>(d.weights())), {}, q);
        const separable_conv2d pair(
            depthwise, make_layer({.input = s.input, .outputs = 20}, std::span(weights).first(20 * 20), {}, q));
        q.input_format = int16;
        const conv2d wide = make_layer(s, weights, {}, q);
        const std::size_t before = allocations;
        layer.run(x, y);
        layer.accumulate(x, sums);
        wide.run(x_wide, y);
        wide.accumulate(x_wide, sums);
        depthwise.run(x, z);
        depthwise.accumulate(x, std::span(sums).first(x.size()));
        pair.run(x, z);
        layer.run_add(x, y_residual, y, {.a_exponent = -4, .output_exponent = 1, .mode = mode});
        average_pool(p, x, z);
        average_pool(p, x, std::span(sums).first(x.size()));
        max_pool(p, x, z);
        add(x, z, z, {.output_exponent = 1, .mode = mode});
        requantize(x, z, {.output_exponent = 1, .mode = mode});
        concat(std::span<const concat_part<std::int8_t>>(parts), 2 * 9 * 9, z_wide,
               {.output_exponent = -4, .mode = mode});
        dequantize(x, floats, -4);
        fake_quantize(floats, floats, {.exponent = -3, .mode = mode});
        fake_quantize(floats, floats, channel_quantizer{.exponents = exponents, .mode = mode});
        fake_quantize_backward(floats, floats, floats, {.exponent = -3, .mode = mode});
        quantize(floats, x, {.exponent = -3, .mode = mode});
        observe(floats);
        CHECK(allocations == before);
    }
    CHECK(allocations > 0);
}

}  // namespace
}  // namespace po2quant::test
