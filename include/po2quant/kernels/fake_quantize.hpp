#pragma once
/// Fake quantization of n floats: y = clamp(round(x * 2^−e), qmin, qmax) * 2^e.
///
///   in, out   Storage [n]: float, or bfloat16 or float16, which are converted (numerics/storage.hpp); any alignment
///             that the type may have; out may be in, else they share nothing
///
/// In the same pass, where forward_extras ask for them: the codes, and a bit for each element, whether its gradient
/// passes.
///
/// Numerics. x * 2^−e is exact, codes of up to 16 bits are exact floats, and so is their product with 2^e: the same
/// bits as fake_quantize of numerics/quantizer.hpp on every Arch. Codes of 0 give +0, NaN gives NaN, ±∞ saturate.
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <array>

#include <po2quant/kernels/channel_pattern.hpp>
#include <po2quant/kernels/minmax.hpp>
#include <po2quant/numerics/quantizer.hpp>
#include <po2quant/simd/floating.hpp>
#include <po2quant/simd/floating_avx512.hpp>
#include <po2quant/simd/mask.hpp>
#include <po2quant/simd/storage.hpp>
#include <po2quant/simd/unroll.hpp>

namespace po2quant::kernels {

/// The codes a call may use, and the random stream of its elements.
struct grid {
    float qmin;
    float qmax;
    std::uint64_t seed;
    std::uint64_t first_index;  ///< index of element 0 in the whole tensor, for stochastic rounding
};

/// The grid of a quantizer (quantizer or channel_quantizer) for the elements from `first_index` on.
template <class Quantizer>
PO2Q_INLINE grid grid_of(const Quantizer& q, std::size_t first_index) {
    return {static_cast<float>(q.format.qmin()), static_cast<float>(q.format.qmax()), q.seed, first_index};
}

/// The random bits of a grid's elements.
template <class Arch, rounding Mode>
PO2Q_INLINE simd::random_lanes<Arch, Mode> random_of(const grid& g) {
    return {g.seed, g.first_index};
}

/// Code times 2^e, with +0 for codes of 0: −0 + 0 = +0 in round to nearest, and nothing else changes.
template <class Arch, rounding Mode>
PO2Q_INLINE simd::f32<Arch> on_grid(const simd::f32<Arch>& x, const simd::f32<Arch>& scale,
                                    const simd::f32<Arch>& inverse_scale, const simd::f32<Arch>& qmin,
                                    const simd::f32<Arch>& qmax, const simd::u32<Arch>& random) {
    using batch = simd::f32<Arch>;
    const batch code = simd::code_of<Arch, Mode>(x, inverse_scale, qmin, qmax, random);
    if constexpr (Mode == rounding::half_away || Mode == rounding::floor) return code * scale + batch(0.0F);
    else return code * scale;  // never −0
}

/// y of a vector whose lanes have exponents of their own: how, is the instruction set's choice.
template <class Arch, rounding Mode>
struct lane_grid {
    using batch = simd::f32<Arch>;
    /// What all vectors have in common.
    struct shared {
        batch qmin;
        batch qmax;
        PO2Q_INLINE explicit shared(const grid& g) : qmin(g.qmin), qmax(g.qmax) {}
    };
    batch scale;  ///< 2^e of each lane
    batch inverse_scale;

