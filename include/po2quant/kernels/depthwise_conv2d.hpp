#pragma once
/// Depthwise convolution, int8 × int8 → int32 → int8, NHWC: channels in lanes, whatever their number.
///
///   acc(y, j) = bias[j] + Σ_ky Σ_kx  row(y · stride + ky · dilation)[j + kx · tap] * weights[ky][kx][j]
///   out(y, j) = clamp( shift_right( acc(y, j), shift[j] ), low, high )
/// A vector is channels of one pixel; or, where a layer of few channels moves by one pixel, neighbouring elements j of
/// an output row, of several pixels: taps are `tap` = channels · dilation elements apart all the same. Where it moves
/// by two pixels, the lanes of such a vector are every other block of `channels` elements of an input row.
///
/// Each vector walks down a strip of rows. Vectors of one pixel see the image with rows and columns exchanged: their
/// walk goes along one of its rows, through memory as it lies, while the rows that the kernel sees stay in L1. An input
/// row is loaded once per column tap, its taps interleaved into lanes (simd/depthwise_steps.hpp), and added to every
/// output row that sees it: with a 3×3 kernel to three, kept in registers.
///
///   input row r   →   output row r − 2 (ky = 2), done: shift, pack, store
///                     output row r − 1 (ky = 1)
///                     output row r     (ky = 0), begins with the bias
/// Rows of padding are left out, and each row's bias knows of it; of columns of padding, zeros are loaded. The walks
/// know nothing of these: depthwise_edge gives them copies.
///
/// Layout of weights, packed by inference/depthwise_packing.hpp: [block][ky][⌈KW / taps⌉][vectors][lanes] dwords of
/// `taps` codes each, zeros behind the last tap and channel. Where square kernels would leave a dword of each row to
/// its last tap alone, [block] is [ky][⌊KW / taps⌋], and behind those the last taps of all rows, as depthwise_layout
/// has them: 5×5 taps by fours are 5 + 2 dwords instead of 10, 3×3 by twos 3 + 2 instead of 6.
/// Guarantees: reads and writes named elements only; no allocation, no exceptions.
#include <po2quant/kernels/epilogue.hpp>
#include <po2quant/kernels/pack_weights.hpp>
#include <po2quant/numerics/format.hpp>
#include <po2quant/simd/depthwise_steps.hpp>
#include <po2quant/tensor/window.hpp>

namespace po2quant::kernels {

/// Output rows of a strip at most, where walks go down the rows of the image. Its first rows are computed for it alone,
/// which 24 make little; three columns of them stay in L1.
inline constexpr std::int64_t depthwise_rows = 24;
/// Rows around those of a strip that a walk may begin and never end.
inline constexpr std::int64_t depthwise_rows_before = 5 - 1;
inline constexpr std::int64_t depthwise_rows_behind = 2 * (5 - 1);

/// How the taps of a kernel lie in dwords of `taps` codes: those of a row side by side; with column_apart without the
/// last of each row, and these in dwords of their own. Dword j of the column has those of rows row(j) … row_end(j) − 1.
/// It is multiplied with the newest `taps` input rows in the step that meets the last of them: there row(j) is at
/// place(j), and other places have weight 0.
///
///   5 rows by fours, stride 1    j = 0: rows 0 1 2 3, in the step of row 3
///                                j = 1: rows . . . 4, in the step of row 4
struct depthwise_layout {
    std::int64_t height;
    std::int64_t width;
    std::int64_t stride;  ///< of rows
    std::int64_t taps;
    bool column_apart;

