#pragma once
/// Depthwise convolution, int8 × int8 → int32 → int8, NHWC: channels in lanes, whatever their number.
///
///   acc(y, j) = bias[j] + Σ_ky Σ_kx  row(y · stride + ky · dilation)[j + kx · tap] * weights[ky][kx][j]
///   out(y, j) = clamp( shift_right( acc(y, j), shift[j] ), low, high )
/// A vector is some neighbouring elements j of an output row: channels of one pixel, or, where a layer moves by one
/// pixel, of several; taps are `tap` = channels · dilation elements apart all the same.
///
/// Each vector walks down a strip of rows. An input row is loaded once per column tap, its taps interleaved into lanes
/// (simd/depthwise_steps.hpp), and added to every output row that sees it: with a 3×3 kernel to three, kept in
/// registers.
///
///   input row r   →   output row r − 2 (ky = 2), done: shift, pack, store
///                     output row r − 1 (ky = 1)
///                     output row r     (ky = 0), begins with the bias
/// Rows of padding are left out, and each row's bias knows of it; columns of padding are lanes loaded as 0.
///
/// Layout of weights, packed by inference/depthwise_conv2d.hpp: [block][ky][⌈KW / taps⌉][vectors][lanes] dwords of
/// `taps` codes each, zeros behind the last tap and channel.
/// Guarantees: reads and writes named elements only; no allocation, no exceptions.
#include <po2quant/kernels/epilogue.hpp>
#include <po2quant/simd/depthwise_steps.hpp>
#include <po2quant/tensor/window.hpp>

namespace po2quant::kernels {

/// Columns of vectors side by side, and the strip of rows they walk down. Distances are in elements.
struct depthwise_strip {
    const std::int8_t* input;  ///< the image's first element
    std::int64_t input_row;    ///< elements of an input row
    std::int64_t input_height;
    std::int64_t first_row;  ///< input row of the first output row's ky = 0; negative in the padding
    std::int64_t
        first_element;  ///< element in its row of the first vector's first lane at kx = 0; negative in the padding
    std::int64_t input_step;  ///< to the next column's
    std::int64_t tap;         ///< to the next column tap's

    void* output;  ///< first vector's first lane in the strip's first row: int8 codes or int32 sums
    std::int64_t output_row;
    std::int64_t output_step;  ///< to the next column's
    std::int64_t output_lane;  ///< from one lane's output to the next: the multiplier

    std::int64_t rows;  ///< output rows
    std::int64_t columns;
    std::int64_t group;  ///< vectors of a column, whose lanes follow each other: they share cache lines
    int lanes;           ///< of each vector that exist
    extent2d kernel;
    std::int64_t stride;    ///< of rows
    std::int64_t dilation;  ///< of rows

    /// Lanes and weights lie in blocks, that of each vector behind that of the one before, block 0 behind the last.
    std::int64_t block;
    std::int64_t blocks;
    const std::int32_t* weights;   ///< of block 0
    std::int64_t block_weights;    ///< dwords from block to block
    const std::int32_t* bias;      ///< of block 0
    const std::int64_t* row_bias;  ///< [rows]: elements from `bias` to that of an output row
    requantize_block requantize;   ///< of block 0
};

/// One vector's place. By value: as far as compilers know, a store of codes could change what is behind a reference.
template <class Arch>
struct depthwise_vector {
    using steps = simd::depthwise_steps<Arch>;
    std::uintptr_t input;  ///< first lane at kx = 0 in input row 0; as a number it may lie before the image
    std::int64_t element;  ///< as depthwise_strip::first_element
    std::int64_t input_row;
    std::int64_t tap;
    int lanes;
    char* output;
    std::int64_t output_row;  ///< bytes
    std::int64_t output_lane;
    const std::int32_t* weights;
    const std::int32_t* bias;
    requantize_block requantize;