    lane_grid() = default;
    PO2Q_INLINE lane_grid(const batch& scales, const grid&)
        : scale(scales), inverse_scale(inverse_power<Arch>(scales)) {}
    PO2Q_INLINE batch operator()(const batch& x, const shared& s, const simd::u32<Arch>& random) const {
        return on_grid<Arch, Mode>(x, scale, inverse_scale, s.qmin, s.qmax, random);
    }
};

/// half_even in the units of x: floats near C·2^e, C = 1.5 · 2^23, are the multiples of 2^e, and the difference of
/// equals is +0. Codes of 16 bits keep the sum inside one binade.
template <class Arch>
requires(!has_avx512<Arch>) struct lane_grid<Arch, rounding::half_even> {
    using batch = simd::f32<Arch>;
    struct shared {
        PO2Q_INLINE explicit shared(const grid&) {}
    };
    batch scale;
    batch low;
    batch high;
    batch offset;

    lane_grid() = default;
    PO2Q_INLINE lane_grid(const batch& scales, const grid& g)
        : scale(scales), low(batch(g.qmin) * scales), high(batch(g.qmax) * scales), offset(batch(0x1.8p23F) * scales) {}
    PO2Q_INLINE batch operator()(const batch& x, const shared&, const simd::u32<Arch>&) const {
        return (simd::clamp(x, low, high) + offset) - offset;
    }
};

/// half_up as simd::round does it, where the first product doubles as well: floor((floor(2v) + 1) / 2).
template <class Arch>
requires(!has_avx512<Arch> &&
         !simd::rounds_by_sums<typename simd::f32<Arch>::arch_type>) struct lane_grid<Arch, rounding::half_up> {
    using batch = simd::f32<Arch>;
    struct shared {
        batch low;  ///< of 2v
        batch high;
        PO2Q_INLINE explicit shared(const grid& g) : low(2.0F * g.qmin), high(2.0F * g.qmax) {}
    };
    batch scale;
    batch twice_inverse_scale;

    lane_grid() = default;
    PO2Q_INLINE lane_grid(const batch& scales, const grid&)
        : scale(scales), twice_inverse_scale(inverse_power<Arch>(scales) * batch(2.0F)) {}
    PO2Q_INLINE batch operator()(const batch& x, const shared& s, const simd::u32<Arch>&) const {
        const batch half(0.5F);
        const batch twice = simd::floor(simd::clamp(x * twice_inverse_scale, s.low, s.high));
        return simd::floor(twice * half + half) * scale;
    }
};

#if defined(__AVX512F__)
template <class Arch, rounding Mode>
requires(has_avx512<Arch> && (Mode == rounding::half_up || Mode == rounding::half_even)) struct lane_grid<Arch, Mode> {
    using batch = simd::f32<Arch>;
    using nearest = simd::nearest_grid<Mode>;
    struct shared {
        __m512 one;
        PO2Q_INLINE explicit shared(const grid&) : one(nearest::one()) {}
    };
    batch scale;
    nearest snap;

    lane_grid() = default;
    PO2Q_INLINE lane_grid(const batch& scales, const grid& g) : scale(scales), snap(scales, g.qmin, g.qmax) {}
    PO2Q_INLINE batch operator()(const batch& x, const shared& s, const simd::u32<Arch>&) const {
        return batch(snap(x, s.one));
    }
};
#endif

/// y of a vector for one exponent.
template <class Arch, rounding Mode>
struct grid_rounder {
    lane_grid<Arch, Mode> at;
    typename lane_grid<Arch, Mode>::shared shared;

    PO2Q_INLINE grid_rounder(int exponent, const grid& g) : at(simd::f32<Arch>(exp2_float(exponent)), g), shared(g) {}
    PO2Q_INLINE simd::f32<Arch> operator()(const simd::f32<Arch>& x, const simd::u32<Arch>& random) const {
        return at(x, shared, random);
    }
};

/// What a pass leaves besides y, and how it stores y. Nothing of it shares memory with in and out.
struct forward_extras {
    void* codes = nullptr;         ///< [n] integers of code_bytes; NaN gives 0
    std::size_t code_bytes = 1;    ///< 1: int8 or uint8, whose low 8 bits are the same; 2: int16
    std::uint8_t* mask = nullptr;  ///< element i is bit (mask_bit + i) % 8 of byte (mask_bit + i) / 8
    int mask_bit = 0;              ///< 0..7; the bits below it in mask[0] are kept, those behind the last become 0
    float_interval pass{};         ///< in units of codes: where the gradient passes, …
    bool pass_by_code = false;     ///< … but where a stochastic code, not held inside the format, tells itself
    bool stream = false;           ///< y past the caches, in runs that are long enough
    extremes* seen = nullptr;      ///< overwritten with those of x; for one exponent, y in memory of its own

