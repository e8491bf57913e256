#pragma once
/// int8 weights into the order that dot products read, and the sums of them that packing needs.
///
/// A step of a dot product takes `codes` rows of weights, outputs innermost, and wants those of one output in its lane:
///
///   row 0   a0 a1 a2 a3 …          lane 0        lane 1
///   row 1   b0 b1 b2 b3 …    →     a0 b0 c0 d0   a1 b1 c1 d1   …      4 rows as bytes,
///   row 2   c0 c1 c2 c3 …          a0 b0         a1 b1         …      2 rows as words, or 4 rows as words in 2
///   row 3   d0 d1 d2 d3 …                                             registers: rows 0 and 2, rows 1 and 3
/// Of 8 rows as bytes, the dwords of rows 0..3 and 4..7 lie side by side; 64 rows are 16 steps of 4, one after another.
/// Steps are [vectors][registers][lanes] dwords, lanes in channel_of order, which keeps 4 neighbouring outputs together
/// in 128 bits; zeros behind the last output.
/// Guarantees: reads and writes exactly what is named; no allocation, no exceptions.
#include <cstddef>
#include <cstdint>

#include <po2quant/simd/integer.hpp>

namespace po2quant::kernels {

/// Where the weights of a step go.
struct packed_step {
    int codes;          ///< rows: 64, 8, 4 or 2
    int registers;      ///< 1, or 2 for 4 rows as words
    int weight_bytes;   ///< 1 or 2
    int vectors;        ///< registers of outputs
    int lanes;          ///< of a register
    int outputs;        ///< of its lanes that exist
    bool halves_apart;  ///< the lower halves of 4 dwords before the upper ones

    PO2Q_INLINE constexpr int dwords() const { return vectors * lanes * codes * weight_bytes / 4; }
};

/// Outputs [first, first + 16) of rows as dwords, zeros behind the last output.
template <class Arch, int Rows>
PO2Q_INLINE void pack_outputs(const std::int8_t* const (&row)[Rows], int first, int outputs, std::int32_t* to) {
    const int left = outputs - first;
    const std::int8_t* from[Rows];
    std::int8_t part[Rows][16];
    for (int k = 0; k < Rows; ++k) {
        from[k] = left >= 16 ? row[k] + first : part[k];
        for (int i = 0; left < 16 && i < 16; ++i) part[k][i] = i < left ? row[k][first + i] : std::int8_t{0};
    }
    simd::integer<Arch>::interleave_rows(from, to);
}

/// Of 4 dwords the lower halves, then the upper ones.
PO2Q_INLINE void split_halves(std::int32_t* dwords) {
    std::uint16_t from[8];
    std::uint16_t to[8];
    __builtin_memcpy(from, dwords, sizeof from);
    for (int i = 0; i < 8; ++i) to[i] = from[i % 4 * 2 + i / 4];
    __builtin_memcpy(dwords, to, sizeof to);
}

/// One step: rows [codes] of `outputs` weights each.
template <class Arch>
PO2Q_INLINE void pack_step(const std::int8_t* const (&row)[8], const packed_step& s, std::int32_t* to) {
    using ops = simd::integer<Arch>;
    if constexpr (requires { ops::interleave_block({row[0], row[1], row[2], row[3]}, to); }) {
        if (s.weight_bytes == 1 && s.codes == 4 && !s.halves_apart && s.vectors * s.lanes == 64 && s.vectors == 4 &&
            s.outputs == 64) {
            ops::interleave_block({row[0], row[1], row[2], row[3]}, to);
            return;
        }
    }
    const int quarters = s.lanes / 4;  // of a register, 128 bits each
    const int parts = s.codes == 8 ? 2 : 1;
    for (int first = 0; first < s.vectors * s.lanes; first += 16) {
        alignas(64) std::int32_t dwords[2][16];
        if (s.weight_bytes == 1) {
            pack_outputs<Arch, 4>({row[0], row[1], row[2], row[3]}, first, s.outputs, dwords[0]);
            if (parts == 2) pack_outputs<Arch, 4>({row[4], row[5], row[6], row[7]}, first, s.outputs, dwords[1]);
        } else {
            pack_outputs<Arch, 2>({row[0], row[s.registers]}, first, s.outputs, dwords[0]);
            if (s.registers == 2) pack_outputs<Arch, 2>({row[1], row[3]}, first, s.outputs, dwords[1]);
        }
        for (int i = 0; i < 4; ++i) {
            const int group = first / 4 + i;
            if (group >= s.vectors * quarters) break;
            const int place = group % s.vectors * s.registers * quarters + group / s.vectors;
            if (parts == 2) {
                for (int k = 0; k < 8; ++k) to[8 * place + k] = dwords[k % 2][4 * i + k / 2];
                continue;
            }
            if (s.halves_apart) split_halves(dwords[0] + 4 * i);
            for (int r = 0; r < s.registers; ++r)
                __builtin_memcpy(to + 4 * (place + r * quarters), dwords[r] + 4 * i, 4 * sizeof(std::int32_t));
        }
    }
}

/// Consecutive rows of `length` neighbouring inputs, row_stride codes apart, to ⌈length / codes⌉ steps. The last step
/// takes the last `codes` rows, with zeros where the step before has them; a run shorter than a step has zeros behind.
template <class Arch>
void pack_run(const std::int8_t* rows, std::int64_t row_stride, std::int64_t length, const packed_step& step,
              void* packed) {
    packed_step s = step;
    if (s.codes > 8) s.codes = 4;
    alignas(64) static constexpr std::int8_t zeros[64] = {};  // a block has 64 outputs at most
    auto* to = static_cast<std::int32_t*>(packed);
    for (std::int64_t i = 0; i < length; i += step.codes) {
        const std::int64_t first = length - i < step.codes && length >= step.codes ? length - step.codes : i;
        for (std::int64_t c = first; c < first + step.codes; c += s.codes, to += s.dwords()) {
            const std::int8_t* row[8] = {zeros, zeros, zeros, zeros, zeros, zeros, zeros, zeros};
            for (int k = 0; k < s.codes; ++k)
                if (c + k >= i && c + k < length) row[k] = rows + (c + k) * row_stride;
            pack_step<Arch>(row, s, to);
        }
    }
}

/// One step of rows from anywhere.
template <class Arch>
void pack_rows(const std::int8_t* const (&row)[4], const packed_step& step, std::int32_t* to) {
    pack_step<Arch>({row[0], row[1], row[2], row[3], nullptr, nullptr, nullptr, nullptr}, step, to);
}

/// sums[o] += Σ w, positive[o] += Σ max(w, 0) over `rows` rows of `outputs` weights, row_stride codes apart. Words hold
/// 255 codes' sums.
template <class Arch>
void add_rows(const std::int8_t* weights, std::int64_t row_stride, std::int64_t rows, std::int64_t outputs,
              std::int32_t* sums, std::int32_t* positive) {
    using ops = simd::integer<Arch>;
    constexpr int width = 2 * ops::lanes;
    constexpr int vectors = width < 64 ? 64 / width : 1;  // a cache line of each row at a time
    constexpr std::int64_t most = 255;
    const auto spill = [](std::int32_t* to, typename ops::words w, std::int64_t count) PO2Q_INLINE_LAMBDA {
        std::int16_t part[width];
        __builtin_memcpy(part, &w, sizeof part);
        for (int i = 0; i < count; ++i) to[i] += part[i];
    };
    for (std::int64_t row = 0; row < rows; row += most) {
        const std::int64_t count = rows - row < most ? rows - row : most;
        const std::int8_t* from = weights + row * row_stride;
        std::int64_t o = 0;
        for (; o + vectors * width <= outputs; o += vectors * width) {
            typename ops::words sum[vectors];
            typename ops::words high[vectors];
            simd::unroll<vectors>([&](auto v) PO2Q_INLINE_LAMBDA { sum[v] = high[v] = ops::zero_words(); });
            for (std::int64_t r = 0; r < count; ++r)
                simd::unroll<vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                    const auto w = ops::widen(from + r * row_stride + o + v * width);
                    sum[v] = ops::add_words(sum[v], w);
                    high[v] = ops::add_words(high[v], ops::max_words(w, ops::zero_words()));
                });
            simd::unroll<vectors>([&](auto v) PO2Q_INLINE_LAMBDA {
                spill(sums + o + v * width, sum[v], width);
                spill(positive + o + v * width, high[v], width);
            });
        }
        for (; o < outputs; o += width) {
            const auto left = static_cast<int>(outputs - o < width ? outputs - o : width);
            typename ops::words sum = ops::zero_words();
            typename ops::words high = ops::zero_words();
            for (std::int64_t r = 0; r < count; ++r) {
                const std::int8_t* p = from + r * row_stride + o;
                const auto w = left == width ? ops::widen(p) : ops::widen_first(p, left);
                sum = ops::add_words(sum, w);
                high = ops::add_words(high, ops::max_words(w, ops::zero_words()));
            }
            spill(sums + o, sum, left);
            spill(positive + o, high, left);
        }
    }
}

