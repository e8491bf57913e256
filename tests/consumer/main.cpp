// A user's program: nothing but the public target and the umbrella header.
#include <po2quant/po2quant.hpp>

#include <cstdio>
#include <vector>

int main() {
    std::vector<float> x{0.1F, 0.26F, -3.0F, 100.0F};
    po2quant::fake_quantize(x, x, {.format = po2quant::int8, .exponent = -2});
    const bool right = x == std::vector<float>{0.0F, 0.25F, -3.0F, 31.75F};
    std::printf("po2quant %d.%d.%d, %s: %s\n", PO2Q_VERSION_MAJOR, PO2Q_VERSION_MINOR, PO2Q_VERSION_PATCH,
                po2quant::default_arch::name, right ? "right" : "wrong");
    return right ? 0 : 1;
}
