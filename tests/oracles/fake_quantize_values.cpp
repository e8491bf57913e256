// fake_quantize_values BITS SIGNED NARROW EXPONENT MODE ESTIMATOR: n floats and their n upstream gradients from
// standard input; to standard output y [n] and dx [n] as float32, then the threshold's S as float64. For the oracles
// beside it.
//
//   MODE half_up | half_even          ESTIMATOR clip_code | clip_range
#include <po2quant/training/threshold_gradient.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <po2quant/training/fake_quantize.hpp>

namespace {

bool write(const void* p, std::size_t bytes) { return std::fwrite(p, 1, bytes, stdout) == bytes; }

int usage(const char* program) {
    std::fprintf(stderr, "usage: %s BITS SIGNED NARROW EXPONENT half_up|half_even clip_code|clip_range\n", program);
    return 2;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7) return usage(argv[0]);
    const bool even = std::strcmp(argv[5], "half_even") == 0;
    const bool by_range = std::strcmp(argv[6], "clip_range") == 0;
    if ((!even && std::strcmp(argv[5], "half_up") != 0) || (!by_range && std::strcmp(argv[6], "clip_code") != 0))
        return usage(argv[0]);
    const po2quant::quantizer q{.format = {.bits = std::atoi(argv[1]),
                                           .is_signed = std::atoi(argv[2]) != 0,
                                           .narrow_range = std::atoi(argv[3]) != 0},
                                .exponent = std::atoi(argv[4]),
                                .mode = even ? po2quant::rounding::half_even : po2quant::rounding::half_up};
    std::vector<float> given;
    float part[4096];
    for (std::size_t n; (n = std::fread(part, sizeof(float), std::size(part), stdin)) > 0;)
        given.insert(given.end(), part, part + n);
    const std::span<const float> x = std::span<const float>(given).first(given.size() / 2);
    const std::span<const float> dy = std::span<const float>(given).subspan(x.size(), x.size());
    std::vector<float> y(x.size());
    std::vector<float> dx(x.size());
    po2quant::fake_quantize(x, y, q);
    const double sum = po2quant::fake_quantize_backward_threshold(
        x, dy, dx, q, po2quant::threshold_term::error,
        {.estimator = by_range ? po2quant::ste::clip_range : po2quant::ste::clip_code});
    const bool written = write(y.data(), y.size() * sizeof(float)) && write(dx.data(), dx.size() * sizeof(float)) &&
                         write(&sum, sizeof(sum));
    return written ? 0 : 1;
}
