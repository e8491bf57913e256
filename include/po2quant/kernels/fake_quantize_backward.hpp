#pragma once
/// Straight-through gradient of fake quantization: dx = dy where low·2^e <= x <= high·2^e, else +0.
///
/// Every deterministic choice of ste is one such interval (pass_interval of numerics/quantizer.hpp), ±∞ included for
/// the plain one; NaN is inside none. clip_code with stochastic rounding asks the codes themselves.
///
/// Or from the bits that a forward pass has kept; and with the gradient of the threshold in the same pass.
///
///   x, dy, dx   Storage [n]: float, or bfloat16 or float16 (numerics/storage.hpp), which are compared and selected as
///               integers, or converted: channels innermost, decisions by code, sums of terms; any alignment
///               that the type may have; dx may be dy or x, else it shares nothing with them. dx needs no rounding.
///               `stream`: dx goes past the caches, where it is in memory of its own and long enough
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <po2quant/kernels/channel_pattern.hpp>
#include <po2quant/kernels/fake_quantize.hpp>
#include <po2quant/simd/storage.hpp>
#include <po2quant/simd/sums.hpp>
#include <po2quant/simd/words.hpp>

namespace po2quant::kernels {

/// Vectors that are computed together, so that their loads overlap.
inline constexpr int gradient_vectors = 4;

/// dx of n elements: all(i, y) gives gradient_vectors vectors from element i on, part(i, count) one vector of which
/// `count` elements are there.
template <class Arch, storage_type Storage, class All, class Part>
PO2Q_INLINE void store_gradient(Storage* dx, std::size_t n, bool stream, const All& all, const Part& part) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int unroll = gradient_vectors;
    std::size_t i = 0;
    const auto few = [&](std::size_t count) PO2Q_INLINE_LAMBDA {
        if (count == lanes) simd::store_exact<Arch>(dx + i, part(i, count));
        else simd::store_first<Arch>(dx + i, part(i, count), count);
        i += count;
    };
    const auto steps = [&](auto store) PO2Q_INLINE_LAMBDA {
        for (; i + unroll * lanes <= n; i += unroll * lanes) {
            batch y[unroll];
            all(i, y);
            simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA { store(dx + i + k * lanes, y[k]); });
        }
    };
    if (stream && n >= least_stream) {
        // Streams want aligned vectors: first the elements in front of them.
        const std::size_t off = reinterpret_cast<std::uintptr_t>(dx) / sizeof(Storage) % lanes;
        if (off != 0) few(lanes - off);
        steps([](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::stream_exact<Arch>(p, y); });
        simd::stream_fence<Arch>();
    } else {
        steps([](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::store_exact<Arch>(p, y); });
    }
    while (i < n) few(n - i < lanes ? n - i : lanes);
}

