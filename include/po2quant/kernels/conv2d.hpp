#pragma once
/// Direct convolution of a rectangle of output pixels that see the same taps, for one block of output channels:
/// int8 × int8 → int32 → int8 (or int16 × int8), NHWC. No im2col: inputs are read where they are.
///
///   acc(p, o) = bias[o] + Σ_t Σ_{c < run}  input[p + taps[t].input + c] * weights[taps[t].weights + c, o]
///   out(p, o) = clamp( shift_right( acc(p, o), shift[o] ), low, high )
/// A tap is a run of neighbouring input elements: the channels of one input pixel, or those of a whole kernel row where
/// its pixels lie side by side. Padded taps are not in the list: they cost nothing. A run's last quad reaches back
/// rather than beyond its end, over codes whose weights there are 0; runs shorter than a quad are read by single codes.
///
/// Tile: Pixels × Vectors registers of accumulators. Per step of 4 codes (2 for int16), by one of the dot products of
/// simd/integer.hpp: each pixel's codes are broadcast, and multiplied with the weights of Vectors · lanes outputs.
/// Where a dot product takes the codes of two pixels, 8 of each, sums of pairs of pixels lie in pairs of registers
/// until they are complete; an odd last pixel stands for two.
///
/// Layout of weights, packed by inference/conv2d_packing.hpp, in elements of Dot::weight:
///   [run][⌈length / codes⌉][Vectors][registers][lanes][codes / registers]
/// with lanes in channel_of order, zeros behind the last output; weight k of a step in register k % registers. Where
/// halves lie apart, of the dwords of 4 lanes the lower halves come first.
/// Numerics. Integer only, bit-exact with reference::conv2d. Sums wrap modulo 2^32 on the way (the offset of 128 that
/// vpdpbusd wants), the result does not: the certificate says so.
/// Requires (checked one layer up): taps ascend, every address they name is inside the input, run >= 1.
/// Guarantees: reads exactly the named inputs, writes exactly rows × columns × outputs; no allocation, no exceptions.
#include <type_traits>
#include <utility>

#include <po2quant/kernels/conv2d_pixel_lanes.hpp>
#include <po2quant/kernels/conv2d_rectangle.hpp>
#include <po2quant/kernels/pack_weights.hpp>
#include <po2quant/kernels/requantize.hpp>
#include <po2quant/numerics/format.hpp>

namespace po2quant::kernels {

/// Whether a dot product takes the codes of two pixels.
template <class Dot>
inline constexpr bool by_pairs = requires {
    typename Dot::pair_sums;
};

/// Pixels of a tile whose accumulators, what a step keeps, and what it goes through, one by one, fit the registers.
template <class Arch, class Dot>
constexpr int conv2d_fitting_pixels(int vectors) {
    constexpr int all = simd::integer<Arch>::registers - Dot::registers - Dot::scratch;
    return by_pairs<Dot>       ? all / (2 * vectors + 1) * 2
           : Dot::keep_weights ? all / vectors - Dot::registers
                               : all / (vectors + Dot::registers);
}
/// Largest tile, but wide_tile: 8 pixels hide the latency of any dot product; more only make more code.
template <class Arch, class Dot>
constexpr int conv2d_tile_pixels(int vectors) {
    const int fit = conv2d_fitting_pixels<Arch, Dot>(vectors);
    return fit < 1 ? 1 : fit < 8 ? fit : 8;
}

/// The pixels of a rectangle as lines: rows, or columns where those make fewer tiles.
template <class Input>
struct conv2d_lines {
    std::int64_t lines;
    std::int64_t pixels;  ///< of a line
    // Distances between neighbouring pixels and lines; of outputs in bytes.
    std::int64_t input_pixel;
    std::int64_t input_line;
    std::int64_t output_pixel;
    std::int64_t output_line;

