#pragma once
/// A network of layers.hpp; networks.py has the same under the same names.
#include "layers.hpp"

namespace po2quant_torch {

inline constexpr std::int64_t first_and_last_bits = 8;  ///< of weights; what is between has the scheme's

/// MobileNetV1 of a quarter of the channels, up to 256; of its five strides of 2 the stem's and three more are left.
/// For images of 28 or 32 pixels, of which 2x2 reach the pool. Without a scheme it is float32.
class MobileNetV1Impl : public torch::nn::Module {
public:
    MobileNetV1Impl(std::int64_t channels, std::int64_t classes, const std::optional<Scheme>& scheme = {});
    Tensor forward(const Tensor& x) { return classifier(pool(features->forward(x))); }

    torch::nn::Sequential features;
    GlobalAveragePool pool;
    Linear classifier;
};
TORCH_MODULE(MobileNetV1);

}  // namespace po2quant_torch
