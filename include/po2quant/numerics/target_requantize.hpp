#pragma once
/// From sums to codes as other engines compute it, in scalar code, for scales that are powers of two. Most are a
/// rounding mode of ours (tests compare each with its published formula); the functions below are the rest.
///
///   engine                                                 codes of the sum a, shift s
///   CMSIS-NN q7, NNoM                                      half_up; floor where built to truncate; see requantize_q7
///   ESP-DL on ESP32 and ESP32-S3                           half_up; the S3's sums have 20 bits, see saturate_bits
///   ESP-DL on ESP32-P4                                     half_even
///   Vitis AI                                               half_up (activations), half_away (weights, bias)
///   TensorFlow Lite and CMSIS-NN s8, single rounding       half_up
///   TensorFlow Lite and CMSIS-NN s8, double rounding       none: requantize_tflite_double
///   XNNPACK rndnu                                          half_up
///   XNNPACK fp32, FBGEMM, oneDNN                           half_even for |a| <= 2^24 or s <= 17:
///                                                          requantize_float32
#include <cstdint>

#include <po2quant/numerics/accumulator.hpp>
#include <po2quant/numerics/exponent.hpp>

namespace po2quant {

/// v held inside the two's complement integers of `bits` bits, 2..62.
PO2Q_INLINE constexpr std::int64_t saturate_bits(std::int64_t v, int bits) {
    const std::int64_t end = std::int64_t{1} << (bits - 1);
    return clamp<std::int64_t>(v, -end, end - 1);
}

/// How CMSIS-NN's q7 functions and NNoM are told exponents: bias = e_b − e_acc, out = e_y − e_acc, both 0..31.
struct q7_shifts {
    int bias = 0;
    int out = 0;
    bool truncate = false;  ///< ARM_NN_TRUNCATE, NNOM_TRUNCATE
};

/// The output code of a convolution or fully connected layer of CMSIS-NN q7 (arm_convolve_HWC_q7_*,
/// arm_fully_connected_q7) and NNoM, for the sum of its products modulo 2^32:
///
///   acc = (bias << shifts.bias) + NN_ROUND(shifts.out) + sum      NN_ROUND(s) = (1 << s) >> 1, or 0 to truncate
///   y   = SSAT8(acc >> shifts.out)
/// In int32, which wraps: the rounding constant is inside. Where nothing wraps, as the certificate says, this is our
/// requantize by half_up, or by floor to truncate. NNoM has shifts of each channel.
PO2Q_INLINE constexpr std::int8_t requantize_q7(std::int32_t sum, std::int8_t bias, const q7_shifts& shifts) {
    const std::uint32_t aligned = static_cast<std::uint32_t>(std::int32_t{bias}) << shifts.bias;
    const std::uint32_t constant = shifts.truncate ? 0U : (1U << shifts.out) >> 1;
    const auto accumulator = static_cast<std::int32_t>(aligned + constant + static_cast<std::uint32_t>(sum));
    return saturate<std::int8_t>(accumulator >> shifts.out);
}

/// TensorFlow Lite's MultiplyByQuantizedMultiplier with two roundings, for a multiplier of exactly 2^−shift, which it
/// holds as 2^30 / 2^31 · 2^(1 − shift):
///
///   shift >= 1:  RoundingDivideByPOT(SaturatingRoundingDoublingHighMul(a, 2^30), shift − 1)
/// The first halves a by half_up, the second divides by half_away. That is not half_up of the whole even though the
/// scale is a power of two: a = 1, shift = 2 is 1/4 and gives 1. From shift 2 on one in 2^shift values differs from
/// half_up by a code: positive ones one below a tie go up, negative ones on a tie go down. Left shifts saturate here;
/// theirs overflow. Sources: gemmlowp fixedpoint.h, tensorflow/lite/kernels/internal/common.h without
/// TFLITE_SINGLE_ROUNDING.
PO2Q_INLINE constexpr std::int32_t requantize_tflite_double(std::int32_t a, int shift) {
    if (shift <= 0) return shift_right(a, shift, rounding::half_up);
    const std::int32_t half = shift_right(a, 1, rounding::half_up);
    return shift_right(half, shift - 1, rounding::half_away);
}

/// Requantization through float32, as XNNPACK's fp32 kernels do it (FBGEMM and oneDNN up to the order of clamp and
/// rounding, which changes nothing):   y = round_even(clamp(float(a) · 2^−shift, −128, 127))
///
/// float(a) is rounded to 24 bits for |a| > 2^24, and what a then loses can make or break a tie. For shift <= 17 such a
/// saturate anyway, so that it is half_even of the exact value. Requires −127 <= shift <= 126.
PO2Q_INLINE constexpr std::int8_t requantize_float32(std::int32_t a, int shift) {
    const float scaled = clamp(static_cast<float>(a) * exp2_float(-shift), -128.0F, 127.0F);
    return static_cast<std::int8_t>(round_to_integer(static_cast<double>(scaled), rounding::half_even));
}

}  // namespace po2quant
