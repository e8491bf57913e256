#pragma once
/// A trained network as a device would hold it: codes, exponents and po2quant's integer kernels.
#include <functional>
#include <vector>

#include "networks.hpp"

namespace po2quant_torch {

struct IntegerLayer {
    std::string name;
    std::function<Tensor(const Tensor&)> fake_quantized;  ///< the layer that this one was made from
    int exponent;                                         ///< of the output
    bool exact;                                  ///< whether the certificate says that float32 gives the same bits
    Tensor output;                               ///< int8 codes in channels_last, of the classifier floats
    std::function<void(const Tensor&)> compute;  ///< writes `output` from the codes of the layer before
};

/// The layers of `network`, in evaluation mode, for input codes of `sizes`, [n][channels][height][width].
std::vector<IntegerLayer> integer_layers(MobileNetV1 network, at::IntArrayRef sizes);

}  // namespace po2quant_torch