    PO2Q_INLINE conv2d_lines(const conv2d_rectangle<Input>& r, int tile_pixels) {
        const std::int64_t bytes = output_bytes(r.requantize.kind);
        lines = r.rows;
        pixels = r.columns;
        input_pixel = r.input_column;
        input_line = r.input_row;
        output_pixel = r.output_column * bytes;
        output_line = r.output_row * bytes;
        const auto tiles = [=](std::int64_t n) { return (n + tile_pixels - 1) / tile_pixels; };
        if (lines * tiles(pixels) > pixels * tiles(lines)) {
            std::swap(lines, pixels);
            std::swap(input_pixel, input_line);
            std::swap(output_pixel, output_line);
        }
    }
    /// From the first pixel of a tile to its pixel p, in elements.
    PO2Q_INLINE std::int64_t input(int p) const { return p * input_pixel; }
};

/// The codes of a step of a pixel. Short: of `count`, less than a step has.
template <class Dot, bool Short>
PO2Q_INLINE auto step_codes(const typename Dot::input* p, std::int64_t count) {
    if constexpr (Short) return Dot::broadcast_first(p, static_cast<int>(count));
    else return Dot::broadcast(p);
}
/// Adds a pixel's products with the weights of a step.
template <class Dot, class Reg, class Codes, class Weights, int... V>
PO2Q_INLINE void multiply_add(Reg* acc, const Codes& x, const Weights& weights, simd::indices<V...>) {
    ((acc[V] = Dot::dot(acc[V], x, weights[V])), ...);
}
/// Adds all pixels' products with register V of a step's weights, or of its step G of a group.
template <class Dot, int V, class Tile, class Codes, class Weights, int... P>
PO2Q_INLINE void multiply_add_pixels(Tile& acc, const Codes& x, const Weights& weights, simd::indices<P...>) {
    ((acc[P][V] = Dot::dot(acc[P][V], x[P], weights)), ...);
}
template <class Dot, int G, int V, class Tile, class Codes, class Weights, int... P>
PO2Q_INLINE void multiply_add_group(Tile& acc, const Codes& x, const Weights& weights, simd::indices<P...>) {
    ((acc[P][V] = Dot::template dot<G>(acc[P][V], x[P], weights)), ...);
}

/// A tile of a line, from its pixel `first` on: pixels P, registers V. Short: runs have less codes than a step takes.
template <class Arch, class Dot, bool Short, int... P, int... V>
PO2Q_INLINE void conv2d_tile(const conv2d_rectangle<typename Dot::input>& r,
                             const conv2d_lines<typename Dot::input>& line, const typename Dot::input* first, char* out,
                             const tile_store<Arch, sizeof...(V)>& store, simd::indices<P...> pixels,
                             simd::indices<V...> vectors) {
    using ops = simd::integer<Arch>;
    constexpr int step = ops::lanes * Dot::codes;  // weights of a register of outputs
    constexpr int step_weights = sizeof...(V) * step;
    typename ops::reg acc[sizeof...(P)][sizeof...(V)];
    (load_registers<Arch, sizeof...(V)>(acc[P], r.bias), ...);
    const std::int64_t steps = (r.run + Dot::codes - 1) / Dot::codes;
    for (std::int64_t t = 0; t < r.tap_count; ++t) {
        const auto* w = static_cast<const typename Dot::weight*>(r.weights) +
                        r.taps[t].weights * static_cast<std::int64_t>(sizeof...(V) * ops::lanes);
        const typename Dot::input* at = first + r.taps[t].input;
        const typename Dot::input* const last = Short ? at : at + (r.run - Dot::codes);
        std::int64_t left = steps;
        if constexpr (!Short && requires { Dot::group; }) {
            constexpr int group_codes = Dot::group * Dot::codes;
            for (std::int64_t groups = r.run / group_codes; groups > 0; --groups) {
                const decltype(Dot::load_group(at)) x[] = {Dot::load_group(at + line.input(P))...};
                simd::unroll<Dot::group>([&](auto g) PO2Q_INLINE_LAMBDA {
                    (multiply_add_group<Dot, g, V>(acc, x, Dot::load(w + g * step_weights + V * step), pixels), ...);
                });
                at += group_codes;
                w += Dot::group * step_weights;
                left -= Dot::group;
            }
        }
        for (; left > 0; --left, at += Dot::codes, w += step_weights) {
            if (at > last) at = last;
            if constexpr (Dot::keep_weights) {
                const decltype(Dot::load(w)) weights[] = {Dot::load(w + V * step)...};
                (multiply_add<Dot>(acc[P], step_codes<Dot, Short>(at + line.input(P), r.run), weights, vectors), ...);
            } else {
                const decltype(Dot::broadcast(at)) x[] = {step_codes<Dot, Short>(at + line.input(P), r.run)...};
                (multiply_add_pixels<Dot, V>(acc, x, Dot::load(w + V * step), pixels), ...);
            }
        }
    }
    store_tile<Arch>(out, line.output_pixel, acc, r.requantize, store, r.outputs, pixels);
}

/// The same by pairs H of pixels.
template <class Arch, class Dot, bool Short, int... P, int... V, int... H>
PO2Q_INLINE void conv2d_pair_tile(const conv2d_rectangle<typename Dot::input>& r,
                                  const conv2d_lines<typename Dot::input>& line, const typename Dot::input* first,
                                  char* out, const tile_store<Arch, sizeof...(V)>& store, simd::indices<P...> pixels,
                                  simd::indices<V...>, simd::indices<H...> pairs) {
    using ops = simd::integer<Arch>;
    constexpr int count = sizeof...(P);
    constexpr int step = ops::lanes * Dot::codes;  // weights of a register of outputs
    constexpr int step_weights = sizeof...(V) * step;
    typename Dot::pair_sums sums[sizeof...(H)][sizeof...(V)];
    const auto begin = [&](typename Dot::pair_sums* of)
                           PO2Q_INLINE_LAMBDA { ((of[V] = Dot::begin(ops::load(r.bias + V * ops::lanes))), ...); };
    (begin(sums[H]), ...);
    const std::int64_t steps = (r.run + Dot::codes - 1) / Dot::codes;
    for (std::int64_t t = 0; t < r.tap_count; ++t) {
        const auto* w = static_cast<const typename Dot::weight*>(r.weights) +
                        r.taps[t].weights * static_cast<std::int64_t>(sizeof...(V) * ops::lanes);
        const typename Dot::input* at = first + r.taps[t].input;
        const typename Dot::input* const last = Short ? at : at + (r.run - Dot::codes);
        const auto load = [&](std::int64_t one, std::int64_t other) PO2Q_INLINE_LAMBDA {
            if constexpr (Short) return Dot::load_pair_first(at + one, at + other, static_cast<int>(r.run));
            else return Dot::load_pair(at + one, at + other);
        };
        for (std::int64_t left = steps; left > 0; --left, at += Dot::codes, w += step_weights) {
            if (at > last) at = last;
            // An odd last pixel stands for two.
            const decltype(Dot::load_pair(at, at)) x[] = {
                load(line.input(2 * H), line.input(2 * H + 1 < count ? 2 * H + 1 : 2 * H))...};
            (multiply_add_pixels<Dot, V>(sums, x, Dot::load(w + V * step), pairs), ...);
        }
    }
    typename ops::reg acc[count][sizeof...(V)];
    const auto end = [&](typename ops::reg* to, const typename Dot::pair_sums* of, bool second)
                         PO2Q_INLINE_LAMBDA { ((to[V] = second ? of[V].second() : of[V].first()), ...); };
    (end(acc[P], sums[P / 2], P % 2 != 0), ...);
    store_tile<Arch>(out, line.output_pixel, acc, r.requantize, store, r.outputs, pixels);
}

/// Tiles of one size of every line, `count` from pixel `begin` on: a function of its own, so that the registers of one
/// size do not depend on the others.
template <class Arch, class Dot, int Tile, int Vectors, bool Short>
[[gnu::noinline]] void conv2d_line_tiles(const conv2d_rectangle<typename Dot::input>& rectangle,
                                         const conv2d_lines<typename Dot::input>& lines,
                                         const tile_store<Arch, Vectors>& shared_store, std::int64_t begin,
                                         std::int64_t count) {
    using Input = typename Dot::input;
    // Copies are out of reach of the bytes that are written, and need not be read again after each store; that of the
    // rectangle is worth it where stores are frequent.
    using own = std::conditional_t<Vectors == 1, conv2d_rectangle<Input>, const conv2d_rectangle<Input>&>;
    const own r = rectangle;
    const conv2d_lines<Input> line = lines;
    const tile_store<Arch, Vectors> store = shared_store;
    constexpr auto pixels = simd::up_to<Tile>;
    constexpr auto vectors = simd::up_to<Vectors>;
    for (std::int64_t l = 0; l < line.lines; ++l) {
        const Input* pixel = r.input + l * line.input_line + begin * line.input_pixel;
        char* out = static_cast<char*>(r.output) + l * line.output_line + begin * line.output_pixel;
        for (std::int64_t k = 0; k < count; ++k) {
            if constexpr (by_pairs<Dot>)
                conv2d_pair_tile<Arch, Dot, Short>(r, line, pixel, out, store, pixels, vectors,
                                                   simd::up_to<(Tile + 1) / 2>);
            else conv2d_tile<Arch, Dot, Short>(r, line, pixel, out, store, pixels, vectors);
            pixel += Tile * line.input_pixel;
            out += Tile * line.output_pixel;
        }
    }
}

/// Whether a kernel has tiles of few sizes, for the sake of its code: runs of less than a step and int16 inputs are
/// rare, and an input offset has mostly been dealt with before.
template <class Dot, bool Short>
inline constexpr bool few_tile_sizes = Short || Dot::codes == 2 || Dot::input_offset != 0;

/// Whether it has tiles of a size. Of few, those of 1 pixel, the most, and perhaps half of that; else of all, but 3
/// where 8 fit: equal parts of longer lines are larger, and lines of 3 go pixel by pixel.
template <class Dot, bool Short>
constexpr bool has_tile(int tile, int most) {
    if (tile == most || tile == 1) return true;
    if (few_tile_sizes<Dot, Short>) return tile == most / 2 && !Short && Dot::input_offset == 0;
    return tile != 3 || most < 8;
}

/// The pixels of the tiles that long lines begin with, 0 where there are none. Where a block is one or two wide
/// registers and sums are short, what surrounds the products of a tile takes longer than they do: more pixels share it.
template <class Arch, class Dot, bool Short>
constexpr int wide_tile(int vectors) {
    const int pixels = vectors == 1 ? 16 : vectors == 2 ? 12 : 0;
    const bool wide = simd::integer<Arch>::lanes >= 16 && !few_tile_sizes<Dot, Short> &&
                      conv2d_fitting_pixels<Arch, Dot>(vectors) >= pixels;
    return wide ? pixels : 0;
}

/// conv2d_line_tiles by the size of a tile, less one; null where there is none of a size.
template <class Arch, class Dot, int Vectors>
using line_tiles_function = void (*)(const conv2d_rectangle<typename Dot::input>&,
                                     const conv2d_lines<typename Dot::input>&, const tile_store<Arch, Vectors>&,
                                     std::int64_t, std::int64_t);
template <class Arch, class Dot, int Vectors, bool Short, int Tile, int Most>
constexpr line_tiles_function<Arch, Dot, Vectors> line_tiles_of() {
    if constexpr (has_tile<Dot, Short>(Tile, Most)) return &conv2d_line_tiles<Arch, Dot, Tile, Vectors, Short>;
    else return nullptr;
}

/// Lines are cut into as few tiles as hold their pixels, of as equal a size as can be: a tile of few pixels would wait
/// for its own sums. Where there are few sizes, into the largest that fit. Sizes I + 1.
template <class Arch, class Dot, int Vectors, bool Short, int... I>
PO2Q_INLINE void conv2d_lines_by_tiles(const conv2d_rectangle<typename Dot::input>& rectangle, simd::indices<I...>) {
    constexpr int most = sizeof...(I);
    static constexpr line_tiles_function<Arch, Dot, Vectors> line_tiles[] = {
        line_tiles_of<Arch, Dot, Vectors, Short, I + 1, most>()...};
    const conv2d_lines<typename Dot::input> line(rectangle, most);
    if (line.pixels == 0) return;
    const tile_store<Arch, Vectors> store(rectangle.requantize, rectangle.outputs);
    std::int64_t begin = 0;
    if constexpr (constexpr int wide = wide_tile<Arch, Dot, Short>(Vectors); wide > 0) {
        const std::int64_t rest = line.pixels % wide;
        // A rest of less than 5 would wait for its sums: it is cut together with a tile.
        const std::int64_t count = line.pixels / wide - (rest > 0 && rest < 5 ? 1 : 0);
        if (count > 0) {
            conv2d_line_tiles<Arch, Dot, wide, Vectors, Short>(rectangle, line, store, begin, count);
            begin = count * wide;
        }
    }
    const std::int64_t left = line.pixels - begin;
    if (left == 0) return;
    const auto take = [&](std::int64_t tile, std::int64_t count) {
        if (count == 0) return;
        line_tiles[tile - 1](rectangle, line, store, begin, count);
        begin += count * tile;
    };
    if constexpr (few_tile_sizes<Dot, Short>) {
        for (int tile = most; tile > 0; --tile)
            if (has_tile<Dot, Short>(tile, most)) take(tile, (line.pixels - begin) / tile);
    } else {
        const bool one_by_one = left == 3 && !has_tile<Dot, Short>(3, most);
        const std::int64_t tiles = one_by_one ? 3 : (left + most - 1) / most;
        const std::int64_t size = left / tiles;
        const std::int64_t larger = left % tiles;  // tiles of size + 1
        take(size + 1, larger);
        take(size, tiles - larger);
    }
}

template <class Arch, class Dot, int Vectors, bool Short>
void conv2d(const conv2d_rectangle<typename Dot::input>& rectangle) {
    if constexpr (Vectors == 1 && has_pixel_lanes<Arch, Dot>)
        if (pixel_lanes_fit<Arch>(rectangle)) return conv2d_pixel_lanes<Arch, Dot>(rectangle);
    constexpr int fit = conv2d_tile_pixels<Arch, Dot>(Vectors);
    constexpr int most = Short && fit > 4 ? 4 : fit;
    conv2d_lines_by_tiles<Arch, Dot, Vectors, Short>(rectangle, simd::up_to<most>);
    if (rectangle.requantize.stream) simd::stream_fence<Arch>();
}

/// codes + 128 as unsigned bytes: what a dot product with an input offset of 128 wants, once for all that it multiplies
/// them with. Dot::dot_u7 takes them from there. `to` may be `from`; reads and writes exactly n codes.
template <class Arch>
void offset_codes(const std::int8_t* from, std::int8_t* to, std::size_t n) {
    using ops = simd::integer<Arch>;
    constexpr std::size_t width = sizeof(typename ops::bytes);
    if (n < width) {
        for (std::size_t i = 0; i < n; ++i) to[i] = static_cast<std::int8_t>(from[i] ^ -128);
        return;
    }
    // The last vector ends with the codes; it is read before anything that it shares with the one before is written.
    const auto last = ops::offset_bytes(ops::load_bytes(from + n - width));
    for (std::size_t i = 0; i < n - width; i += width)
        ops::store_bytes(to + i, ops::offset_bytes(ops::load_bytes(from + i)));
    ops::store_bytes(to + n - width, last);
}

/// How weights are packed for a dot product: simd/integer_generic.hpp says what each is.
struct conv2d_operands {
    int codes;
    int registers;
    int weight_bytes;  ///< of an element, 1 or 2
    int input_offset;
    int max_vectors;        ///< registers of outputs in the largest block, up to 4
    int max_short_vectors;  ///< the same of layers that have runs of less than a step
    bool halves_apart;
};

/// What the layers above need of an architecture, without being compiled for it.
struct conv2d_table {
    template <class Input>
    using function = void (*)(const conv2d_rectangle<Input>&);
    /// Kernels of one dot product, by the registers of a block, less one.
    template <class Input>
    struct functions {
        conv2d_operands operands;
        function<Input> whole[4];    ///< runs of `codes` or more
        function<Input> shorter[4];  ///< runs of less
    };

