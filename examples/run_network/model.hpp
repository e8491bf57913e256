#pragma once
/// A network as FORMAT.md describes it: model.json and the arrays it names, read and checked; nothing is computed yet.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <po2quant/tensor/convolution.hpp>

namespace run_network {

/// What is wrong with a network's files: "FILE: FIELD: what was given; what is allowed", one line.
struct bad_model : std::runtime_error {
    using std::runtime_error::runtime_error;
};

enum class op_kind { conv2d, depthwise_conv2d, avg_pool2d, max_pool2d, reshape, concat, add, sigmoid };

const char* name_of(op_kind kind);

/// Integer biases, in one of two widths: real value = code * 2^exponent / divisor.
struct layer_bias {
    std::vector<std::int16_t> i16 = {};
    std::vector<std::int32_t> i32 = {};
    int exponent = 0;
    std::int64_t divisor = 1;
};

/// What a layer's own plan, written down in the file, says of its requantization; checked where it is given.
struct written_plan {
    std::optional<int> accumulator_exponent = {};
    std::optional<int> shift = {};
    std::optional<layer_bias> bias = {};  ///< int32, at the accumulator's exponent
};

struct op {
    op_kind kind;
    std::string name;
    std::string where;                            ///< "FILE: ops[3] (Conv_1)", what errors begin with
    std::vector<int> inputs;                      ///< of values: 0 is the network's input, i + 1 the result of op i
    std::optional<int> output_exponent = {};      ///< none of a convolution: its sums are the result
    std::vector<std::int64_t> output_shape = {};  ///< without the batch; empty where the file gives none

    // conv2d, depthwise_conv2d, pools
    po2quant::window2d window = {};
    po2quant::activation clamp = po2quant::activation::none;  ///< add has it too
    std::int64_t outputs = 0;
    std::vector<std::int64_t> weight_shape = {};
    std::vector<std::int8_t> weights = {};
    std::vector<int> weight_exponents = {};                       ///< one, or one per output channel
    std::optional<layer_bias> own_bias = {};                      ///< quantized with an exponent of its own
    std::vector<float> float_bias = {};                           ///< where it is not quantized
    written_plan plan = {}, behind_int8 = {}, behind_int16 = {};  ///< the latter behind an average pool of that form

    std::int64_t axis = 0;  ///< concat, the batch counted
};

struct model {
    std::filesystem::path folder;
    std::string name;
    std::string input_name;
    std::vector<std::int64_t> input_shape;  ///< without the batch
    int input_exponent = 0;
    int input_bits = 8;
    std::vector<op> ops;
    std::vector<int> outputs;  ///< of values

    /// Of a value, by what ops call it.
    const std::string& name_of(int value) const {
        return value == 0 ? input_name : ops[static_cast<std::size_t>(value) - 1].name;
    }
};

/// Throws bad_model.
model read_model(const std::filesystem::path& folder);

}  // namespace run_network