    /// Dwords of a row, of the column, and of the kernel.
    constexpr std::int64_t groups() const { return column_apart ? width / taps : (width + taps - 1) / taps; }
    constexpr std::int64_t column() const { return column_apart ? (height + taps - 1) / taps : 0; }
    constexpr std::int64_t dwords() const { return height * groups() + column(); }
    constexpr std::int64_t row(std::int64_t j) const { return j * taps; }
    constexpr std::int64_t row_end(std::int64_t j) const { return std::min((j + 1) * taps, height); }
    /// Steps between that in which an output row begins and that in which dword j is multiplied.
    constexpr std::int64_t age(std::int64_t j) const { return (row_end(j) - 1) / stride; }
    constexpr std::int64_t place(std::int64_t j) const { return row(j) - (stride * (age(j) + 1) - taps); }
};

/// Output rows that one input row may serve.
template <int Kernel, int Stride>
inline constexpr int depthwise_slots = (Kernel + Stride - 1) / Stride;

/// That of a square kernel: the last column apart where rows without it are whole dwords.
template <class Steps, int Kernel, int Stride>
inline constexpr depthwise_layout depthwise_square_layout{
    Kernel, Kernel, Stride, Steps::taps,
    Kernel % Steps::taps == 1 && depthwise_slots<Kernel, Stride> <= simd::most_slots_apart<typename Steps::isa>};

/// Columns of vectors side by side, and the strip of rows they walk down. Distances are in elements.
struct depthwise_strip {
    const std::int8_t* input;   ///< the image's first element
    std::int64_t input_row;     ///< from one input row to the next
    std::int64_t row_elements;  ///< that taps of a row count in: those beyond are padding
    std::int64_t input_height;
    std::int64_t first_row;  ///< input row of the first output row's ky = 0; negative in the padding
    std::int64_t
        first_element;  ///< element in its row of the first vector's first lane at kx = 0; negative in the padding
    std::int64_t input_step;  ///< to the next column's
    std::int64_t tap;         ///< to the next column tap's
    std::int64_t spread;      ///< elements of a block, where lanes are every other block of the input

    void* output;  ///< first vector's first lane in the strip's first row: int8 codes, int32 sums or floats
    std::int64_t output_row;
    std::int64_t output_step;  ///< to the next column's
    std::int64_t output_lane;  ///< from one lane's output to the next: the multiplier

    std::int64_t rows;  ///< output rows
    std::int64_t columns;
    std::int64_t group;  ///< vectors of a column, whose lanes follow each other
    std::int64_t last;   ///< first lane of the last one, which may share some with the one before
    int lanes;           ///< of each vector that exist: fewer for depthwise_edge and depthwise_any only
    extent2d kernel;
    std::int64_t stride;    ///< of rows
    std::int64_t dilation;  ///< of rows
    bool column_apart;      ///< as depthwise_layout has it

    /// Lanes and weights lie in blocks, that of each vector behind that of the one before, block 0 behind the last.
    std::int64_t block;
    std::int64_t blocks;
    const std::int32_t* weights;  ///< of block 0
    std::int64_t block_weights;   ///< dwords from block to block
    const std::int32_t* bias;     ///< of block 0
    /// Elements from `bias` to that of an output row. Can be read for depthwise_rows_before before the first and
    /// depthwise_rows_behind behind the last, though nothing comes of those.
    const std::int64_t* row_bias;
    requantize_block requantize;  ///< of block 0
};

/// One vector's place. By value: as far as compilers know, a store of codes could change what is behind a reference.
template <class Steps>
struct depthwise_vector {
    using reg = typename Steps::reg;
    std::uintptr_t input;  ///< first lane at kx = 0 in input row 0; as a number it may lie before the image
    std::int64_t element;  ///< as depthwise_strip::first_element
    std::int64_t input_row;
    std::int64_t row_elements;
    std::int64_t tap;
    std::int64_t spread;
    int lanes;
    char* output;
    std::int64_t output_row;  ///< bytes
    std::int64_t output_lane;
    const std::int32_t* weights;
    const std::int32_t* bias;
    std::int64_t block_lane;  ///< of depthwise_strip::requantize