/// dx = low <= x <= high ? dy : +0; low and high in the units of x.
template <class Arch, storage_type Storage>
void pass_gradient(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, float_interval pass,
                   bool stream = false) {
    using batch = simd::f32<Arch>;
    const batch low(pass.low);
    const batch high(pass.high);
    const auto part = [&](std::size_t i, std::size_t count) PO2Q_INLINE_LAMBDA {
        const bool whole = count == batch::size;
        const batch v = whole ? simd::load<Arch>(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient =
            whole ? simd::loaded<Arch>(simd::load<Arch>(dy + i)) : simd::load_first<Arch>(dy + i, count);
        return batch(xsimd::select((low <= v) & (v <= high), gradient, batch(0.0F)));
    };
    const auto all = [&](std::size_t i, batch(&y)[gradient_vectors]) PO2Q_INLINE_LAMBDA {
        simd::unroll<gradient_vectors>([&](auto k)
                                           PO2Q_INLINE_LAMBDA { y[k] = part(i + k * batch::size, batch::size); });
    };
    store_gradient<Arch>(dx, n, stream, all, part);
}

/// n 16-bit elements that are selected, not computed with: registers(i, y) gives one or several of them, one(i) the
/// bits of one.
template <class Arch, half_type Storage, class Registers, class One>
PO2Q_INLINE void store_words(Storage* dx, std::size_t n, bool stream, const Registers& registers, const One& one) {
    using words = simd::words<Arch>;
    constexpr std::size_t lanes = words::lanes;
    constexpr std::size_t unroll = 64 / lanes;  // 64 bits of a mask
    // The last register, a part of which the steps have too: before anything is written, since dx may be x.
    const bool overlapping = n >= lanes;
    typename words::reg last[1];
    if (overlapping) registers(n - lanes, last);
    std::size_t i = 0;
    const auto ones = [&](std::size_t end) PO2Q_INLINE_LAMBDA {
        for (; i < end; ++i) {
            const std::uint16_t bits = one(i);
            __builtin_memcpy(dx + i, &bits, sizeof bits);
        }
    };
    const auto steps = [&](auto store) PO2Q_INLINE_LAMBDA {
        for (; i + unroll * lanes <= n; i += unroll * lanes) {
            typename words::reg y[unroll];
            registers(i, y);
            simd::unroll<unroll>([&](auto k) PO2Q_INLINE_LAMBDA { store(dx + i + k * lanes, y[k]); });
        }
        for (; i + lanes <= n; i += lanes) {
            typename words::reg y[1];
            registers(i, y);
            store(dx + i, y[0]);
        }
    };
    if (stream && n >= least_stream) {
        // Streams want aligned vectors: first the elements in front of them.
        ones((lanes - reinterpret_cast<std::uintptr_t>(dx) / 2 % lanes) % lanes);
        steps([](Storage* p, const auto& y) PO2Q_INLINE_LAMBDA { words::stream(p, y); });
        simd::stream_fence<Arch>();
    } else {
        steps([](Storage* p, const auto& y) PO2Q_INLINE_LAMBDA { words::store(p, y); });
    }
    if (!overlapping) ones(n);
    else if (i < n) words::store(dx + n - lanes, last[0]);
}

/// The same of 16-bit storage, which is compared as it is.
template <class Arch, half_type Storage>
void pass_gradient(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, float_interval pass,
                   bool stream = false) {
    using words = simd::words<Arch>;
    const simd::word_interval inside = simd::words_of<Storage>(pass);
    const auto registers = [&]<std::size_t Count>(std::size_t i, typename words::reg(&y)[Count]) PO2Q_INLINE_LAMBDA {
        simd::unroll<Count>([&](auto k) PO2Q_INLINE_LAMBDA {
            const std::size_t at = i + k * words::lanes;
            y[k] = words::select_inside(words::load(x + at), inside, words::load(dy + at));
        });
    };
    const auto one = [&](std::size_t i) PO2Q_INLINE_LAMBDA {
        return inside.contains(simd::bits_at(x + i)) ? simd::bits_at(dy + i) : std::uint16_t{0};
    };
    store_words<Arch>(dx, n, stream, registers, one);
}

/// Channel innermost; the interval is in units of codes.
template <class Arch, storage_type Storage>
void pass_gradient_channels(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, const int* exponents,
                            std::size_t channels, std::size_t first_channel, float_interval pass) {
    using batch = simd::f32<Arch>;
    const batch low(pass.low);
    const batch high(pass.high);
    const auto body = [&](std::size_t i, const batch& scale, std::size_t count) PO2Q_INLINE_LAMBDA {
        const bool whole = count == batch::size;
        const batch v = whole ? simd::load<Arch>(x + i) : simd::load_first<Arch>(x + i, count);
        const batch gradient =
            whole ? simd::loaded<Arch>(simd::load<Arch>(dy + i)) : simd::load_first<Arch>(dy + i, count);
        const batch y = xsimd::select((low * scale <= v) & (v <= high * scale), gradient, batch(0.0F));
        if (whole) simd::store_exact<Arch>(dx + i, y);
        else simd::store_first<Arch>(dx + i, y, count);
    };
    const auto scales = [](const simd::i32<Arch>& e) PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(e); };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, scales, body);
}

