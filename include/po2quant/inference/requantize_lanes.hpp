#pragma once
/// A layer's requantization in the order of its kernels' lanes; shared by conv2d and depthwise_conv2d.
#include <vector>

#include <po2quant/inference/conv2d_packing.hpp>

namespace po2quant::detail {

/// Shift, factor, nudge, rounding constant and bias of every lane.
class requantize_lanes {
public:
    requantize_lanes() = default;
    /// `plan` is a conv2d_plan or depthwise_plan, `offset_sums` the sums of packed weights that its fill_bias takes.
    template <class Plan>
    requantize_lanes(const requantize_plan& q, const Plan& plan, const std::int32_t* offset_sums)
        : range_(q.range), mode_(q.mode) {
        const auto lanes = static_cast<std::size_t>(plan.packing().lane_count);
        shift_.assign(lanes, 2);  // what pack_factors can take, where there is no channel
        constant_.assign(lanes, 0);
        std::vector<std::int32_t> bias(lanes, 0);
        plan.for_each_lane([&](std::size_t o, std::size_t lane) {
            shift_[lane] = q.shift[o];
            constant_[lane] = q.constant[o];
            bias[lane] = static_cast<std::int32_t>(static_cast<std::uint32_t>(q.bias[o]) +
                                                   static_cast<std::uint32_t>(q.constant[o]));
        });
        if (q.kind == kernels::epilogue::shift_words) {
            factor_.resize(2 * lanes);
            plan.for_each_block([&](std::int64_t lane, int vectors, int own) {
                kernels::pack_factors(shift_.data() + lane, factor_.data() + 2 * lane, vectors, own);
            });
        }
        if (q.kind == kernels::epilogue::round) {
            nudge_.resize(4 * lanes);
            plan.for_each_block([&](std::int64_t lane, int vectors, int own) {
                kernels::pack_nudges(shift_.data() + lane, mode_, nudge_.data() + 4 * lane, vectors * own, own);
            });
        }
        bias_.resize(static_cast<std::size_t>(plan.bias_size()));
        plan.fill_bias(bias.data(), offset_sums, bias_.data());
    }

    /// What kernels take, from lane 0 on.
    kernels::requantize_block block(kernels::epilogue kind) const {
        return {.shift = shift_.data(),
                .factor = factor_.data(),
                .rounding_constant = constant_.data(),
                .range = range_,
                .mode = mode_,
                .kind = kind,
                .nudge = nudge_.data()};
    }
    const std::int32_t* bias() const { return bias_.data(); }

private:
    code_range range_{};
    rounding mode_ = rounding::half_up;
    aligned_vector<std::int32_t> shift_;
    aligned_vector<std::int16_t> factor_;  ///< of shift_words: two for each lane
    aligned_vector<std::int32_t> nudge_;   ///< of round: four for each lane
    aligned_vector<std::int32_t> constant_;
    aligned_vector<std::int32_t> bias_;  ///< less what an input offset adds
};

}  // namespace po2quant::detail