    PO2Q_INLINE depthwise_vector(const depthwise_strip& s, std::int64_t column, std::int64_t i, std::int64_t block,
                                 epilogue kind)
        : element(s.first_element + column * s.input_step + lane(s, i)),
          input_row(s.input_row),
          row_elements(s.row_elements),
          tap(s.tap),
          spread(s.spread),
          lanes(s.lanes),
          output(static_cast<char*>(s.output) +
                 (column * s.output_step + lane(s, i) * s.output_lane) * output_bytes(kind)),
          output_row(s.output_row * output_bytes(kind)),
          output_lane(s.output_lane),
          weights(s.weights + block * s.block_weights),
          bias(s.bias + block * Steps::lanes),
          block_lane(block * Steps::lanes) {
        input = reinterpret_cast<std::uintptr_t>(s.input) + static_cast<std::uintptr_t>(element);
    }
    static PO2Q_INLINE std::int64_t lane(const depthwise_strip& s, std::int64_t i) {
        return i + 1 == s.group ? s.last : i * Steps::lanes;
    }
    /// Sums of registers First and following begin with the bias.
    template <int First, int Count>
    PO2Q_INLINE void begin(std::int64_t row_bias, reg (&acc)[Count]) const {
        load_registers<typename Steps::isa, Count>(acc, bias + row_bias + First * Steps::ops::lanes);
    }
    static PO2Q_INLINE const std::int8_t* address(std::uintptr_t x, std::int64_t distance) {
        return reinterpret_cast<const std::int8_t*>(x + static_cast<std::uintptr_t>(distance));
    }
    /// To column tap kx; where that is padding, to the row's first element.
    PO2Q_INLINE std::int64_t distance(std::int64_t kx) const {
        const std::int64_t first = element + kx * tap;
        return first <= -Steps::lanes || first >= row_elements ? -element : kx * tap;
    }
    /// The lanes that lie inside the row at column tap kx.
    PO2Q_INLINE typename Steps::part inside(std::int64_t kx) const {
        const std::int64_t first = element + kx * tap;
        const std::int64_t end = row_elements - first;
        return Steps::part_of(first < 0 ? (-first < lanes ? -first : lanes) : 0,
                              end < lanes ? (end > 0 ? end : 0) : lanes);
    }
    /// Every other block of the input at column tap kx; 0 in the padding.
    PO2Q_INLINE typename Steps::channels load_blocks(std::uintptr_t x, std::int64_t kx) const {
        alignas(64) std::int8_t codes[Steps::lanes] = {};
        for (std::int64_t lane = 0; lane < lanes; lane += spread) {
            const std::int64_t from = kx * tap + 2 * lane;
            if (element + from >= 0 && element + from < row_elements)
                std::memcpy(codes + lane, address(x, from), static_cast<std::size_t>(spread));
        }
        return Steps::load(codes);
    }
};

/// The weights that a walk multiplies with: of registers First … First + Count − 1 of a vector. As many as fit stay in
/// registers, the others are operands in memory.
template <class Steps, int Kernel, int Stride, int First, int Count>
struct depthwise_weights {
    static constexpr const depthwise_layout& layout = depthwise_square_layout<Steps, Kernel, Stride>;
    static constexpr int groups = layout.groups();
    static constexpr int all = layout.dwords() * Count;
    static constexpr int kept = all < Steps::weight_registers ? all : Steps::weight_registers;
    const std::int32_t* memory;
    typename Steps::lane_taps reg[kept > 0 ? kept : 1];

