#pragma once
/// Histogram of the exponents of n floats: how many have each of the 256 values of the exponent field.
///
///   in    float [n], any alignment          counts   uint64 [256], added to
/// The exponents of a block become bytes. Those inside a window of 16 octaves are counted by registers
/// (simd/exponent_bytes.hpp); the zeros behind a ReLU, and the few others outside, in a second look at blocks that have
/// any. The window follows the data. Instruction sets without the operations count value by value.
/// Guarantees: reads exactly n elements; no allocation, no exceptions.
#include <bit>
#include <cstddef>
#include <cstdint>

#include <po2quant/config.hpp>
#include <po2quant/simd/exponent_bytes.hpp>
#include <po2quant/simd/storage.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::kernels {

/// Value by value. Two tables in turn: neighbours of one exponent need not wait for each other's sum.
template <class Arch>
PO2Q_INLINE void exponent_histogram_each(const float* in, std::size_t n, std::uint64_t* counts) {
    const auto field = [&](std::size_t i) PO2Q_INLINE_LAMBDA {
        std::uint32_t bits = 0;
        __builtin_memcpy(&bits, in + i, sizeof(bits));
        return bits >> 23 & 0xff;
    };
    std::size_t i = 0;
    if (n >= 1024) {
        std::uint64_t other[256] = {};
        for (; i + 2 <= n; i += 2) {
            ++counts[field(i)];
            ++other[field(i + 1)];
        }
        for (int b = 0; b < 256; ++b) counts[b] += other[b];
    }
    for (; i < n; ++i) ++counts[field(i)];
}

/// Sums of registers, bit by bit: total = ones + 2·twos + 4·fours + 8·eights + what has been counted.
template <class Ops>
struct bit_sums {
    using reg = typename Ops::reg;
    reg ones = Ops::zero();
    reg twos = Ops::zero();
    reg fours = Ops::zero();
    reg eights = Ops::zero();

    /// sum + a + b; returns the carry.
    static PO2Q_INLINE reg add(reg& sum, reg a, reg b) {
        const reg carry = Ops::majority(sum, a, b);
        sum = Ops::exclusive_or(sum, a, b);
        return carry;
    }
    /// 16 more, v(0) … v(15); returns what has become 16 of.
    template <class F>
    PO2Q_INLINE reg add_16(F&& v) {
        const auto four = [&](auto i) PO2Q_INLINE_LAMBDA {
            const reg a = add(ones, v(i), v(i + 1));
            const reg b = add(ones, v(i + 2), v(i + 3));
            return add(twos, a, b);
        };
        const auto eight = [&](auto i) PO2Q_INLINE_LAMBDA {
            const reg a = four(i);
            const reg b = four(i + 4);
            return add(fours, a, b);
        };
        const reg a = eight(0);
        const reg b = eight(8);
        return add(eights, a, b);
    }
};

/// counts[k] += weight · bytes with bit k.
template <class Ops>
PO2Q_INLINE void count_bits(typename Ops::reg v, std::uint64_t weight, std::uint64_t* counts) {
    simd::unroll<8>([&](auto k) PO2Q_INLINE_LAMBDA { counts[k] += weight * Ops::template with_bit<k>(v); });
}

