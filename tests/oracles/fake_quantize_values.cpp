// fake_quantize_values BITS SIGNED NARROW EXPONENT: floats from standard input; to standard output their fake-quantized
// values, then their gradients where the upstream one is 1 and clipping is by ranges. For the oracles in this folder.
#include <po2quant/training/fake_quantize.hpp>
#include <po2quant/training/fake_quantize_backward.hpp>

#include <cstdio>
#include <cstdlib>
#include <vector>

int main(int argc, char** argv) {
    if (argc != 5) {
        std::fprintf(stderr, "usage: %s BITS SIGNED NARROW EXPONENT\n", argv[0]);
        return 2;
    }
    const po2quant::quantizer q{.format = {.bits = std::atoi(argv[1]),
                                           .is_signed = std::atoi(argv[2]) != 0,
                                           .narrow_range = std::atoi(argv[3]) != 0},
                                .exponent = std::atoi(argv[4])};
    std::vector<float> x;
    float part[4096];
    for (std::size_t n; (n = std::fread(part, sizeof(float), std::size(part), stdin)) > 0;)
        x.insert(x.end(), part, part + n);
    std::vector<float> y(x.size());
    std::vector<float> dx(x.size());
    const std::vector<float> dy(x.size(), 1.0F);
    po2quant::fake_quantize(x, y, q);
    po2quant::fake_quantize_backward(x, dy, dx, q, {.estimator = po2quant::ste::clip_range});
    for (const std::vector<float>* v : {&y, &dx})
        if (std::fwrite(v->data(), sizeof(float), v->size(), stdout) != v->size()) return 1;
    return 0;
}