    PO2Q_INLINE bool any() const { return codes != nullptr || mask != nullptr; }
    /// Those of the elements from i on, where those before have been written.
    PO2Q_INLINE forward_extras from(std::size_t i) const {
        forward_extras e = *this;
        if (codes != nullptr) e.codes = static_cast<char*>(codes) + i * code_bytes;
        const std::size_t bit = static_cast<std::size_t>(mask_bit) + i;
        if (mask != nullptr) e.mask = mask + bit / 8;
        e.mask_bit = static_cast<int>(bit % 8);
        return e;
    }
};

/// Leaves the extras of vectors, in their order.
template <class Arch, rounding Mode>
struct extras_writer {
    using batch = simd::f32<Arch>;
    static constexpr std::size_t lanes = batch::size;
    const forward_extras extras;
    const grid& g;
    simd::bit_sink bits;

    PO2Q_INLINE extras_writer(const forward_extras& e, const grid& codes)
        : extras(e), g(codes), bits(e.mask, e.mask == nullptr ? 0 : e.mask_bit) {}
    /// Where the gradient passes, in the units of x.
    struct interval {
        batch low;
        batch high;
    };
    PO2Q_INLINE interval pass_of(const batch& scale) const {
        return {batch(extras.pass.low) * scale, batch(extras.pass.high) * scale};
    }
    PO2Q_INLINE std::uint32_t pass_bits(const batch& x, const interval& pass, const batch& inverse_scale,
                                        const simd::u32<Arch>& random) const {
        if constexpr (Mode == rounding::stochastic)
            if (extras.pass_by_code) {
                // One code more on either side tells what is beyond from what is at the end.
                const batch code =
                    simd::code_of<Arch, Mode>(x, inverse_scale, batch(g.qmin - 1.0F), batch(g.qmax + 1.0F), random);
                return simd::inside_bits<Arch>(code, batch(g.qmin), batch(g.qmax));
            }
        return simd::inside_bits<Arch>(x, pass.low, pass.high);
    }
    /// y is code * 2^e, or NaN.
    PO2Q_INLINE void store_codes(const batch& y, const batch& inverse_scale, std::size_t i, std::size_t count) const {
        const batch code = xsimd::select(y == y, y * inverse_scale, batch(0.0F));
        const auto store = [&](auto* to) PO2Q_INLINE_LAMBDA {
            if (count == lanes) return simd::store_codes<Arch>(to + i, code);
            std::remove_reference_t<decltype(*to)> part[lanes];
            simd::store_codes<Arch>(part, code);
            for (std::size_t k = 0; k < count; ++k) to[i + k] = part[k];
        };
        if (extras.code_bytes == 1) store(static_cast<std::int8_t*>(extras.codes));
        else store(static_cast<std::int16_t*>(extras.codes));
    }
    /// Count vectors from element i on, rounded by `random`; of the last one `last` elements. pass(k) and
    /// inverse_scale(k) are those of vector k.
    template <int Count, class Pass, class Inverse>
    PO2Q_INLINE void operator()(const batch (&x)[Count], const batch (&y)[Count],
                                const simd::u32<Arch> (&random)[Count], const Pass& pass, const Inverse& inverse_scale,
                                std::size_t i, std::size_t last = lanes) {
        if (extras.mask != nullptr) {
            std::uint64_t all = 0;
            simd::unroll<Count>([&](auto k) PO2Q_INLINE_LAMBDA {
                const std::uint64_t own = pass_bits(x[k], pass(k), inverse_scale(k), random[k]);
                all |= own << (k * lanes);
            });
            const auto count = static_cast<int>((Count - 1) * lanes + last);
            if (last != lanes) all &= (std::uint64_t{1} << count) - 1U;
            bits.push(all, count);
        }
        if (extras.codes != nullptr)
            simd::unroll<Count>([&](auto k) PO2Q_INLINE_LAMBDA {
                store_codes(y[k], inverse_scale(k), i + k * lanes, k == Count - 1 ? last : lanes);
            });
    }
    PO2Q_INLINE void finish() {
        if (extras.mask != nullptr) bits.flush();
    }
};

/// Whether y is stored without rounding, which takes longer than all the rest: bfloat16 has codes within ±256. What
/// converts float16 rounds for nothing.
template <storage_type Storage>
PO2Q_INLINE bool needs_no_rounding(const grid& g) {
    if constexpr (std::is_same_v<Storage, bfloat16>) return -256.0F <= g.qmin && g.qmax <= 256.0F;
    else return false;
}

template <class Arch, storage_type Storage>
PO2Q_INLINE void store_grid(Storage* p, const simd::f32<Arch>& y, [[maybe_unused]] bool exact) {
    if constexpr (std::is_same_v<Storage, bfloat16>)
        if (exact) return simd::store_exact<Arch>(p, y);
    simd::store<Arch>(p, y);
}

/// Extremes of x gathered beside the pass, whole steps of vectors at a time, as minmax does.
template <class Arch, int Count>
struct extremes_watch {
    using batch = simd::f32<Arch>;
    batch low = batch(__builtin_inff());
    batch high = batch(-__builtin_inff());
    batch traces = batch(0.0F);