/// clip_code under stochastic rounding: the gradient passes where the code rounded with the forward pass's bits is
/// inside [qmin, qmax]. dx of the `count` elements from element i on, a vector or less.
template <class Arch, storage_type Storage>
PO2Q_INLINE simd::f32<Arch> stochastic_gradient(const Storage* x, const Storage* dy, std::size_t i, std::size_t count,
                                                const simd::f32<Arch>& inverse_scale, const grid& g,
                                                const simd::random_lanes<Arch, rounding::stochastic>& random_at) {
    using batch = simd::f32<Arch>;
    const batch qmin(g.qmin);
    const batch qmax(g.qmax);
    const bool whole = count == batch::size;
    const batch v = whole ? simd::load<Arch>(x + i) : simd::load_first<Arch>(x + i, count);
    const batch gradient = whole ? simd::loaded<Arch>(simd::load<Arch>(dy + i)) : simd::load_first<Arch>(dy + i, count);
    // One code more on either side tells what is beyond from what is at the end.
    const batch code = simd::code_of<Arch, rounding::stochastic>(v, inverse_scale, qmin - batch(1.0F),
                                                                 qmax + batch(1.0F), random_at(i));
    return xsimd::select((qmin <= code) & (code <= qmax), gradient, batch(0.0F));
}

template <class Arch, storage_type Storage>
void pass_gradient_stochastic(const Storage* x, const Storage* dy, Storage* dx, std::size_t n, int exponent,
                              const grid& given, bool stream = false) {
    using batch = simd::f32<Arch>;
    const grid g = given;  // out of reach of what is stored
    const batch inverse_scale(exp2_float(-exponent));
    const auto random_at = random_of<Arch, rounding::stochastic>(g);
    const auto part = [&](std::size_t i, std::size_t count) PO2Q_INLINE_LAMBDA {
        return stochastic_gradient<Arch>(x, dy, i, count, inverse_scale, g, random_at);
    };
    const auto all = [&](std::size_t i, batch(&y)[gradient_vectors]) PO2Q_INLINE_LAMBDA {
        simd::unroll<gradient_vectors>([&](auto k)
                                           PO2Q_INLINE_LAMBDA { y[k] = part(i + k * batch::size, batch::size); });
    };
    store_gradient<Arch>(dx, n, stream, all, part);
}

/// Channel innermost.
template <class Arch, storage_type Storage>
void pass_gradient_stochastic_channels(const Storage* x, const Storage* dy, Storage* dx, std::size_t n,
                                       const int* exponents, std::size_t channels, std::size_t first_channel,
                                       const grid& g) {
    const auto inverses = [](const simd::i32<Arch>& e)
                              PO2Q_INLINE_LAMBDA { return exp2_lanes<Arch>(simd::i32<Arch>(0) - e); };
    const auto random_at = random_of<Arch, rounding::stochastic>(g);
    const auto body = [&](std::size_t i, const simd::f32<Arch>& inverse_scale, std::size_t count) PO2Q_INLINE_LAMBDA {
        const auto y = stochastic_gradient<Arch>(x, dy, i, count, inverse_scale, g, random_at);
        if (count == simd::f32<Arch>::size) simd::store_exact<Arch>(dx + i, y);
        else simd::store_first<Arch>(dx + i, y, count);
    };
    for_each_channel_vector<Arch>(n, exponents, channels, first_channel, inverses, body);
}

/// dx = dy where the element's bit is set, else +0; element i is bit (bit + i) % 8 of mask[(bit + i) / 8].
template <class Arch, storage_type Storage>
void pass_gradient_masked(const std::uint8_t* mask, std::size_t bit, const Storage* dy, Storage* dx, std::size_t n,
                          bool stream = false) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    const auto part = [&](std::size_t i, std::size_t count) PO2Q_INLINE_LAMBDA {
        const auto bits = static_cast<std::uint32_t>(simd::read_bits(mask, bit + i, static_cast<int>(count)));
        return simd::select_bits<Arch>(bits, count == lanes ? simd::loaded<Arch>(simd::load<Arch>(dy + i))
                                                            : simd::load_first<Arch>(dy + i, count));
    };
    const auto all = [&](std::size_t i, batch(&y)[gradient_vectors]) PO2Q_INLINE_LAMBDA {
        const std::uint64_t bits = simd::read_bits(mask, bit + i, gradient_vectors * lanes);
        simd::unroll<gradient_vectors>([&](auto k) PO2Q_INLINE_LAMBDA {
            y[k] = simd::select_bits<Arch>(static_cast<std::uint32_t>(bits >> (k * lanes)),
                                           simd::loaded<Arch>(simd::load<Arch>(dy + i + k * lanes)));
        });
    };
    store_gradient<Arch>(dx, n, stream, all, part);
}

