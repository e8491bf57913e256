#pragma once
/// What conv2d.hpp computes of int8 inputs, by products of tiles (simd/tiles.hpp): 16 pixels × 64 codes × 16 outputs.
///
///   sums[pixel][output] = bias[output] + Σ_t Σ_{c < run}  input[pixel + taps[t].input + c] * weights[t, c][output]
/// Codes are a tile where they are: its rows are pixels of one row of the rectangle, or of one column, input_column or
/// input_row apart. Weights of 64 codes are 16 rows of the packed ones, and the bias is a row that all rows are loaded
/// from. 2 × 2 tiles of sums, of two of codes and two of weights, make 4 products of 4 loads; a sum waits for 3 others
/// between two products of its own, 64 cycles in all where one takes 52.
///
///   registers   0 1   sums of pixels 0, outputs 0 and 1      4 5   codes of pixels 0 and 1
///               2 3   sums of pixels 1, outputs 0 and 1      6 7   weights of outputs 0 and 1
/// One shape serves a whole rectangle. A run's last 64 codes reach back over some whose weights there are 0; a shorter
/// run is one product of fewer codes, a multiple of 4: else they are copied, with zeros behind. The last tile of a row
/// of pixels reaches back over pixels that then are computed twice. Rows of 5 pixels make tiles of 5.
///
/// Layout of weights: [run][⌈length / 64⌉][16][Vectors][lanes][4], as packed for dot products of 64 codes.
/// Numerics, requirements and guarantees: as conv2d.hpp, but that outputs may be written twice, with the same values.
#include <po2quant/kernels/conv2d.hpp>
#include <po2quant/simd/tiles.hpp>

namespace po2quant::kernels {

inline constexpr int conv2d_tile_codes = simd::tile_row_bytes;

/// The tiles of pixels of a rectangle, line by line, of one height.
class conv2d_tile_cursor {
public:
    conv2d_lines<std::int8_t> line;
    std::int64_t tiles;
    int height;