    const char* arch;
    int lanes;
    int (*channel_of)(int vectors, int vector, int lane);
    functions<std::int8_t> i8;    ///< any int8
    functions<std::int8_t> u7;    ///< int8 of 0..127
    functions<std::int16_t> i16;  ///< any int16
    /// Where i8 has an input offset: codes for u7, which then computes what i8 does. Else null.
    void (*offset_codes)(const std::int8_t* from, std::int8_t* to, std::size_t n);
    /// Adds residual codes to a block's, where fusion wants it.
    void (*add_residual)(std::int8_t* codes, const std::int8_t* residual, std::int64_t rows, std::size_t n,
                         std::int64_t stride, const addition& q);
    pack_functions pack;
    /// Kernels of int8 that multiply tiles, where there are any; null where the system does not let this process.
    const conv2d_table* (*tiles)() = nullptr;

    const functions<std::int8_t>& of_bytes(integer_format input) const { return input.is_signed ? i8 : u7; }
    const conv2d_operands& operands(integer_format input) const {
        return input.signed_bits() > 8 ? i16.operands : of_bytes(input).operands;
    }
    /// Kernels for a layer whose longest run has `run` codes. For 16 pixels and 16 outputs a product of tiles takes 16
    /// cycles, whatever codes it has; dot products of 512 bits, two in each cycle, take 2 for each code. Tiles from
    /// twice the break-even on.
    const conv2d_table& for_layer(integer_format input, std::int64_t run) const {
        const conv2d_table* by_tiles = tiles != nullptr && input.signed_bits() <= 8 && run >= 16 ? tiles() : nullptr;
        return by_tiles != nullptr ? *by_tiles : *this;
    }
};

/// conv2d_table::tiles; kernels/conv2d_tiles.hpp has those of instruction sets that multiply tiles.
template <class Arch>
inline constexpr const conv2d_table* (*conv2d_tiles_of)() = nullptr;

/// Blocks of 4 registers where a tile then has 2 pixels at least, that each weight register serves more than one. int16
/// inputs are rare: 2 registers suffice to share their loads.
template <class Arch, class Dot>
inline constexpr int conv2d_max_vectors = Dot::codes > 2 && conv2d_tile_pixels<Arch, Dot>(4) >= 2 ? 4 : 2;

template <class Arch, class Dot>
constexpr auto conv2d_functions() {
    conv2d_table::functions<typename Dot::input> f{
        {Dot::codes, Dot::registers, static_cast<int>(sizeof(typename Dot::weight)), Dot::input_offset,
         conv2d_max_vectors<Arch, Dot>, 1, simd::halves_apart<Dot>},
        {},
        {&conv2d<Arch, Dot, 1, true>}};
    simd::unroll<conv2d_max_vectors<Arch, Dot>>([&](auto v) { f.whole[v] = &conv2d<Arch, Dot, v + 1, false>; });
    return f;
}

template <class Arch>
constexpr auto offset_codes_of() {
    void (*function)(const std::int8_t*, std::int8_t*, std::size_t) = nullptr;
    if constexpr (simd::integer<Arch>::dot_i8::input_offset != 0) function = &offset_codes<Arch>;
    return function;
}

template <class Arch>
constexpr conv2d_table make_conv2d_table() {
    using ops = simd::integer<Arch>;
    return {Arch::name,
            ops::lanes,
            &channel_of_lane<Arch>,
            conv2d_functions<Arch, typename ops::dot_i8>(),
            conv2d_functions<Arch, typename ops::dot_u7>(),
            conv2d_functions<Arch, typename ops::dot_i16>(),
            offset_codes_of<Arch>(),
            &add_residual<Arch>,
            pack_functions_of<Arch>,
            conv2d_tiles_of<Arch>};
}

template <class Arch>
inline constexpr conv2d_table conv2d_table_of = make_conv2d_table<Arch>();

}  // namespace po2quant::kernels

// Before any table of an instruction set with tiles is made.
#include <po2quant/kernels/conv2d_tiles.hpp>