/// [outputs][taps][inputs] or [outputs][inputs][taps] to [taps][inputs][outputs]: 4 outputs and 16 of their weights at
/// a time. `to` holds taps · inputs · outputs codes.
template <class Arch>
void transpose_weights(const std::int8_t* from, std::int64_t outputs, std::int64_t inputs, std::int64_t taps,
                       bool taps_innermost, std::int8_t* to) {
    const std::int64_t length = inputs * taps;
    const auto row_of = [&](std::int64_t i)
                            PO2Q_INLINE_LAMBDA { return taps_innermost ? i % taps * inputs + i / taps : i; };
    constexpr std::int64_t tile = 16;
    for (std::int64_t i = 0; i < length; i += tile) {
        std::int8_t* row[tile];
        const std::int64_t count = length - i < tile ? length - i : tile;
        for (std::int64_t k = 0; k < count; ++k) row[k] = to + row_of(i + k) * outputs;
        std::int64_t o = 0;
        for (; count == tile && o + 4 <= outputs; o += 4) {
            const std::int8_t* const p = from + o * length + i;
            std::int32_t four[tile];
            simd::integer<Arch>::interleave_rows({p, p + length, p + 2 * length, p + 3 * length}, four);
            for (int k = 0; k < tile; ++k) __builtin_memcpy(row[k] + o, four + k, sizeof four[k]);
        }
        for (; o < outputs; ++o)
            for (std::int64_t k = 0; k < count; ++k) row[k][o] = from[o * length + i + k];
    }
}

/// What packing needs of an architecture, without being compiled for it.
struct pack_functions {
    void (*run)(const std::int8_t* rows, std::int64_t row_stride, std::int64_t length, const packed_step& step,
                void* packed);
    void (*rows)(const std::int8_t* const (&row)[4], const packed_step& step, std::int32_t* to);
    void (*add_rows)(const std::int8_t* weights, std::int64_t row_stride, std::int64_t rows, std::int64_t outputs,
                     std::int32_t* sums, std::int32_t* positive);
    void (*transpose)(const std::int8_t* from, std::int64_t outputs, std::int64_t inputs, std::int64_t taps,
                      bool taps_innermost, std::int8_t* to);
};

template <class Arch>
inline constexpr pack_functions pack_functions_of = {&pack_run<Arch>, &pack_rows<Arch>, &add_rows<Arch>,
                                                     &transpose_weights<Arch>};

}  // namespace po2quant::kernels