/// One block of whole groups of 16 registers; `first` is the window's first exponent. Returns how many were outside.
template <class Ops>
PO2Q_INLINE std::size_t exponent_histogram_block(const float* in, std::size_t n, bool far, int first,
                                                 std::uint8_t* bytes, std::uint64_t* counts) {
    using reg = typename Ops::reg;
    constexpr std::size_t group = 16 * Ops::lanes;
    const reg base = Ops::set(first);
    // 0..15 become 0x70..0x7f, which a look-up takes by their low 4 bits; what is outside becomes 0x80 and more: no
    // bit.
    const reg offset = Ops::set(0x70);
    const auto place = [&](reg e) PO2Q_INLINE_LAMBDA { return Ops::add_saturated(Ops::sub(e, base), offset); };
    bit_sums<Ops> low;
    bit_sums<Ops> high;
    std::uint64_t window[16] = {};
    for (std::size_t i = 0; i < n; i += group) {
        reg at[16];
        simd::unroll<16>([&](auto k) PO2Q_INLINE_LAMBDA {
            if (far) simd::prefetch_ahead<Ops::lanes>(in + i + k * Ops::lanes);
            const reg e = Ops::exponents(in + i + k * Ops::lanes);
            Ops::store(bytes + i + k * Ops::lanes, e);
            at[k] = place(e);
        });
        count_bits<Ops>(low.add_16([&](int k) PO2Q_INLINE_LAMBDA { return Ops::template bit_of<0>(at[k]); }), 16,
                        window);
        count_bits<Ops>(high.add_16([&](int k) PO2Q_INLINE_LAMBDA { return Ops::template bit_of<1>(at[k]); }), 16,
                        window + 8);
    }
    const auto count_rest = [&](const bit_sums<Ops>& sums, std::uint64_t* to) PO2Q_INLINE_LAMBDA {
        count_bits<Ops>(sums.ones, 1, to);
        count_bits<Ops>(sums.twos, 2, to);
        count_bits<Ops>(sums.fours, 4, to);
        count_bits<Ops>(sums.eights, 8, to);
    };
    count_rest(low, window);
    count_rest(high, window + 8);
    std::uint64_t inside = 0;
    for (int k = 0; k < 16; ++k) {
        counts[first + k] += window[k];
        inside += window[k];
    }
    if (inside == n) return 0;
    std::size_t others = 0;
    for (std::size_t i = 0; i < n; i += Ops::lanes) {
        const reg e = Ops::load(bytes + i);
        const std::uint64_t zeros = Ops::zeros(e);
        const std::uint64_t outside = Ops::high_bits(place(e));
        counts[0] += static_cast<std::uint64_t>(__builtin_popcountll(zeros & outside));
        for (std::uint64_t left = outside & ~zeros; left != 0; left &= left - 1) {
            ++counts[bytes[i + static_cast<std::size_t>(__builtin_ctzll(left))]];
            ++others;
        }
    }
    return others;
}

/// `far`: in lies beyond L2.
template <class Arch>
void exponent_histogram(const float* in, std::size_t n, std::uint64_t* counts, [[maybe_unused]] bool far = false) {
    std::size_t begin = 0;
    if constexpr (simd::byte_counts<Arch>::available) {
        using ops = simd::byte_counts<Arch>;
        constexpr std::size_t group = 16 * ops::lanes;
        constexpr std::size_t block = 16384;  // their bytes and the sums' last counts: both small beside the rest
        alignas(64) std::uint8_t bytes[block];
        int first = 127 - 12;  // 2^−12 … 2^3: layers' activations, as a rule
        while (n - begin >= group) {
            const std::size_t size = n - begin < block ? (n - begin) / group * group : block;
            std::uint64_t own[256] = {};
            const std::size_t others = exponent_histogram_block<ops>(in + begin, size, far, first, bytes, own);
            for (int b = 0; b < 256; ++b) counts[b] += own[b];
            begin += size;
            if (others <= size / 64) continue;
            // To the 16 octaves that hold the most of this block.
            std::uint64_t sum = 0;
            std::uint64_t most = 0;
            for (int b = 1; b < 255; ++b) {
                sum += own[b] - (b > 16 ? own[b - 16] : 0);
                if (sum <= most) continue;
                most = sum;
                first = b < 16 ? 1 : b - 15;
            }
        }
    }
    exponent_histogram_each<Arch>(in + begin, n - begin, counts);
}

/// Of bfloat16 and float16, which become floats by blocks that stay in L1.
template <class Arch, half_type Half>
void exponent_histogram(const Half* in, std::size_t n, std::uint64_t* counts, bool = false) {
    constexpr std::size_t block = 4096;
    constexpr std::size_t lanes = simd::f32<Arch>::size;
    alignas(64) float wide[block];
    for (std::size_t begin = 0; begin < n; begin += block) {
        const std::size_t size = n - begin < block ? n - begin : block;
        const std::size_t whole = size / lanes * lanes;
        for (std::size_t i = 0; i < whole; i += lanes) simd::load<Arch>(in + begin + i).store_aligned(wide + i);
        if (whole < size) simd::load_first<Arch>(in + begin + whole, size - whole).store_aligned(wide + whole);
        exponent_histogram<Arch>(wide, size, counts);
    }
}

/// Channel innermost: row r is Storage [channels] at in + r * row_stride; channel c adds to counts[c]. Value by value.
template <class Arch, storage_type Storage>
void exponent_histogram_channels(const Storage* in, std::size_t rows, std::size_t row_stride, std::size_t channels,
                                 std::uint64_t (*counts)[256]) {
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t c = 0; c < channels; ++c) {
            Storage stored;
            __builtin_memcpy(&stored, in + row * row_stride + c, sizeof stored);
            ++counts[c][std::bit_cast<std::uint32_t>(to_float(stored)) >> 23 & 0xff];
        }
}

}  // namespace po2quant::kernels
