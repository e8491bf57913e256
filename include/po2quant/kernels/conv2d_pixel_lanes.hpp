#pragma once
/// Direct convolution to at most 8 outputs with pixels in lanes, where few channels come in, as in small first layers.
///
/// conv2d.hpp has outputs in lanes: 8 of them fill half of a register of 16. Here a register holds a step of 4 codes of
/// 16 neighbouring pixels, gathered from the two registers that they lie in, and the weights of each output are
/// broadcast. All sums of a register share one shift; codes are transposed on their way out.
///
/// Weights, bias, shifts and results are those of conv2d.hpp. A row's last pixels may overlap those before.
/// Guarantees: reads exactly the named inputs, by masks; writes exactly rows × columns × outputs.
#include <type_traits>

#include <po2quant/kernels/conv2d_rectangle.hpp>
#include <po2quant/simd/integer.hpp>

namespace po2quant::kernels {

/// Whether an instruction set has pixels in lanes, and this dot product takes them.
template <class Arch, class Dot>
inline constexpr bool has_pixel_lanes = Dot::codes == 4 && Dot::registers == 1 && Dot::input_offset == 0 && requires {
    typename simd::integer<Arch>::pixel_lanes;
};

/// Whether conv2d_pixel_lanes can do it.
template <class Arch, class Input>
PO2Q_INLINE bool pixel_lanes_fit(const conv2d_rectangle<Input>& r) {
    using lanes = typename simd::integer<Arch>::pixel_lanes;
    return r.outputs <= lanes::outputs && r.columns >= lanes::pixels && lanes::fits(r.input_column) &&
           r.requantize.kind <= epilogue::shift;
}

/// Adds the products of all groups' codes with an output's weights.
template <class Dot, class Sums, class Step, int... G>
PO2Q_INLINE void multiply_add_groups(Sums& acc, int output, const Step& codes, const typename Dot::weight* weights,
                                     simd::indices<G...>) {
    const typename Dot::step w = Dot::broadcast(weights);
    ((acc[G][output] = Dot::dot(acc[G][output], codes[G], w)), ...);
}

/// Registers G of pixels from `pixel` on, outputs O: two registers share the loads of weights.
template <class Arch, class Dot, int... G, int... O>
PO2Q_INLINE void conv2d_pixel_lanes_tile(const conv2d_rectangle<typename Dot::input>& r,
                                         const typename Dot::input* pixel, std::int8_t* out,
                                         const typename simd::integer<Arch>::pixel_lanes& gather,
                                         simd::indices<G...> groups, simd::indices<O...>) {
    using ops = simd::integer<Arch>;
    using reg = typename ops::reg;
    using lanes = typename ops::pixel_lanes;
    reg acc[sizeof...(G)][sizeof...(O)];
    const auto begin = [&](reg* sums) PO2Q_INLINE_LAMBDA { ((sums[O] = ops::set(r.bias[O])), ...); };
    (begin(acc[G]), ...);
    for (std::int64_t t = 0; t < r.tap_count; ++t) {
        const auto* w = static_cast<const typename Dot::weight*>(r.weights) + r.taps[t].weights * ops::lanes;
        const auto* at = pixel + r.taps[t].input;
        for (std::int64_t left = r.run; left > 0; left -= Dot::codes) {
            // A last step reaches back over codes whose weights are 0 there.
            if (left < Dot::codes && r.run >= Dot::codes) at += left - Dot::codes;
            const typename Dot::step codes[] = {{gather.load(at + G * (lanes::pixels * r.input_column))}...};
            (multiply_add_groups<Dot>(acc, O, codes, w + O * Dot::codes, groups), ...);
            at += Dot::codes;
            w += ops::lanes * Dot::codes;
        }
    }
    const auto end = [&](reg* sums, std::int64_t pixels) PO2Q_INLINE_LAMBDA {
        const reg shifted[] = {ops::shift_right(sums[O], ops::set(r.requantize.shift[O]))...};
        lanes::template store<Arch>(out + pixels * r.output_column, r.output_column, shifted, r.requantize.range,
                                    r.outputs);
    };
    (end(acc[G], G * lanes::pixels), ...);
}

template <class Arch, class Dot>
void conv2d_pixel_lanes(const conv2d_rectangle<typename Dot::input>& rectangle) {
    using lanes = typename simd::integer<Arch>::pixel_lanes;
    const conv2d_rectangle<typename Dot::input> r = rectangle;  // out of reach of the bytes that are written
    const lanes gather(static_cast<int>(r.input_column), r.run < Dot::codes ? static_cast<int>(r.run) : Dot::codes);
    for (std::int64_t y = 0; y < r.rows; ++y) {
        const auto* row = r.input + y * r.input_row;
        auto* out = static_cast<std::int8_t*>(r.output) + y * r.output_row;
        const auto tile = [&](auto groups, std::int64_t next) PO2Q_INLINE_LAMBDA {
            constexpr int pixels = groups * lanes::pixels;
            const std::int64_t x = next < r.columns - pixels ? next : r.columns - pixels;
            conv2d_pixel_lanes_tile<Arch, Dot>(r, row + x * r.input_column, out + x * r.output_column, gather,
                                               simd::up_to<groups>, simd::up_to<lanes::outputs>);
            return next + pixels;
        };
        for (std::int64_t next = 0; next < r.columns;) {
            if (r.columns - next > lanes::pixels && r.columns >= 2 * lanes::pixels)
                next = tile(std::integral_constant<int, 2>{}, next);
            else next = tile(std::integral_constant<int, 1>{}, next);
        }
    }
}

}  // namespace po2quant::kernels