    PO2Q_INLINE depthwise_vector(const depthwise_strip& s, std::int64_t column, std::int64_t i, std::int64_t block,
                                 std::int64_t bytes)
        : element(s.first_element + column * s.input_step + i * steps::lanes),
          input_row(s.input_row),
          tap(s.tap),
          lanes(s.lanes),
          output(static_cast<char*>(s.output) + (column * s.output_step + i * steps::lanes * s.output_lane) * bytes),
          output_row(s.output_row * bytes),
          output_lane(s.output_lane),
          weights(s.weights + block * s.block_weights),
          bias(s.bias + block * steps::lanes),
          requantize(s.requantize) {
        input = reinterpret_cast<std::uintptr_t>(s.input) + static_cast<std::uintptr_t>(element);
        requantize.shift += block * steps::lanes;
        requantize.rounding_constant += block * steps::lanes;
    }
    PO2Q_INLINE void begin(std::int64_t row_bias, typename steps::reg (&acc)[steps::vectors]) const {
        const std::int32_t* b = bias + row_bias;
        simd::unroll<steps::vectors>([&](auto v)
                                         PO2Q_INLINE_LAMBDA { acc[v] = steps::ops::load(b + v * steps::ops::lanes); });
    }
    template <bool Plain>
    PO2Q_INLINE void finish(char* out, const typename steps::reg (&acc)[steps::vectors]) const {
        if constexpr (Plain) store_all_codes<Arch, steps::vectors>(out, acc, requantize);
        else store_sums<Arch, steps::vectors>(out, output_lane, acc, requantize, lanes);
    }
    static PO2Q_INLINE const std::int8_t* address(std::uintptr_t x, std::int64_t distance) {
        return reinterpret_cast<const std::int8_t*>(x + static_cast<std::uintptr_t>(distance));
    }
    /// The lanes that lie inside the row at column tap kx.
    PO2Q_INLINE typename steps::part inside(std::int64_t kx) const {
        const std::int64_t first = element + kx * tap;
        const std::int64_t end = input_row - first;
        return steps::part_of(first < 0 ? (-first < lanes ? -first : lanes) : 0,
                              end < lanes ? (end > 0 ? end : 0) : lanes);
    }
};

/// Square kernels of Kernel taps, rows moving by Stride. Plain: all lanes of all taps lie inside their row, and all
/// leave as codes side by side, with epilogue::shift.
template <class Arch, int Kernel, int Stride, bool Plain>
PO2Q_INLINE void depthwise_walk(const depthwise_vector<Arch> vector, const depthwise_strip& s) {
    using steps = simd::depthwise_steps<Arch>;
    constexpr int groups = (Kernel + steps::taps - 1) / steps::taps;
    constexpr int slots = (Kernel + Stride - 1) / Stride;  // output rows that one input row may serve
    constexpr bool keep = Kernel * groups * steps::vectors <= steps::weight_registers;

    typename steps::lane_taps kept[keep ? Kernel * groups * steps::vectors : 1];
    if constexpr (keep)
        simd::unroll<Kernel * groups * steps::vectors>(
            [&](auto i) PO2Q_INLINE_LAMBDA { kept[i] = steps::load_weights(vector.weights + i * steps::ops::lanes); });
    typename steps::part inside[Plain ? 1 : Kernel];
    if constexpr (!Plain) simd::unroll<Kernel>([&](auto kx) PO2Q_INLINE_LAMBDA { inside[kx] = vector.inside(kx); });

    const std::int64_t rows = s.rows;
    const std::int64_t* row_bias = s.row_bias;
    // Rows lie too far apart for the CPU to foresee the next vector's.
    [[maybe_unused]] const std::int64_t next = (Kernel - 1) * vector.tap + s.input_step;
    std::int64_t row = s.first_row;
    const auto row_end = static_cast<std::uint64_t>([&] {
        const std::int64_t end = row + (rows - 1) * Stride + Kernel;
        return end < s.input_height ? end : s.input_height;
    }());
    std::uintptr_t x = vector.input + static_cast<std::uintptr_t>(row * vector.input_row);
    char* out = vector.output;
    typename steps::reg acc[slots][steps::vectors];
    simd::unroll<slots>([&](auto i) PO2Q_INLINE_LAMBDA { vector.begin(*row_bias, acc[i]); });
    // Step t begins output row t in slot t % slots, adds the input rows it is the newest to see, and ends row t − slots
    // + 1.
    const std::int64_t last = rows + slots - 1;
    for (std::int64_t base = 0; base < last; base += slots) {
        simd::unroll<slots>([&](auto phase) PO2Q_INLINE_LAMBDA {
            const std::int64_t t = base + phase;
            vector.begin(*row_bias, acc[phase]);
            if (t + 1 < rows) ++row_bias;
            simd::unroll<Stride>([&](auto q) PO2Q_INLINE_LAMBDA {
                if (static_cast<std::uint64_t>(row) < row_end) {
                    if constexpr (Plain && Kernel == 3) __builtin_prefetch(vector.address(x, next));
                    simd::unroll<groups>([&](auto g) PO2Q_INLINE_LAMBDA {
                        typename steps::channels tap[steps::taps];
                        simd::unroll<steps::taps>([&](auto k) PO2Q_INLINE_LAMBDA {
                            constexpr int kx = g * steps::taps + k;
                            if constexpr (kx >= Kernel) tap[k] = tap[0];  // at weight 0
                            else if constexpr (Plain) tap[k] = steps::load(vector.address(x, kx * vector.tap));
                            else tap[k] = steps::load(vector.address(x, kx * vector.tap), inside[kx]);
                        });
                        typename steps::lane_taps d[steps::vectors];
                        steps::interleave(tap, d);
                        simd::unroll<slots>([&](auto m) PO2Q_INLINE_LAMBDA {
                            constexpr int ky = q + Stride * m;
                            if constexpr (ky < Kernel) {
                                constexpr int slot = (phase - m + slots) % slots;
                                simd::unroll<steps::vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                                    constexpr int at = (ky * groups + g) * steps::vectors + v;
                                    if constexpr (keep) acc[slot][v] = steps::dot(acc[slot][v], d[v], kept[at]);
                                    else
                                        acc[slot][v] =
                                            steps::dot(acc[slot][v], d[v], vector.weights + at * steps::ops::lanes);
                                });
                            }
                        });
                    });
                }
                ++row;
                x += static_cast<std::uintptr_t>(vector.input_row);
            });
            constexpr int done = (phase + 1) % slots;
            if (t >= slots - 1 && t < last) {
                vector.template finish<Plain>(out, acc[done]);
                out += vector.output_row;
            }
        });
    }
}