/// The same of 16-bit storage.
template <class Arch, half_type Storage>
void pass_gradient_masked(const std::uint8_t* mask, std::size_t bit, const Storage* dy, Storage* dx, std::size_t n,
                          bool stream = false) {
    using words = simd::words<Arch>;
    const auto registers = [&]<std::size_t Count>(std::size_t i, typename words::reg(&y)[Count]) PO2Q_INLINE_LAMBDA {
        const std::uint64_t bits = simd::read_bits(mask, bit + i, Count * words::lanes);
        simd::unroll<Count>([&](auto k) PO2Q_INLINE_LAMBDA {
            const auto own = static_cast<std::uint32_t>(bits >> (k * words::lanes));
            y[k] = words::select_bits(own, words::load(dy + i + k * words::lanes));
        });
    };
    const auto one = [&](std::size_t i) PO2Q_INLINE_LAMBDA {
        return (mask[(bit + i) / 8] >> ((bit + i) % 8) & 1) != 0 ? simd::bits_at(dy + i) : std::uint16_t{0};
    };
    store_words<Arch>(dx, n, stream, registers, one);
}

/// What a threshold's pass does to every element.
struct threshold_step {
    const grid& g;
    threshold_term term;
    float_interval pass;    ///< of dx, in units of codes
    float_interval inside;  ///< of the term, in units of codes
    bool pass_by_code;      ///< stochastic: dx by the codes
};

/// What the loops of a pass know of its step. OneInterval: that of dx is that of the term.
template <threshold_term Term, bool OneInterval>
struct known_step {
    static constexpr threshold_term term = Term;
    static constexpr bool one_interval = OneInterval;
};
/// f(known_step{}) with what is so.
template <rounding Mode, class F>
PO2Q_INLINE void with_known(const threshold_step& s, F&& f) {
    if (s.term == threshold_term::beyond) return f(known_step<threshold_term::beyond, false>{});
    if constexpr (Mode != rounding::stochastic)
        if (s.pass.low == s.inside.low && s.pass.high == s.inside.high)
            return f(known_step<threshold_term::error, true>{});
    f(known_step<threshold_term::error, false>{});
}

/// The step for vectors whose lanes have exponents of their own.
template <class Arch, rounding Mode>
struct threshold_lanes {
    using batch = simd::f32<Arch>;
    const threshold_step& step;
    batch qmin;
    batch qmax;
    batch inverse_scale;
    batch pass_low;
    batch pass_high;
    batch inside_low;
    batch inside_high;
    batch top;

    PO2Q_INLINE threshold_lanes(const threshold_step& s, const batch& scale, const batch& inverse)
        : step(s),
          qmin(s.g.qmin),
          qmax(s.g.qmax),
          inverse_scale(inverse),
          pass_low(batch(s.pass.low) * scale),
          pass_high(batch(s.pass.high) * scale),
          inside_low(batch(s.inside.low) * scale),
          inside_high(batch(s.inside.high) * scale),
          top(qmax * scale) {}