    PO2Q_INLINE explicit conv2d_tile_cursor(const conv2d_rectangle<std::int8_t>& r)
        : line(r, simd::tile_rows), input_(r.input), output_(static_cast<char*>(r.output)) {
        per_line_ = left_ = (line.pixels + simd::tile_rows - 1) / simd::tile_rows;
        tiles = per_line_ * line.lines;
        height = static_cast<int>((line.pixels + per_line_ - 1) / per_line_);
    }
    /// The first pixel of the next tile; the last one of a line ends with it.
    PO2Q_INLINE void take(const std::int8_t*& input, char*& output) {
        const std::int64_t first = left_ == 1 ? line.pixels - height : (per_line_ - left_) * height;
        input = input_ + first * line.input_pixel;
        output = output_ + first * line.output_pixel;
        if (--left_ > 0) return;
        left_ = per_line_;
        input_ += line.input_line;
        output_ += line.output_line;
    }

private:
    const std::int8_t* input_;
    char* output_;
    std::int64_t per_line_;
    std::int64_t left_;  ///< tiles of the line
};

/// Sums of Pixels × Outputs tiles, of pixels that follow pixel[p] and of the outputs from `output` on, stored at
/// sums[p]. Short: runs have less than 64 codes; where these are no multiple of 4, `copied` has room for them.
template <class Tiles, int Lanes, int Width, int Pixels, int Outputs, bool Short>
PO2Q_INLINE void conv2d_tile_sums(Tiles& tiles, const conv2d_rectangle<std::int8_t>& r,
                                  const std::int8_t* const (&pixel)[2], std::int64_t step, int height, int output,
                                  std::int8_t* copied, std::int32_t (&sums)[2][simd::tile_rows * Lanes]) {
    constexpr int row_bytes = 4 * Lanes;  // of packed weights and of sums
    constexpr int tile_bytes = 4 * Width;
    simd::unroll<Pixels * Outputs>([&](auto i) PO2Q_INLINE_LAMBDA {
        tiles.template load<i / Outputs * 2 + i % Outputs>(r.bias + output + i % Outputs * Width, 0);
    });
    const auto* const weights = static_cast<const std::int8_t*>(r.weights) + 4 * output;
    const conv2d_tap* const taps = r.taps;
    const std::int64_t tap_count = r.tap_count;
    const std::int64_t run = r.run;
    for (std::int64_t t = 0; t < tap_count; ++t) {
        const std::int8_t* w = weights + taps[t].weights * Lanes;
        std::int64_t at = taps[t].input;
        const std::int64_t last = at + run - conv2d_tile_codes;
        for (std::int64_t left = run; left > 0; left -= conv2d_tile_codes) {
            if (!Short && at > last) at = last;
            simd::unroll<Outputs>(
                [&](auto o) PO2Q_INLINE_LAMBDA { tiles.template load<6 + o>(w + o * tile_bytes, row_bytes); });
            simd::unroll<Pixels>([&](auto p) PO2Q_INLINE_LAMBDA {
                const std::int8_t* const codes = pixel[p] + at;
                if (Short && run % 4 != 0) {
                    for (int row = 0; row < height; ++row)
                        Tiles::copy_row(copied + row * conv2d_tile_codes, codes + row * step, static_cast<int>(run));
                    tiles.template load<4 + p>(copied, conv2d_tile_codes);
                } else {
                    tiles.template load<4 + p>(codes, step);
                }
                simd::unroll<Outputs>([&](auto o)
                                          PO2Q_INLINE_LAMBDA { tiles.template dot<2 * p + o, 4 + p, 6 + o>(); });
            });
            at += conv2d_tile_codes;
            w += conv2d_tile_codes * Lanes;
        }
    }
    simd::unroll<Pixels * Outputs>([&](auto i) PO2Q_INLINE_LAMBDA {
        tiles.template store<i / Outputs * 2 + i % Outputs>(sums[i / Outputs] + output + i % Outputs * Width,
                                                            row_bytes);
    });
}

/// Codes of Pixels pixels of which each has Vectors registers of sums in memory.
template <class Arch, int Pixels, int Vectors>
PO2Q_INLINE void store_tile_pixels(const std::int32_t* sums, char* output, std::int64_t step,
                                   const conv2d_rectangle<std::int8_t>& r, const tile_store<Arch, Vectors>& store) {
    using ops = simd::integer<Arch>;
    typename ops::reg acc[Pixels][Vectors];
    simd::unroll<Pixels * Vectors>(
        [&](auto i) PO2Q_INLINE_LAMBDA { acc[i / Vectors][i % Vectors] = ops::load(sums + i * ops::lanes); });
    store(output, step, acc, r.requantize, r.outputs, simd::up_to<Pixels>);
}

template <class Arch, class Tiles, int Vectors, bool Short>
void conv2d_by_tiles(const conv2d_rectangle<std::int8_t>& rectangle) {
    constexpr int lanes = Vectors * simd::integer<Arch>::lanes;
    constexpr int groups = (lanes + 15) / 16;  // tiles of outputs
    constexpr int width = lanes / groups;      // outputs of a tile
    static_assert(groups * width == lanes);
    const conv2d_rectangle<std::int8_t> r = rectangle;  // out of reach of what is stored
    if (r.rows * r.columns == 0) return;
    conv2d_tile_cursor cursor(r);
    const int height = cursor.height;
    const int codes = Short ? static_cast<int>(r.run + 3) / 4 * 4 : conv2d_tile_codes;
    simd::tile_shapes shapes;
    for (int i = 0; i < 4; ++i) shapes.set(i, height, 4 * width);
    for (int i = 4; i < 6; ++i) shapes.set(i, height, codes);
    for (int i = 6; i < 8; ++i) shapes.set(i, codes / 4, 4 * width);

    alignas(64) std::int32_t sums[2][simd::tile_rows * lanes];
    alignas(64) std::int8_t copied[Short ? simd::tile_rows * conv2d_tile_codes : 1];
    const tile_store<Arch, Vectors> store(r.requantize, r.outputs);
    Tiles tiles(shapes);
    const auto take = [&](auto count) PO2Q_INLINE_LAMBDA {
        const std::int8_t* pixel[2];
        char* out[2];
        simd::unroll<count>([&](auto p) PO2Q_INLINE_LAMBDA { cursor.take(pixel[p], out[p]); });
        simd::unroll<(groups + 1) / 2>([&](auto g) PO2Q_INLINE_LAMBDA {
            constexpr int outputs = 2 * g + 1 < groups ? 2 : 1;
            conv2d_tile_sums<Tiles, lanes, width, count, outputs, Short>(tiles, r, pixel, cursor.line.input_pixel,
                                                                         height, 2 * g * width, copied, sums);
        });
        simd::unroll<count>([&](auto p) PO2Q_INLINE_LAMBDA {
            const std::int64_t step = cursor.line.output_pixel;
            if (r.requantize.kind > epilogue::shift) {
                store_tile_apart<Arch, Vectors>(out[p], step, sums[p], height, r.requantize, r.outputs);
                return;
            }
            int i = 0;
            for (; i + 4 <= height; i += 4)
                store_tile_pixels<Arch, 4>(sums[p] + i * lanes, out[p] + i * step, step, r, store);
            for (; i < height; ++i) store_tile_pixels<Arch, 1>(sums[p] + i * lanes, out[p] + i * step, step, r, store);
        });
    };
    for (std::int64_t pairs = cursor.tiles / 2; pairs > 0; --pairs) take(std::integral_constant<int, 2>{});
    if (cursor.tiles % 2 != 0) take(std::integral_constant<int, 1>{});
    tiles.release();
    if (r.requantize.stream) simd::stream_fence<Arch>();
}

/// As conv2d_functions; int16 inputs have none.
template <class Arch, class Tiles>
constexpr conv2d_table make_conv2d_tile_table() {
    conv2d_table::functions<std::int8_t> f{{conv2d_tile_codes, 1, 1, 0, 4, 4, false}, {}, {}};
    simd::unroll<4>([&](auto v) {
        f.whole[v] = &conv2d_by_tiles<Arch, Tiles, v + 1, false>;
        f.shorter[v] = &conv2d_by_tiles<Arch, Tiles, v + 1, true>;
    });
    return {Arch::name, simd::integer<Arch>::lanes, &channel_of_lane<Arch>, f, f, {},
            nullptr,    &add_residual<Arch>,        pack_functions_of<Arch>};
}

template <class Arch, class Tiles>
inline constexpr conv2d_table conv2d_tile_table_of = make_conv2d_tile_table<Arch, Tiles>();

template <class Arch, class Tiles>
const conv2d_table* conv2d_tiles() {
    return Tiles::allowed() ? &conv2d_tile_table_of<Arch, Tiles> : nullptr;
}

#if defined(PO2QUANT_AMX)
template <>
inline constexpr const conv2d_table* (*conv2d_tiles_of<arch::amx_int8>)() =
    &conv2d_tiles<arch::amx_int8, simd::amx_tiles>;
#endif

}  // namespace po2quant::kernels
