#pragma once
/// Presets: what a network is trained and exported with so that a target computes the same integers.
#include <cstdint>

#include <po2quant/numerics/exponent_rule.hpp>
#include <po2quant/numerics/quantizer.hpp>

namespace po2quant {

/// What is searched beyond the ends of a range.
enum class exponent_search : std::uint8_t { none, squared_error, percentile, kl_divergence };

/// How a tool comes from values to an exponent: choose_exponent (training/exponent_choice.hpp) does it.
struct exponent_choice {
    exponent_rule rule = exponent_rule::ceil_log2;  ///< on what is searched; kl_divergence needs none
    exponent_search search = exponent_search::none;
    int max_k = 128;           ///< cap of k in 2^k >= magnitude
    double fraction = 0.9999;  ///< percentile: the default is ESP-PPQ's OBSERVER_PERCENTILE
    int candidates = 5;        ///< squared_error: the default is Vitis AI's
};

/// Which exponents e_b a bias may have beside that of the sums, e_acc = e_x + e_w.
enum class bias_grid : std::uint8_t {
    any,      ///< any; finer ones lose bits by floor, see align_bias
    coarser,  ///< e_b >= e_acc: it is shifted left
    sums,     ///< e_b = e_acc
};

enum class overflow : std::uint8_t { wraps, saturates };

/// A target in the words of this library. Everything is about int8 layers.
struct target_preset {
    const char* name;
    // Floats to codes, in training and export.
    rounding activations;  ///< that of requantize: what is trained is what is deployed
    rounding weights;
    rounding bias;
    ste estimator;
    exponent_choice activation_exponents;
    exponent_choice weight_exponents;
    // Integers of a layer.
    bool weight_exponents_per_channel;
    int bias_bits;
    bias_grid bias_exponents;
    int accumulator_bits;
    overflow accumulator_overflow;
    rounding requantize;
    bool left_shifts;  ///< whether outputs may be finer than sums
};

namespace targets {

/// The original, https://github.com/winfredsu/quant_aware_training, on TensorFlow 1.13's FakeQuantWithMinMaxVars:
/// floor(x / s + 1/2), gradient where x is inside the range, k = ceil(log2 max) of the last batch (weights, k <= 3) or
/// of a moving average (activations); biases of 16 bits with exponents of their own (quantize/quant_ops.py,
/// quantize.py). It has no integer engine: the integers are this library's, int32 and half_up.
inline constexpr target_preset tensorflow{.name = "tensorflow",
                                          .activations = rounding::half_up,
                                          .weights = rounding::half_up,
                                          .bias = rounding::half_up,
                                          .estimator = ste::clip_range,
                                          .activation_exponents = {.rule = exponent_rule::ceil_log2},
                                          .weight_exponents = {.rule = exponent_rule::ceil_log2, .max_k = 3},
                                          .weight_exponents_per_channel = false,
                                          .bias_bits = 16,
                                          .bias_exponents = bias_grid::any,
                                          .accumulator_bits = 32,
                                          .accumulator_overflow = overflow::wraps,
                                          .requantize = rounding::half_up,
                                          .left_shifts = true};

/// TQT's implementation Graffitist (its README and kernel names): ties to even, gradient by the rounded code,
/// thresholds 2^ceil(log2 t) that are then trained; weights start at their maximum, activations by a KL divergence (a
/// symmetric one, not known in detail). A layer is q8(q16(Σ q8(w)·q8(x)) + q16(b)) with one 16-bit grid of sum and
/// bias: where the sums fit 16 bits on their own grid, q16 loses nothing.
inline constexpr target_preset graffitist{
    .name = "graffitist",
    .activations = rounding::half_even,
    .weights = rounding::half_even,
    .bias = rounding::half_even,
    .estimator = ste::clip_code,
    .activation_exponents = {.rule = exponent_rule::ceil_log2, .search = exponent_search::kl_divergence},
    .weight_exponents = {.rule = exponent_rule::ceil_log2},
    .weight_exponents_per_channel = false,
    .bias_bits = 16,
    .bias_exponents = bias_grid::sums,
    .accumulator_bits = 16,
    .accumulator_overflow = overflow::saturates,
    .requantize = rounding::half_even,
    .left_shifts = true};

/// ESP-DL on the ESP32-S3, quantized by ESP-PPQ: half up, bias of 20 bits (EspdlQuantizer.py, EspdlS3Quantizer),
/// percentiles for activations, minimum and maximum for weights, both rounded up (observer/range.py); codes pass the
/// gradient when rounded inside. Sums in lanes of 20 bits that saturate at every step (isa/tie728/dl_tie728_s8.S), bias
/// on their grid, right shift rounded half up; exponents of the tensor only.
inline constexpr target_preset esp32_s3{
    .name = "esp32_s3",
    .activations = rounding::half_up,
    .weights = rounding::half_up,
    .bias = rounding::half_up,
    .estimator = ste::clip_code,
    .activation_exponents = {.rule = exponent_rule::esp_ppq, .search = exponent_search::percentile},
    .weight_exponents = {.rule = exponent_rule::esp_ppq},
    .weight_exponents_per_channel = false,
    .bias_bits = 20,
    .bias_exponents = bias_grid::sums,
    .accumulator_bits = 20,
    .accumulator_overflow = overflow::saturates,
    .requantize = rounding::half_up,
    .left_shifts = true};

/// ESP-DL on the ESP32-P4, quantized by ESP-PPQ (EspdlQuantizer): ties to even (dl_tool.cpp), bias of 32 bits,
/// exponents per channel for convolutions. Its sums are taken to have the bias's 32 bits.
inline constexpr target_preset esp32_p4{
    .name = "esp32_p4",
    .activations = rounding::half_even,
    .weights = rounding::half_even,
    .bias = rounding::half_even,
    .estimator = ste::clip_code,
    .activation_exponents = {.rule = exponent_rule::esp_ppq, .search = exponent_search::percentile},
    .weight_exponents = {.rule = exponent_rule::esp_ppq},
    .weight_exponents_per_channel = true,
    .bias_bits = 32,
    .bias_exponents = bias_grid::sums,
    .accumulator_bits = 32,
    .accumulator_overflow = overflow::saturates,
    .requantize = rounding::half_even,
    .left_shifts = true};

/// CMSIS-NN's q7 functions (arm_convolve_HWC_q7_*, arm_depthwise_separable_conv_HWC_q7, arm_fully_connected_q7; removed
/// from CMSIS-NN in commit 011bf322): bias of 8 bits shifted left, int32 that wraps, (acc + half) >> shift. Weights and
/// biases as in the scripts used with it, numpy.round, ties to even, at k = ceil(log2 max). It trains nothing: the
/// estimator is a choice. Built with ARM_NN_TRUNCATE, requantize and activations are floor.
inline constexpr target_preset cmsis_q7{.name = "cmsis_q7",
                                        .activations = rounding::half_up,
                                        .weights = rounding::half_even,
                                        .bias = rounding::half_even,
                                        .estimator = ste::clip_code,
                                        .activation_exponents = {.rule = exponent_rule::ceil_log2},
                                        .weight_exponents = {.rule = exponent_rule::ceil_log2},
                                        .weight_exponents_per_channel = false,
                                        .bias_bits = 8,
                                        .bias_exponents = bias_grid::coarser,
                                        .accumulator_bits = 32,
                                        .accumulator_overflow = overflow::wraps,
                                        .requantize = rounding::half_up,
                                        .left_shifts = false};

/// NNoM (src/backends/nnom_local.c, scripts/nnom.py): CMSIS-NN's arithmetic with shifts of each channel; ranges, or on
/// request a KL divergence, by k = ceil(log2 max); numpy.round.
inline constexpr target_preset nnom{.name = "nnom",
                                    .activations = rounding::half_up,
                                    .weights = rounding::half_even,
                                    .bias = rounding::half_even,
                                    .estimator = ste::clip_code,
                                    .activation_exponents = {.rule = exponent_rule::ceil_log2},
                                    .weight_exponents = {.rule = exponent_rule::ceil_log2},
                                    .weight_exponents_per_channel = true,
                                    .bias_bits = 8,
                                    .bias_exponents = bias_grid::coarser,
                                    .accumulator_bits = 32,
                                    .accumulator_overflow = overflow::wraps,
                                    .requantize = rounding::half_up,
                                    .left_shifts = false};

/// Vitis AI (vai_q_pytorch, nndct_fix_kernels): activations half up (method 2), weights and biases half away (method
/// 3), squared errors of five exponents from the non-overflow rule on. Biases of 8 bits by default. The accumulator of
/// the DPU is not published: int32 and a bias shifted left are assumed.
inline constexpr target_preset vitis{
    .name = "vitis",
    .activations = rounding::half_up,
    .weights = rounding::half_away,
    .bias = rounding::half_away,
    .estimator = ste::clip_code,
    .activation_exponents = {.rule = exponent_rule::vitis, .search = exponent_search::squared_error},
    .weight_exponents = {.rule = exponent_rule::vitis, .search = exponent_search::squared_error},
    .weight_exponents_per_channel = false,
    .bias_bits = 8,
    .bias_exponents = bias_grid::coarser,
    .accumulator_bits = 32,
    .accumulator_overflow = overflow::wraps,
    .requantize = rounding::half_up,
    .left_shifts = true};

inline constexpr const target_preset* all[] = {&tensorflow, &graffitist, &esp32_s3, &esp32_p4,
                                               &cmsis_q7,   &nnom,       &vitis};

}  // namespace targets
}  // namespace po2quant