    /// dx, and the factor of dy in the sum.
    template <class Known>
    PO2Q_INLINE void operator()(Known, const batch& x, const batch& dy, const simd::u32<Arch>& random, batch& dx,
                                batch& factor) const {
        const batch zero(0.0F);
#if defined(__AVX512DQ__)
        if constexpr (has_avx512<Arch> && (Mode == rounding::half_up || Mode == rounding::half_even) &&
                      Known::one_interval) {
            const __mmask16 ordered = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
            const __mmask16 from_low = _mm512_cmp_ps_mask(inside_low, x, _CMP_LE_OQ);
            const __mmask16 inside = _mm512_mask_cmp_ps_mask(from_low, x, inside_high, _CMP_LE_OQ);
            dx = batch(_mm512_maskz_mov_ps(inside, dy));
            const __m512 code = simd::nearest_float_codes<Mode>(x, inverse_scale, qmin, qmax, ordered);
            factor = batch(_mm512_mask3_fnmadd_ps(x, inverse_scale, code, inside));
            return;
        }
#endif
        auto is_inside = (inside_low <= x) & (x <= inside_high);
        auto passes = is_inside;
        if constexpr (!Known::one_interval) passes = (pass_low <= x) & (x <= pass_high);
        if constexpr (Mode == rounding::stochastic) {
            const batch one(1.0F);
            const batch code = simd::code_of<Arch, Mode>(x, inverse_scale, qmin - one, qmax + one, random);
            is_inside = (qmin <= code) & (code <= qmax);
            if (step.pass_by_code) passes = is_inside;
        }
        dx = xsimd::select(passes, dy, zero);
        if constexpr (Known::term == threshold_term::error) {
            const batch code = simd::code_of<Arch, Mode>(x, inverse_scale, qmin, qmax, random);
            factor = xsimd::select(x == x, code - xsimd::select(is_inside, x * inverse_scale, zero), zero);
        } else {
            factor = xsimd::select(x >= top, batch(1.0F), zero);
        }
    }
    /// dx, and what the sum takes, of the first `count` elements at x, dy and dx.
    template <class Known, storage_type Storage, class Store>
    PO2Q_INLINE void operator()(Known known, const Storage* x, const Storage* dy, Storage* dx, std::size_t count,
                                const simd::u32<Arch>& random, const Store& store, batch& up, batch& factor) const {
        const bool whole = count == batch::size;
        const batch v = whole ? simd::load<Arch>(x) : simd::load_first<Arch>(x, count);
        up = whole ? simd::loaded<Arch>(simd::load<Arch>(dy)) : simd::load_first<Arch>(dy, count);
        batch down;
        (*this)(known, v, up, random, down, factor);
        if (whole) store(dx, down);
        else simd::store_first<Arch>(dx, down, count);
    }
};

/// dx, and the terms' products with dy added to 16 sums: element i of each run to sum i % 16, in order. Runs of n
/// elements, run_stride apart; g.first_index is that of element 0. `stream`: dx past the caches, where it is floats
/// aligned to 16 bytes, in memory of its own and long enough.
template <class Arch, rounding Mode, storage_type Storage>
void pass_gradient_and_sum(const Storage* x, const Storage* dy, Storage* dx, std::size_t runs, std::size_t run_stride,
                           std::size_t n, int exponent, const threshold_step& given,
                           simd::compensated_lanes<simd::sum_lanes>& lane_sums, bool stream = false) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr int parts = simd::sum_lanes / static_cast<int>(lanes);
    const threshold_step step = given;
    const auto random_at = random_of<Arch, Mode>(step.g);
    const threshold_lanes<Arch, Mode> of(step, batch(exp2_float(exponent)), batch(exp2_float(-exponent)));
    simd::compensated_sums<Arch> sums(lane_sums);
    const auto vector = [&](auto known, auto k, std::size_t at, std::size_t count, const auto& store, auto& to)
                            PO2Q_INLINE_LAMBDA {
                                batch up;
                                batch factor;
                                of(known, x + at, dy + at, dx + at, count, random_at(at), store, up, factor);
                                to.template add<k>(up, factor);
                            };
    // The whole sixteens from `at` to `end`. Its own copies of what changes are what keeps these in registers.
    const auto whole = [&](auto known, std::size_t at, std::size_t end, const auto& store) PO2Q_INLINE_LAMBDA {
        simd::compensated_sums<Arch> own = sums;
        for (; at + simd::sum_lanes <= end; at += simd::sum_lanes)
            simd::unroll<parts>([&](auto k)
                                    PO2Q_INLINE_LAMBDA { vector(known, k, at + k * lanes, lanes, store, own); });
        sums = own;
    };
    const auto cached = [](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::store_exact<Arch>(p, y); };
    with_known<Mode>(step, [&](auto known) PO2Q_INLINE_LAMBDA {
        for (std::size_t run = 0; run < runs; ++run) {
            const std::size_t at = run * run_stride;
            const std::size_t last = at + n - n % simd::sum_lanes;
            bool streamed = false;
            if constexpr (std::is_same_v<Storage, float>)
                if (stream && n >= least_stream && reinterpret_cast<std::uintptr_t>(dx + at) % 16 == 0) {
                    whole(known, at, last,
                          [](float* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::stream_parts<Arch>(p, y); });
                    simd::stream_fence<Arch>();
                    streamed = true;
                }
            if (!streamed) whole(known, at, last, cached);
            const std::size_t rest = n % simd::sum_lanes;
            simd::unroll<parts>([&](auto k) PO2Q_INLINE_LAMBDA {
                if (k * lanes < rest)
                    vector(known, k, last + k * lanes, rest - k * lanes < lanes ? rest - k * lanes : lanes, cached,
                           sums);
            });
        }
    });
    sums.store(lane_sums);
}