    PO2Q_INLINE void operator()(const batch (&x)[Count]) {
        const batch zero(0.0F);
        batch least = x[0];
        batch most = x[0];
        batch trace = x[0] * zero;
        simd::unroll<Count - 1>([&](auto k) PO2Q_INLINE_LAMBDA {
            least = xsimd::min(least, x[k + 1]);
            most = xsimd::max(most, x[k + 1]);
            trace = gather_non_finite<Arch>(trace, x[k + 1]);
        });
        low = xsimd::min(low, least);
        high = xsimd::max(high, most);
        traces = traces | trace;
    }
    /// Those of in[begin … end), which the steps went over, and of the few around them.
    template <storage_type Storage>
    PO2Q_INLINE extremes finish(const Storage* in, std::size_t n, std::size_t begin, std::size_t end) const {
        if (!xsimd::all(traces == batch(0.0F))) return minmax<Arch>(in, n);
        extremes found{__builtin_inff(), -__builtin_inff(), 0};
        minmax_each<Arch>(in, begin, found);
        minmax_each<Arch>(in + end, n - end, found);
        add_lanes<Arch>(low, high, found);
        return found;
    }
};

/// Elements of a run that is worth streaming: below, waiting for the streams costs more than they save. Nor are fewer
/// worth another call.
inline constexpr std::size_t least_stream = 1024;

#if defined(__AVX512DQ__)
/// 64 elements in four vectors, in some order that store_64 has too. y is stored without rounding to bfloat16.
template <class Arch, storage_type Storage>
PO2Q_INLINE void load_64(const Storage* p, __m512 (&x)[4]) {
    if constexpr (std::is_same_v<Storage, bfloat16>) {
        // Upper halves are floats as they are, lower ones are shifted up: no permutation.
        simd::unroll<2>([&](auto k) PO2Q_INLINE_LAMBDA {
            const __m512i two = _mm512_loadu_si512(p + 32 * k);
            x[2 * k] = _mm512_castsi512_ps(_mm512_slli_epi32(two, 16));
            x[2 * k + 1] = _mm512_castsi512_ps(_mm512_and_si512(two, _mm512_set1_epi32(-65536)));
        });
    } else {
        // Else clang looks for NaN among float16 numbers one by one.
        simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA { x[k] = simd::loaded<Arch>(simd::load<Arch>(p + 16 * k)); });
    }
}
template <class Arch, storage_type Storage>
PO2Q_INLINE void store_64(Storage* p, const __m512 (&y)[4]) {
    if constexpr (std::is_same_v<Storage, bfloat16>) {
        simd::unroll<2>([&](auto k) PO2Q_INLINE_LAMBDA {
            const __m512i lower = _mm512_srli_epi32(_mm512_castps_si512(y[2 * k]), 16);
            _mm512_storeu_si512(p + 32 * k, _mm512_or_si512(lower, _mm512_castps_si512(y[2 * k + 1])));
        });
    } else {
        simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA { simd::store<Arch>(p + 16 * k, simd::f32<Arch>(y[k])); });
    }
}
/// 64 elements among which NaN is.
template <class Arch, storage_type Storage>
[[gnu::noinline]] void fake_quantize_64(const Storage* in, Storage* out, int exponent, const grid& g) {
    const grid_rounder<Arch, rounding::half_up> apply(exponent, g);
    for (int i = 0; i < 64; i += 16) simd::store<Arch>(out + i, apply(simd::load<Arch>(in + i), {}));
}
/// simd::fraction_grid by steps of 64 elements. A function of its own for few variables, which stay in registers.
template <class Arch, storage_type Storage, int FractionBits>
[[gnu::noinline]] void fake_quantize_fractions(const Storage* in, Storage* out, std::size_t steps, const grid& g) {
    const simd::fraction_grid<FractionBits> snap(g.qmin);
    const __m512 one = simd::nearest_grid<rounding::half_up>::one();
    const bool downwards = simd::loads_meet_stores(in, out);
    for (std::size_t k = 0; k < steps; ++k) {
        const std::size_t i = 64 * (downwards ? steps - 1 - k : k);
        __m512 x[4];
        load_64<Arch>(in + i, x);
        if (__builtin_expect(simd::any_nan(x[0], x[1], x[2], x[3]), 0)) {
            fake_quantize_64<Arch>(in + i, out + i, -FractionBits, g);
        } else {
            const __m512 y[4] = {snap(x[0], one), snap(x[1], one), snap(x[2], one), snap(x[3], one)};
            store_64<Arch>(out + i, y);
        }
    }
}
template <class Arch, storage_type Storage, int... FractionBits>
constexpr auto fraction_passes(simd::indices<FractionBits...>) {
    return std::array{&fake_quantize_fractions<Arch, Storage, FractionBits>...};
}
#endif

