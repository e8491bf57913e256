#pragma once
/// Training, step by step, as training.py has it: the same batches, rates and rests, and from the same seed the same
/// bits.
#include <ATen/core/Generator.h>

#include <utility>

#include "networks.hpp"

namespace po2quant_torch {

inline constexpr double float_rate = 0.1;
inline constexpr double tuning_rate = 0.001;

/// Bytes [n][channels][height][width], and int64 classes.
struct Pictures {
    Tensor images;
    Tensor labels;
};

/// Bytes to [-1, 1): the int8 codes of the network's input times 2^-7, exactly. In channels_last.
Tensor as_input(const Tensor& images);

/// Batches of training pictures without end, half of them mirrored, in each epoch as many full ones as there are.
class Batches {
public:
    Batches(Pictures of, std::int64_t size, std::uint64_t seed);
    std::int64_t size() const { return size_; }
    std::pair<Tensor, Tensor> next();

private:
    Pictures pictures_;
    std::int64_t size_;
    at::Generator source_;
    Tensor order_;
    std::int64_t at_ = 0;
};

/// Weights of convolutions lie in memory as activations do.
void to_channels_last(torch::nn::Module& network);

/// Watches ranges as they are behind norms of moving averages.
void calibrate(MobileNetV1 network, Batches& batches, std::int64_t steps);

/// A cycle of SGD over `steps` batches. With `tuning`, norms, ranges and thresholds rest from their shares of it on.
/// Returns the mean loss of the last tenth of the steps.
double train(MobileNetV1 network, Batches& batches, std::int64_t steps, double rate, bool tuning = false);

/// How many pictures the network classifies as their labels say.
std::int64_t right(MobileNetV1 network, const Pictures& pictures);

/// Parameters and buffers by name, as Python's torch.load, weights_only=False, and load_state_dict take them.
c10::Dict<std::string, Tensor> state_dict(const torch::nn::Module& network);

/// The values of all parameters and buffers that the state has.
void load_state_dict(torch::nn::Module& network, const c10::Dict<std::string, Tensor>& state);

}  // namespace po2quant_torch