/// Channels that pass_gradient_and_sum_channels takes at once: their scales lie on the stack.
inline constexpr std::size_t channels_at_once = 1024;

/// Channel innermost: rows of `channels` <= channels_at_once elements, row_stride apart; channel c has exponents[c] and
/// sums[c], overwritten, row by row. g.first_index is that of element 0.
template <class Arch, rounding Mode, storage_type Storage>
void pass_gradient_and_sum_channels(const Storage* x, const Storage* dy, Storage* dx, std::size_t rows,
                                    std::size_t row_stride, std::size_t channels, const int* exponents,
                                    const threshold_step& given, double* sums) {
    using batch = simd::f32<Arch>;
    constexpr std::size_t lanes = batch::size;
    constexpr std::size_t rows_at_once = 8;  // for which the constants of a vector's channels are worked out
    const std::size_t ahead = rows_at_once * row_stride * sizeof(Storage);
    const threshold_step step = given;
    const auto random_at = random_of<Arch, Mode>(step.g);
    alignas(64) float scales[channels_at_once + lanes] = {};
    alignas(64) float inverses[channels_at_once + lanes] = {};
    for (std::size_t c = 0; c < channels; ++c) {
        scales[c] = exp2_float(exponents[c]);
        inverses[c] = exp2_float(-exponents[c]);
    }
    simd::compensated_lanes<channels_at_once + lanes> all{};
    const auto store = [](Storage* p, const batch& y) PO2Q_INLINE_LAMBDA { simd::store_exact<Arch>(p, y); };
    with_known<Mode>(step, [&](auto known) PO2Q_INLINE_LAMBDA {
        for (std::size_t first = 0; first < rows; first += rows_at_once)
            for (std::size_t c = 0; c < channels; c += lanes) {
                const std::size_t count = channels - c < lanes ? channels - c : lanes;
                const bool first_of_line = c * sizeof(Storage) % 64 == 0;
                const threshold_lanes<Arch, Mode> of(step, batch::load_aligned(scales + c),
                                                     batch::load_aligned(inverses + c));
                simd::compensated_sum<batch> own{batch::load_aligned(all.sum + c), batch::load_aligned(all.rest + c)};
                for (std::size_t row = first; row < rows && row < first + rows_at_once; ++row) {
                    const std::size_t at = row * row_stride + c;
                    batch up;
                    batch factor;
                    if (first_of_line) {  // CPUs that fetch ahead by themselves do not see these strides coming
                        simd::prefetch_ahead<lanes>(x + at, ahead);
                        simd::prefetch_ahead<lanes>(dy + at, ahead);
                    }
                    of(known, x + at, dy + at, dx + at, count, random_at(at), store, up, factor);
                    own.add(simd::keep(up * factor));
                }
                own.sum.store_aligned(all.sum + c);
                own.rest.store_aligned(all.rest + c);
            }
    });
    for (std::size_t c = 0; c < channels; ++c) sums[c] = all.total(c);
}

}  // namespace po2quant::kernels