/// The elements from 0 on that an instruction set has a quicker way for, y and nothing else; returns how many.
template <class Arch, rounding Mode, storage_type Storage>
PO2Q_INLINE std::size_t fake_quantize_quickly([[maybe_unused]] const Storage* in, [[maybe_unused]] Storage* out,
                                              [[maybe_unused]] std::size_t n, [[maybe_unused]] int exponent,
                                              [[maybe_unused]] const grid& g) {
#if defined(__AVX512DQ__)
    if constexpr (has_avx512<Arch> && Mode == rounding::half_up) {
        static constexpr auto passes = fraction_passes<Arch, Storage>(simd::up_to<16>);
        const auto bits = static_cast<unsigned>(-exponent);
        const bool rounds = std::is_same_v<Storage, bfloat16> && !needs_no_rounding<Storage>(g);
        if (bits >= passes.size() || g.qmax != -g.qmin - 1.0F || rounds) return 0;
        passes[bits](in, out, n / 64, g);
        return n / 64 * 64;
    }
#endif
    return 0;
}

/// One exponent for all elements, anything left besides, by any way.
template <class Arch, rounding Mode, storage_type Storage>
[[gnu::noinline]] void fake_quantize_leaving(const Storage* in, Storage* out, std::size_t n, int exponent,
                                             const grid& g, const forward_extras& extras) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int unroll = 4;  // independent chains: 15 to 30 cycles of latency per vector
    const grid_rounder<Arch, Mode> apply(exponent, g);
    const auto random_at = random_of<Arch, Mode>(g);
    extras_writer<Arch, Mode> leave(extras, g);
    const auto interval = leave.pass_of(batch(exp2_float(exponent)));
    const auto pass = [&](auto) PO2Q_INLINE_LAMBDA { return interval; };
    const auto inverse_scale = [inverse = batch(exp2_float(-exponent))](auto) PO2Q_INLINE_LAMBDA { return inverse; };
    const bool any = extras.any();
    const bool exact = needs_no_rounding<Storage>(g);
    const bool stream = extras.stream && n >= least_stream;
    std::size_t i = 0;
    extremes_watch<Arch, unroll> watch;
    std::size_t watched = 0;
    const auto part = [&](std::size_t count) PO2Q_INLINE_LAMBDA {
        const batch x[1] = {count == lanes ? simd::load<Arch>(in + i) : simd::load_first<Arch>(in + i, count)};
        const simd::u32<Arch> random[1] = {random_at(i)};
        const batch y[1] = {apply(x[0], random[0])};
        if (any) leave(x, y, random, pass, inverse_scale, i, count);
        if (count == lanes) store_grid<Arch>(out + i, y[0], exact);
        else simd::store_first<Arch>(out + i, y[0], count);
        i += count;
    };
    const auto loop = [&](auto with_extras, auto with_watch, auto store) PO2Q_INLINE_LAMBDA {
        constexpr std::size_t step = unroll * lanes;
        const auto step_at = [&](std::size_t at) PO2Q_INLINE_LAMBDA {
            batch x[unroll];
            batch y[unroll];
            simd::u32<Arch> random[unroll];
            if (with_watch && stream) simd::prefetch_ahead<unroll * lanes>(in + at);
            simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA {
                x[k] = simd::load<Arch>(in + at + k * lanes);
                random[k] = random_at(at + k * lanes);
                y[k] = apply(x[k], random[k]);
            });
            if constexpr (with_watch) watch(x);
            if constexpr (with_extras) leave(x, y, random, pass, inverse_scale, at);
            simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA { store(out + at + k * lanes, y[k]); });
        };
        // Upwards for masks, which are written in order, and for memory, which CPUs ask for ahead.
        if (!with_extras && !stream && simd::loads_meet_stores(in, out)) {
            const std::size_t end = i + (n - i) / step * step;
            for (std::size_t at = end; at != i;) step_at(at -= step);
            i = end;
        }
        for (; i + step <= n; i += step) step_at(i);
    };
    const auto steps = [&](auto store) PO2Q_INLINE_LAMBDA {
        watched = i;
        if (extras.seen != nullptr) loop(std::true_type{}, std::true_type{}, store);
        else if (any) loop(std::true_type{}, std::false_type{}, store);
        else loop(std::false_type{}, std::false_type{}, store);
    };
    const auto store = [exact](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { store_grid<Arch>(p, y, exact); };
    if (stream) {
        // Streams want aligned vectors: first the elements in front of them.
        const std::size_t off = reinterpret_cast<std::uintptr_t>(out) / sizeof(Storage) % lanes;
        if (off != 0) part(lanes - off);
        const auto past_caches = [](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::stream_store<Arch>(p, y); };
        if constexpr (std::is_same_v<Storage, bfloat16>) {
            // Loops of their own: clang joins streaming stores of two branches to one that is cached.
            const auto stream_exact = [](Storage* p, const batch& y)
                                          PO2Q_INLINE_LAMBDA { simd::stream_exact<Arch>(p, y); };
            if (exact) steps(stream_exact);
            else steps(past_caches);
        } else {
            steps(past_caches);
        }
        simd::stream_fence<Arch>();
    } else {
        steps(store);
    }
    const std::size_t end = i;
    while (i < n) part(n - i < lanes ? n - i : lanes);
    leave.finish();
    if (extras.seen != nullptr) *extras.seen = watch.finish(in, n, watched, end);
}

