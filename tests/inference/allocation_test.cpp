// No op of networks of integers allocates when it runs.
#include <po2quant/inference/add.hpp>
#include <po2quant/inference/average_pool.hpp>
#include <po2quant/inference/concat.hpp>
#include <po2quant/inference/max_pool.hpp>
#include <po2quant/inference/requantize.hpp>
#include <po2quant/inference/separable_conv2d.hpp>
#include <po2quant/training/quantize.hpp>

#include "inference/kernels.hpp"
#include "support/allocations.hpp"
#include "support/catch.hpp"

namespace po2quant::test {
namespace {

TEST_CASE("ops allocate nothing when they run") {
    const window2d same{.kernel = {3, 3}, .padding = {1, 1, 1, 1}};
    const conv2d_shape s{.input = {2, 9, 9, 20}, .outputs = 70, .window = same};
    const depthwise_conv2d_shape d{.input = s.input, .window = same};
    const pool_shape p{s.input, same};
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()), 3);
    const int e7[] = {-7};
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
        const std::size_t before = allocations();
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
        CHECK(allocations() == before);
    }
    CHECK(allocations() > 0);
}

}  // namespace
}  // namespace po2quant::test
