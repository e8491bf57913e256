// Train with a power-of-two grid, deploy with integers, get the same bits.
#include <cstdio>
#include <random>
#include <vector>

#include <po2quant/po2quant.hpp>

namespace pq = po2quant;

int main() {
    // Some activations and weights, as a training loop would hold them: 8×8 pixels of 16 channels, 3×3 kernels, 32 outputs.
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    std::vector<float> activations(8 * 8 * 16);
    std::vector<float> weights(3 * 3 * 16 * 32);
    for (float& v : activations) v = normal(random);
    for (float& v : weights) v = 0.1F * normal(random);

    // Training: track the range, pick the exponent, put the values on the grid, pass the gradient where they were not cut.
    pq::ema_range range{.decay = 0.99F};
    range.observe(activations);
    const pq::quantizer q{.format = pq::int8, .exponent = range.exponent(pq::int8)};
    std::vector<float> on_grid(activations.size());
    pq::fake_quantize(activations, on_grid, q);
    std::vector<float> gradient(activations.size(), 1.0F);
    pq::fake_quantize_backward(activations, gradient, gradient, q, {.estimator = pq::ste::clip_code});

    // Export: the same grid as integers.
    const pq::quantizer weight_q{.exponent = pq::exponent_for(pq::observe(weights), pq::int8)};
    std::vector<std::int8_t> input(activations.size());
    std::vector<std::int8_t> packed(weights.size());
    pq::quantize(activations, input, q);
    pq::quantize(weights, packed, weight_q);
    const std::vector<std::int16_t> bias(32, 100);

    // Deployment: pack once, run many. The whole rescale is a shift.
    pq::conv2d_shape shape{.input = {.height = 8, .width = 8, .channels = 16}, .outputs = 32, .window = {.kernel = {3, 3}}};
    shape.window.padding = pq::same_padding(shape.input, shape.window);
    const int weight_exponents[] = {weight_q.exponent};
    const int bias_exponents[] = {-12};
    const pq::conv2d layer(shape, packed, bias,
                           {.input_exponent = q.exponent, .weight_exponents = weight_exponents,
                            .bias_exponents = bias_exponents, .output_exponent = -4, .clamp = pq::activation::relu6});
    std::vector<std::int8_t> output(static_cast<std::size_t>(layer.output().elements()));
    layer.run(input, output);

    std::printf("activations 2^%d, weights 2^%d, kernels %s\n", q.exponent, weight_q.exponent, layer.arch());
    std::printf("accumulators need %d bits; float32 training %s\n", layer.certificate().bits,
                layer.certificate().float32_exact ? "gives the same bits" : "may round");
    std::printf("first outputs: %d %d %d %d\n", output[0], output[1], output[2], output[3]);
}