/// One exponent for all elements.
template <class Arch, rounding Mode, storage_type Storage>
PO2Q_INLINE void fake_quantize(const Storage* in, Storage* out, std::size_t n, int exponent, const grid& g,
                               const forward_extras& extras = {}) {
    std::size_t done = 0;
    if (n >= least_stream && !extras.any() && extras.seen == nullptr && !extras.stream)
        done = fake_quantize_quickly<Arch, Mode>(in, out, n, exponent, g);
    if (done == 0) fake_quantize_leaving<Arch, Mode>(in, out, n, exponent, g, extras);
    else if (done < n)
        fake_quantize_leaving<Arch, Mode>(in + done, out + done, n - done, exponent,
                                          {g.qmin, g.qmax, g.seed, g.first_index + done}, {});
}

/// Channel innermost: element i has exponent exponents[(first_channel + i) % channels].
template <class Arch, rounding Mode, storage_type Storage>
void fake_quantize_channels(const Storage* in, Storage* out, std::size_t n, const int* exponents, std::size_t channels,
                            std::size_t first_channel, const grid& g, const forward_extras& extras = {}) {
    using batch = simd::f32<Arch>;
    using lanes = lane_grid<Arch, Mode>;
    // Streams want aligned vectors: first the elements in front of them.
    const std::size_t off = reinterpret_cast<std::uintptr_t>(out) / sizeof(Storage) % batch::size;
    if (extras.stream && off != 0 && n >= least_stream) {
        const std::size_t head = batch::size - off;
        forward_extras stored = extras;
        stored.stream = false;
        fake_quantize_channels<Arch, Mode>(in, out, head, exponents, channels, first_channel, g, stored);
        fake_quantize_channels<Arch, Mode>(in + head, out + head, n - head, exponents, channels,
                                           (first_channel + head) % channels,
                                           {g.qmin, g.qmax, g.seed, g.first_index + head}, extras.from(head));
        return;
    }
    const bool stream = extras.stream && n >= least_stream;
    const bool exact = needs_no_rounding<Storage>(g);
    const typename lanes::shared shared(g);
    const auto random_at = random_of<Arch, Mode>(g);
    extras_writer<Arch, Mode> leave(extras, g);
    const bool any = extras.any();
    const auto lanes_of = [&](const simd::i32<Arch>& e) PO2Q_INLINE_LAMBDA { return lanes(exp2_lanes<Arch>(e), g); };
    const auto leave_of = [&](const auto& x, const auto& y, const auto& random, const lanes* at, std::size_t i,
                              std::size_t last) PO2Q_INLINE_LAMBDA {
        leave(
            x, y, random, [&](auto k) PO2Q_INLINE_LAMBDA { return leave.pass_of(at[k].scale); },
            [&](auto k) PO2Q_INLINE_LAMBDA { return inverse_power<Arch>(at[k].scale); }, i, last);
    };
    const auto body = [&](std::size_t i, const lanes& at, std::size_t count) PO2Q_INLINE_LAMBDA {
        const bool whole = count == batch::size;
        const batch x[1] = {whole ? simd::load<Arch>(in + i) : simd::load_first<Arch>(in + i, count)};
        const simd::u32<Arch> random[1] = {random_at(i)};
        const batch y[1] = {at(x[0], shared, random[0])};
        if (any) leave_of(x, y, random, &at, i, count);
        if (!whole) simd::store_first<Arch>(out + i, y[0], count);
        else if (stream) simd::stream_store<Arch>(out + i, y[0]);
        else store_grid<Arch>(out + i, y[0], exact);
    };
    // By fours: stores that alternate with loads wait for them.
    const auto four_of = [&](auto with_extras, auto past_caches) PO2Q_INLINE_LAMBDA {
        return [&, with_extras, past_caches](std::size_t i, const lanes* at) PO2Q_INLINE_LAMBDA {
            batch x[4];
            batch y[4];
            simd::u32<Arch> random[4];
            simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA {
                const std::size_t p = i + k * batch::size;
                x[k] = simd::load<Arch>(in + p);
                random[k] = random_at(p);
                y[k] = at[k](x[k], shared, random[k]);
            });
            if constexpr (with_extras) leave_of(x, y, random, at, i, batch::size);
            simd::unroll<4>([&](auto k) PO2Q_INLINE_LAMBDA {
                const std::size_t p = i + k * batch::size;
                if constexpr (past_caches) simd::stream_store<Arch>(out + p, y[k]);
                else store_grid<Arch>(out + p, y[k], exact);
            });
        };
    };
    const auto by_fours = [&](const auto& loop) PO2Q_INLINE_LAMBDA {
        if (any && stream) loop(four_of(std::true_type{}, std::true_type{}));
        else if (any) loop(four_of(std::true_type{}, std::false_type{}));
        else if (stream) loop(four_of(std::false_type{}, std::true_type{}));
        else loop(four_of(std::false_type{}, std::false_type{}));
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, lanes_of, body, by_fours);
    leave.finish();
    if (stream) simd::stream_fence<Arch>();
}

}  // namespace po2quant::kernels