/// Any kernel, stride and dilation: one output row after the other.
template <class Arch>
PO2Q_INLINE void depthwise_row(const depthwise_vector<Arch>& vector, const depthwise_strip& s, std::int64_t y) {
    using steps = simd::depthwise_steps<Arch>;
    const std::int64_t groups = (s.kernel.width + steps::taps - 1) / steps::taps;
    typename steps::reg acc[steps::vectors];
    vector.begin(s.row_bias[y], acc);
    for (std::int64_t ky = 0; ky < s.kernel.height; ++ky) {
        const std::int64_t row = s.first_row + y * s.stride + ky * s.dilation;
        if (row < 0 || row >= s.input_height) continue;
        const std::uintptr_t x = vector.input + static_cast<std::uintptr_t>(row * vector.input_row);
        for (std::int64_t g = 0; g < groups; ++g) {
            typename steps::channels tap[steps::taps];
            simd::unroll<steps::taps>([&](auto k) PO2Q_INLINE_LAMBDA {
                const std::int64_t kx = g * steps::taps + k;
                // Behind the last tap: the last one again, at weight 0.
                const std::int64_t at = kx < s.kernel.width ? kx : s.kernel.width - 1;
                tap[k] = steps::load(vector.address(x, at * vector.tap), vector.inside(at));
            });
            typename steps::lane_taps d[steps::vectors];
            steps::interleave(tap, d);
            const std::int32_t* w = vector.weights + (ky * groups + g) * steps::lanes;
            simd::unroll<steps::vectors>(
                [&](auto v) PO2Q_INLINE_LAMBDA { acc[v] = steps::dot(acc[v], d[v], w + v * steps::ops::lanes); });
        }
    }
    vector.template finish<false>(vector.output + y * vector.output_row, acc);
}