    static constexpr int place(int i) { return (i / Count * Steps::vectors + First + i % Count) * Steps::ops::lanes; }
    PO2Q_INLINE explicit depthwise_weights(const std::int32_t* weights) : memory(weights) { keep(simd::up_to<kept>); }
    /// Adds the products of taps d with the weights of a row of the kernel and a group of its taps; nothing where the
    /// kernel has no such row.
    template <int Row, int Group>
    PO2Q_INLINE void multiply_add(typename Steps::reg (&acc)[Count],
                                  const typename Steps::lane_taps (&d)[Steps::vectors]) const {
        if constexpr (Row < Kernel)
            multiply_add_registers<(Row * groups + Group) * Count>(acc, d, memory, simd::up_to<Count>);
    }
    /// The same with dword J of the last column.
    template <int J>
    PO2Q_INLINE void multiply_add_column(typename Steps::reg (&acc)[Count],
                                         const typename Steps::lane_taps (&d)[Steps::vectors]) const {
        // g++ would load those in memory for several steps at once, and spill them.
        const std::int32_t* at = memory;
        asm("" : "+r"(at));
        multiply_add_registers<(Kernel * groups + J) * Count>(acc, d, at, simd::up_to<Count>);
    }

private:
    template <int... I>
    PO2Q_INLINE void keep(simd::indices<I...>) {
        ((reg[I] = Steps::load_weights(memory + place(I))), ...);
    }
    template <int I, int... V>
    PO2Q_INLINE void multiply_add_registers(typename Steps::reg (&acc)[Count],
                                            const typename Steps::lane_taps (&d)[Steps::vectors],
                                            const std::int32_t* at, simd::indices<V...>) const {
        ((acc[V] = product<I + V>(acc[V], d[First + V], at)), ...);
    }
    template <int I>
    PO2Q_INLINE typename Steps::reg product(typename Steps::reg acc, typename Steps::lane_taps d,
                                            const std::int32_t* at) const {
        if constexpr (I < kept) return Steps::dot(acc, d, reg[I]);
        else return Steps::dot(acc, d, at + place(I));
    }
};

/// The taps of an input row for a vector. Spread: lanes are every other block.
template <class Steps, int Kernel, bool Spread>
class depthwise_taps {
public:
    PO2Q_INLINE explicit depthwise_taps(const depthwise_vector<Steps>& vector)
        : tap_(vector.tap), blocks_(blocks(vector.spread)) {}
    /// Group `Group` of Steps::taps taps of the row at x, interleaved.
    template <int Group>
    PO2Q_INLINE void load(std::uintptr_t x, typename Steps::lane_taps (&d)[Steps::vectors]) const {
        load_group<Group * Steps::taps>(x, d, simd::up_to<Steps::taps>);
    }
    template <int Tap>
    PO2Q_INLINE typename Steps::channels load_tap(std::uintptr_t x) const {
        const std::int8_t* const p = depthwise_vector<Steps>::address(x, Tap * tap_);
        if constexpr (Spread) return Steps::load(p, blocks_);
        else return Steps::load(p);
    }

private:
    template <int First, int... K>
    PO2Q_INLINE void load_group(std::uintptr_t x, typename Steps::lane_taps (&d)[Steps::vectors],
                                simd::indices<K...>) const {
        typename Steps::channels tap[Steps::taps];
        // Those behind the last are read at weight 0.
        ((tap[K] = First + K < Kernel ? load_tap<First + K>(x) : tap[0]), ...);
        Steps::interleave(tap, d);
    }
    static PO2Q_INLINE auto blocks(std::int64_t spread) {
        if constexpr (Spread) return typename Steps::spread(spread);
        else return 0;
    }
    std::int64_t tap_;
    decltype(blocks(0)) blocks_;
};

/// The newest input rows' codes at the last column tap, where those are multiplied apart.
template <class Steps, int Kernel, int Stride>
class depthwise_newest {
public:
    /// Nothing comes of rows before the first.
    PO2Q_INLINE depthwise_newest() {
        if constexpr (layout.column_apart)
            simd::unroll<Steps::taps>([&](auto k) PO2Q_INLINE_LAMBDA { code_[k] = Steps::none(); });
    }
    /// The codes of the next row; Steps::none() where it is outside.
    PO2Q_INLINE void push(typename Steps::channels codes) { push_back(codes, simd::up_to<Steps::taps - 1>); }
    /// Adds the products of a step's end.
    template <int Phase, int Slots, class Reg, class Weights>
    PO2Q_INLINE void multiply_add(Reg (&acc)[Slots], const Weights& weights) const {
        typename Steps::lane_taps d[Steps::vectors];
        Steps::interleave(code_, d);
        multiply_add_all<Phase>(acc, weights, d, simd::up_to<layout.column()>);
    }

private:
    template <int... K>
    PO2Q_INLINE void push_back(typename Steps::channels codes, simd::indices<K...>) {
        ((code_[K] = code_[K + 1]), ...);
        code_[Steps::taps - 1] = codes;
    }
    template <int Phase, int Slots, class Reg, class Weights, int... J>
    static PO2Q_INLINE void multiply_add_all(Reg (&acc)[Slots], const Weights& weights,
                                             const typename Steps::lane_taps (&d)[Steps::vectors],
                                             simd::indices<J...>) {
        (weights.template multiply_add_column<J>(acc[(Phase - layout.age(J) + Slots) % Slots], d), ...);
    }
    static constexpr const depthwise_layout& layout = depthwise_square_layout<Steps, Kernel, Stride>;
    typename Steps::channels code_[Steps::taps];
};

/// Registers of a vector that one walk computes: half of them, in two walks, where the sums of all would leave
/// registers for few of the weights.
template <class Steps, int Kernel, int Stride>
inline constexpr int depthwise_part = Steps::vectors == 4 && depthwise_slots<Kernel, Stride> > 3 ? 2 : Steps::vectors;

template <class Steps, bool Words>
using depthwise_codes = code_store<typename Steps::isa, Steps::vectors, Words>;

/// Stores the sums of registers First … First + Count − 1 of a vector, as codes or by epilogue::floats. Words: by
/// epilogue::shift_words.
template <class Steps, bool Words, int First, int Count>
PO2Q_INLINE void depthwise_store(char* out, const depthwise_vector<Steps>& vector, const requantize_block& block,
                                 const depthwise_codes<Steps, Words>& codes, const typename Steps::reg (&sums)[Count]) {
    using isa = typename Steps::isa;
    const auto store_codes = [&](const typename Steps::reg(&whole)[Count]) PO2Q_INLINE_LAMBDA {
        if constexpr (Count == Steps::vectors) codes.store(out, whole, Steps::lanes);
        else codes.template store_half<First / 2>(out, whole);
    };
    if (!Words && block.kind == epilogue::floats) {
        if constexpr (Count == Steps::vectors) {
            store_floats<isa, Count>(out, sums, block, Steps::lanes, vector.block_lane);
        } else {
            simd::unroll<Count>([&](auto v) PO2Q_INLINE_LAMBDA {
                const std::int64_t lane = vector.block_lane + (First + v) * Steps::ops::lanes;
                Steps::ops::store_quarters(reinterpret_cast<float*>(out) + 4 * (First + v), 4 * Steps::vectors,
                                           scaled<isa>(sums[v], block, lane), block.stream);
            });
        }
    } else if (!Words && block.kind == epilogue::round) {
        typename Steps::reg to_shift[Count];
        simd::unroll<Count>([&](auto v) PO2Q_INLINE_LAMBDA {
            to_shift[v] = nudged<isa>(sums[v], block, vector.block_lane + (First + v) * Steps::ops::lanes);
        });
        store_codes(to_shift);
    } else {
        store_codes(sums);
    }
}

/// Adds group Group of taps of the input row at x to all output rows that see it: to that of slot Phase − M by row
/// First + Stride · M of the kernel.
template <class Steps, int First, int Stride, int Phase, int Group, class Sums, class Taps, class Weights, int... M>
PO2Q_INLINE void depthwise_add_group(Sums& acc, const Taps& taps, std::uintptr_t x, const Weights& weights,
                                     simd::indices<M...>) {
    constexpr int slots = sizeof...(M);
    typename Steps::lane_taps d[Steps::vectors];
    taps.template load<Group>(x, d);
    (weights.template multiply_add<First + Stride * M, Group>(acc[(Phase - M + slots) % slots], d), ...);
}
/// All groups G.
template <class Steps, int First, int Stride, int Phase, int Slots, class Reg, class Taps, class Weights, int... G>
PO2Q_INLINE void depthwise_add_row(Reg (&acc)[Slots], const Taps& taps, std::uintptr_t x, const Weights& weights,
                                   simd::indices<G...>) {
    (depthwise_add_group<Steps, First, Stride, Phase, G>(acc, taps, x, weights, simd::up_to<Slots>), ...);
}

/// Square kernels of Kernel taps, rows moving by Stride, for registers First … First + Count − 1 of a vector. All lanes
/// of all taps lie inside their row, and all leave side by side: by epilogue::shift_words (Words), or by shift,
/// round or floats. Spread: lanes are every other block.
template <class Steps, int Kernel, int Stride, bool Words, bool Spread, int First, int Count>
PO2Q_INLINE void depthwise_walk(const depthwise_vector<Steps> vector, const depthwise_strip& s,
                                const depthwise_weights<Steps, Kernel, Stride, First, Count>& weights,
                                const depthwise_codes<Steps, Words>& codes) {
    constexpr const depthwise_layout& layout = depthwise_square_layout<Steps, Kernel, Stride>;
    constexpr int slots = depthwise_slots<Kernel, Stride>;

    const depthwise_taps<Steps, Kernel, Spread> taps(vector);
    depthwise_newest<Steps, Kernel, Stride> newest;

    // Steps that would see rows of padding only are left out.
    const std::int64_t skipped = s.first_row < 0 ? -s.first_row / Stride : 0;
    std::int64_t row = s.first_row + skipped * Stride;
    const auto row_end =
        static_cast<std::uint64_t>(std::min(s.first_row + (s.rows - 1) * Stride + Kernel, s.input_height));
    std::uintptr_t x = vector.input + static_cast<std::uintptr_t>(row * vector.input_row);
    char* out = vector.output;
    const std::int64_t* row_bias = s.row_bias + skipped;
    typename Steps::reg acc[slots][Count];
    simd::unroll<slots - 1>(
        [&](auto i) PO2Q_INLINE_LAMBDA { vector.template begin<First>(row_bias[i - (slots - 1)], acc[i + 1]); });
    // The output row that a step ends; it begins the one that is slots − 1 rows below.
    std::int64_t done = skipped - (slots - 1);

    // A step begins an output row in slot `phase`, adds the input rows that it is the newest to see, and ends the
    // oldest row.
    const auto step = [&](auto phase) PO2Q_INLINE_LAMBDA {
        vector.template begin<First>(*row_bias, acc[phase]);
        ++row_bias;
        simd::unroll<Stride>([&](auto q) PO2Q_INLINE_LAMBDA {
            if (static_cast<std::uint64_t>(row) < row_end) {
                depthwise_add_row<Steps, q, Stride, phase, slots>(acc, taps, x, weights, simd::up_to<layout.groups()>);
                if constexpr (layout.column_apart) newest.push(taps.template load_tap<Kernel - 1>(x));
            } else if constexpr (layout.column_apart) {
                newest.push(Steps::none());
            }
            ++row;
            x += static_cast<std::uintptr_t>(vector.input_row);
            // One pointer that moves, not one for each row and tap, which would have to be loaded again.
            asm("" : "+r"(x));
        });
        if constexpr (layout.column_apart) newest.template multiply_add<phase>(acc, weights);
        if (static_cast<std::uint64_t>(done) < static_cast<std::uint64_t>(s.rows)) {
            depthwise_store<Steps, Words, First>(out, vector, s.requantize, codes, acc[(phase + 1) % slots]);
            out += vector.output_row;
        }
        ++done;
    };
    while (done < s.rows) simd::unroll<slots>(step);
}

/// Calls f(column, vector of the column, block) for all vectors of a strip.
template <class F>
PO2Q_INLINE void for_each_vector(const depthwise_strip& s, F&& f) {
    std::int64_t block = s.block;
    for (std::int64_t column = 0; column < s.columns; ++column)
        for (std::int64_t i = 0; i < s.group; ++i) {
            f(column, i, block);
            block = block + 1 == s.blocks ? 0 : block + 1;
        }
}

/// All vectors of a strip, as depthwise_walk has them.
template <class Steps, int Kernel, int Stride, bool Words, bool Spread = false>
void depthwise_square(const depthwise_strip& strip) {
    // A copy is out of reach of the bytes that are written, and need not be read again after each store.
    const depthwise_strip s = strip;
    using codes_type = depthwise_codes<Steps, Words>;
    const epilogue kind = Words ? epilogue::shift_words : s.requantize.kind;
    if constexpr (depthwise_part<Steps, Kernel, Stride> < Steps::vectors) {
        for_each_vector(s, [&](std::int64_t column, std::int64_t i, std::int64_t block) PO2Q_INLINE_LAMBDA {
            const depthwise_vector<Steps> vector(s, column, i, block, kind);
            const codes_type codes(s.requantize, vector.block_lane);
            const depthwise_weights<Steps, Kernel, Stride, 0, 2> low(vector.weights);
            depthwise_walk<Steps, Kernel, Stride, Words, Spread>(vector, s, low, codes);
            const depthwise_weights<Steps, Kernel, Stride, 2, 2> high(vector.weights);
            depthwise_walk<Steps, Kernel, Stride, Words, Spread>(vector, s, high, codes);
        });
    } else {
        // What belongs to a block stays where it is while columns of the same block follow each other.
        using weights_type = depthwise_weights<Steps, Kernel, Stride, 0, Steps::vectors>;
        weights_type weights(s.weights + s.block * s.block_weights);
        codes_type codes(s.requantize, s.block * Steps::lanes);
        for_each_vector(s, [&](std::int64_t column, std::int64_t i, std::int64_t block) PO2Q_INLINE_LAMBDA {
            const depthwise_vector<Steps> vector(s, column, i, block, kind);
            if (weights.memory != vector.weights) {
                weights = weights_type(vector.weights);
                codes = codes_type(s.requantize, vector.block_lane);
            }
            depthwise_walk<Steps, Kernel, Stride, Words, Spread>(vector, s, weights, codes);
        });
    }
    if (s.requantize.stream) simd::stream_fence<typename Steps::isa>();
}

/// Vectors of which some taps lie in the padding, or some lanes do not exist, by a depthwise_square: taps are copied
/// with the zeros of the padding, and where lanes are missing, outputs are copied as well.
template <class Steps, bool Spread>
void depthwise_edge(const depthwise_strip& s, void (*square)(const depthwise_strip&)) {
    constexpr std::int64_t tap = (Spread ? 2 : 1) * Steps::lanes;
    constexpr std::int64_t most_rows = depthwise_rows;
    alignas(64) std::int8_t input[((most_rows - 1) * 2 + 5) * 5 * tap];
    alignas(64) char output[most_rows * Steps::lanes * static_cast<std::int64_t>(sizeof(float))];
    const bool copied = s.lanes < Steps::lanes;
    const std::int64_t bytes = output_bytes(s.requantize.kind);
    depthwise_strip one = s;
    one.columns = one.group = 1;
    one.last = 0;
    one.first_element = 0;
    one.tap = tap;
    one.input_row = s.kernel.width * tap;
    one.lanes = Steps::lanes;
    if (copied) {
        one.output = output;
        one.output_row = Steps::lanes;
        one.requantize.stream = false;
    }
    for_each_vector(s, [&](std::int64_t column, std::int64_t i, std::int64_t block) PO2Q_INLINE_LAMBDA {
        const std::int64_t lane = depthwise_vector<Steps>::lane(s, i);
        const std::int64_t element = s.first_element + column * s.input_step + lane;
        char* out = static_cast<char*>(s.output) + (column * s.output_step + lane) * bytes;
        one.block = block;
        for (std::int64_t y = 0; y < s.rows; y += most_rows) {
            one.rows = std::min(most_rows, s.rows - y);
            one.first_row = s.first_row + y * s.stride;
            one.row_bias = s.row_bias + y;
            const std::int64_t first = std::max<std::int64_t>(0, one.first_row);
            const std::int64_t end =
                std::min(s.input_height, one.first_row + (one.rows - 1) * s.stride + s.kernel.height);
            for (std::int64_t kx = 0; kx < s.kernel.width; ++kx)
                simd::copy_inside<typename Steps::isa, tap>(
                    input + kx * tap, one.input_row, s.input + first * s.input_row, s.input_row, end - first,
                    element + kx * s.tap, s.row_elements, tap / Steps::lanes * s.lanes);
            // Rows keep their numbers.
            one.input = reinterpret_cast<const std::int8_t*>(reinterpret_cast<std::uintptr_t>(input) -
                                                             static_cast<std::uintptr_t>(first * one.input_row));
            if (!copied) one.output = out;
            square(one);
            for (std::int64_t r = 0; copied && r < one.rows; ++r)
                simd::copy_bytes<typename Steps::isa>(out + r * s.output_row * bytes, output + r * Steps::lanes * bytes,
                                                      s.lanes * bytes);
            out += one.rows * s.output_row * bytes;
        }
    });
}

/// Any kernel, stride, dilation, multiplier and epilogue: one output row after the other, lanes in the padding as 0.
template <class Steps>
void depthwise_any(const depthwise_strip& strip) {
    const depthwise_strip s = strip;
    using isa = typename Steps::isa;
    const depthwise_layout layout{s.kernel.height, s.kernel.width, s.stride, Steps::taps, s.column_apart};
    const std::int64_t groups = layout.groups();
    for_each_vector(s, [&](std::int64_t column, std::int64_t i, std::int64_t block) PO2Q_INLINE_LAMBDA {
        const depthwise_vector<Steps> vector(s, column, i, block, s.requantize.kind);
        const requantize_block block_of = s.requantize.from_lane(vector.block_lane);
        const depthwise_codes<Steps, false> codes(block_of);
        char* out = vector.output;
        for (std::int64_t y = 0; y < s.rows; ++y, out += vector.output_row) {
            typename Steps::reg acc[Steps::vectors];
            vector.template begin<0>(s.row_bias[y], acc);
            const std::int32_t* w = vector.weights;
            const auto input_row = [&](std::int64_t ky)
                                       PO2Q_INLINE_LAMBDA { return s.first_row + y * s.stride + ky * s.dilation; };
            const auto load = [&](std::int64_t row, std::int64_t kx) PO2Q_INLINE_LAMBDA {
                const std::uintptr_t x = vector.input + static_cast<std::uintptr_t>(row * vector.input_row);
                return vector.spread != 0 ? vector.load_blocks(x, kx)
                                          : Steps::load(vector.address(x, vector.distance(kx)), vector.inside(kx));
            };
            // Adds the products of the next dword of weights.
            const auto add = [&](auto&& channels) PO2Q_INLINE_LAMBDA {
                typename Steps::channels tap[Steps::taps];
                simd::unroll<Steps::taps>([&](auto k) PO2Q_INLINE_LAMBDA { tap[k] = channels(k); });
                typename Steps::lane_taps d[Steps::vectors];
                Steps::interleave(tap, d);
                simd::unroll<Steps::vectors>(
                    [&](auto v) PO2Q_INLINE_LAMBDA { acc[v] = Steps::dot(acc[v], d[v], w + v * Steps::ops::lanes); });
                w += Steps::lanes;
            };
            for (std::int64_t ky = 0; ky < s.kernel.height; ++ky) {
                const std::int64_t row = input_row(ky);
                if (row < 0 || row >= s.input_height) {
                    w += groups * Steps::lanes;
                    continue;
                }
                for (std::int64_t g = 0; g < groups; ++g)
                    add([&](int k) PO2Q_INLINE_LAMBDA {
                        // Behind the last tap: the last one again, at weight 0.
                        return load(row, std::min(g * Steps::taps + k, s.kernel.width - 1));
                    });
            }
            for (std::int64_t j = 0; j < layout.column(); ++j)
                add([&](int k) PO2Q_INLINE_LAMBDA {
                    const std::int64_t row = input_row(layout.row(j) - layout.place(j) + k);
                    return row < 0 || row >= s.input_height ? Steps::none() : load(row, s.kernel.width - 1);
                });
            if (s.requantize.kind <= epilogue::shift && vector.output_lane == 1) {
                codes.store(out, acc, vector.lanes);
                continue;
            }
            alignas(64) std::int32_t sums[Steps::lanes];
            store_registers<isa, Steps::vectors>(sums, acc);
            store_sums_apart<isa, Steps::vectors>(out, vector.output_lane, sums, block_of, vector.lanes);
        }
    });
    if (s.requantize.stream) simd::stream_fence<isa>();
}

/// What the layers above need of an architecture, without being compiled for it.
struct depthwise_table {
    using function = void (*)(const depthwise_strip&);
    using edge_function = void (*)(const depthwise_strip&, function square);
    /// depthwise_square of a kernel and stride.
    struct square {
        int kernel;
        int stride;
        bool column_apart;  ///< as depthwise_layout has it
        function words;     ///< by epilogue::shift_words
        function other;     ///< by shift, round or floats
    };
    /// Kernels of simd::depthwise_steps.
    struct steps {
        int lanes;  ///< of a vector: `vectors` registers
        int vectors;
        int taps;  ///< codes in a dword of weights
        int input_offset;
        bool halves_apart;
        int (*channel_of)(int vectors, int vector, int lane);
        function any;
        edge_function edge[2];  ///< [1] for lanes that are every other block
        square squares[4];
        square spread[2];  ///< for lanes that are every other block
    };
    const char* arch;
    steps any_codes;
    steps unsigned_codes;  ///< for codes of 0..127, where that is faster
    pack_functions pack;
};

template <class Steps, int Kernel, int Stride, bool Spread = false>
constexpr depthwise_table::square depthwise_squares() {
    return {Kernel, Stride, depthwise_square_layout<Steps, Kernel, Stride>.column_apart,
            &depthwise_square<Steps, Kernel, Stride, true, Spread>,
            &depthwise_square<Steps, Kernel, Stride, false, Spread>};
}

template <class Steps>
constexpr depthwise_table::steps depthwise_kernels() {
    return {Steps::lanes,
            Steps::vectors,
            Steps::taps,
            Steps::input_offset,
            simd::halves_apart<Steps>,
            &channel_of_lane<typename Steps::isa>,
            &depthwise_any<Steps>,
            {&depthwise_edge<Steps, false>},
            {depthwise_squares<Steps, 3, 1>(), depthwise_squares<Steps, 3, 2>()},
            {}};
}

template <class Arch>
constexpr depthwise_table make_depthwise_table() {
    using any_steps = simd::depthwise_steps<Arch>;
    depthwise_table table{Arch::name, depthwise_kernels<any_steps>(),
                          depthwise_kernels<typename simd::depthwise_unsigned<Arch>::steps>(), pack_functions_of<Arch>};
    table.any_codes.squares[2] = depthwise_squares<any_steps, 5, 1>();
    table.any_codes.squares[3] = depthwise_squares<any_steps, 5, 2>();
    if constexpr (simd::spreading<any_steps>) {
        table.any_codes.edge[1] = &depthwise_edge<any_steps, true>;
        table.any_codes.spread[0] = depthwise_squares<any_steps, 3, 2, true>();
        table.any_codes.spread[1] = depthwise_squares<any_steps, 5, 2, true>();
    }
    return table;
}

template <class Arch>
inline constexpr depthwise_table depthwise_table_of = make_depthwise_table<Arch>();

}  // namespace po2quant::kernels