/// All vectors of a strip; Kernel 0 is any.
template <class Arch, int Kernel, int Stride, bool Plain>
void depthwise_conv2d(const depthwise_strip& s) {
    const std::int64_t bytes = s.requantize.kind == epilogue::accumulators ? 4 : 1;
    std::int64_t block = s.block;
    for (std::int64_t column = 0; column < s.columns; ++column) {
        for (std::int64_t i = 0; i < s.group; ++i) {
            const depthwise_vector<Arch> vector(s, column, i, block, bytes);
            if constexpr (Kernel == 0) {
                for (std::int64_t y = 0; y < s.rows; ++y) depthwise_row<Arch>(vector, s, y);
            } else {
                depthwise_walk<Arch, Kernel, Stride, Plain>(vector, s);
            }
            block = block + 1 == s.blocks ? 0 : block + 1;
        }
    }
}

/// What the layers above need of an architecture, without being compiled for it.
struct depthwise_table {
    using function = void (*)(const depthwise_strip&);
    struct square {
        int kernel;
        int stride;
        function plain;
        function edge;
    };
    /// Kernels of one width of registers.
    struct width_entry {
        int lanes;  ///< of a vector: `vectors` registers
        int vectors;
        int taps;  ///< codes in a dword of weights
        int input_offset;
        int (*channel_of)(int vectors, int vector, int lane);
        function any;
        square squares[4];  ///< faster ones, for some kernels; kernel 0 ends them
    };
    const char* arch;
    int widths;
    /// Widest first: layers with fewer channels than lanes go to the narrowest registers that hold them.
    width_entry entry[3];
};

template <class Arch>
constexpr depthwise_table::width_entry depthwise_width() {
    using steps = simd::depthwise_steps<Arch>;
    return {steps::lanes,
            steps::vectors,
            steps::taps,
            steps::input_offset,
            &channel_of_lane<Arch>,
            &depthwise_conv2d<Arch, 0, 0, false>,
            {}};
}

template <class Arch, int Kernel, int Stride>
constexpr depthwise_table::square depthwise_square() {
    return {Kernel, Stride, &depthwise_conv2d<Arch, Kernel, Stride, true>,
            &depthwise_conv2d<Arch, Kernel, Stride, false>};
}

template <class Arch>
constexpr depthwise_table make_depthwise_table() {
    depthwise_table table{Arch::name, 1, {depthwise_width<Arch>(), {}, {}}};
    table.entry[0].squares[0] = depthwise_square<Arch, 3, 1>();
    table.entry[0].squares[1] = depthwise_square<Arch, 3, 2>();
    table.entry[0].squares[2] = depthwise_square<Arch, 5, 1>();
    table.entry[0].squares[3] = depthwise_square<Arch, 5, 2>();
#if defined(__SSE4_1__)
    // The narrower kernels carry Arch's name too: two instantiations of one symbol must not differ by flags.
    if constexpr (simd::integer<Arch>::lanes == 16) {
        table.widths = 3;
        table.entry[1] = depthwise_width<simd::narrowed<Arch, arch::avx2>>();
        table.entry[2] = depthwise_width<simd::narrowed<Arch, arch::sse4_1>>();
    } else if constexpr (simd::integer<Arch>::lanes == 8) {
        table.widths = 2;
        table.entry[1] = depthwise_width<simd::narrowed<Arch, arch::sse4_1>>();
    }
#endif
    return table;
}

template <class Arch>
inline constexpr depthwise_table depthwise_table_of = make_depthwise_table<Arch>();

}  // namespace po2quant::kernels
