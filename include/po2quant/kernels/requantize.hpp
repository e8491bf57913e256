#pragma once
/// Codes from one exponent to another, and sums of codes of two exponents: y = clamp(round(v / 2^shift), low, high).
///
///   In    int8_t or int16_t [n];  Out int8_t or int16_t [n];  any alignment
/// Numerics. Integer only, bit-exact with reference::requantize and reference::add for every shift.
/// Guarantees: reads and writes exactly n elements; no allocation, no exceptions.
#include <cstddef>

#include <po2quant/kernels/epilogue.hpp>

namespace po2quant::kernels {

/// What happens to each int32 value; shift > 0 is to the right.
struct value_rule {
    int shift;
    rounding mode;
    code_range range;
};

/// Rounds and clamps one register of values and stores `count` of its lanes.
template <class Arch, rounding Mode, class Out>
PO2Q_INLINE void store_values(Out* out, typename simd::integer<Arch>::reg values, const value_rule& rule, int count) {
    using ops = simd::integer<Arch>;
    if (rule.shift >= 0 && rule.shift <= 31) {
        if (rule.shift > 0) values = simd::shift_right_rounded<Arch, Mode>(values, ops::set(rule.shift));
        if constexpr (sizeof(Out) == 1) {
            const typename ops::words words[1] = {ops::narrow(values, values)};
            ops::template store_narrowed<1>(out, words, rule.range, count);
            return;
        }
    }
    alignas(64) std::int32_t lanes[ops::lanes];
    ops::store(lanes, values);
    const bool done = rule.shift >= 0 && rule.shift <= 31;
    for (int i = 0; i < count; ++i) {
        const std::int32_t v = done ? lanes[i] : shift_right(lanes[i], rule.shift, Mode);
        out[i] = static_cast<Out>(clamp<std::int32_t>(v, rule.range.low, rule.range.high));
    }
}

/// One register of codes, widened; the last lanes of a short one are 0.
template <class Arch, class In>
PO2Q_INLINE auto load_values(const In* in, int count) {
    using ops = simd::integer<Arch>;
    if (count == ops::lanes) return ops::load_codes(in);
    In part[ops::lanes] = {};
    for (int i = 0; i < count; ++i) part[i] = in[i];
    return ops::load_codes(part);
}

/// What add does to every pair of codes: both on the finer exponent by shifts to the left, then one rule.
struct addition {
    int shift_a;
    int shift_b;
    value_rule rule;

    /// One shift is 0 and the other up to 7, so that |sum| <= 2^14 + 2^7; the rounding adds 2^13 at most: int16 holds
    /// it.
    constexpr bool fits_words() const {
        return shift_a + shift_b <= 7 && (shift_a == 0 || shift_b == 0) && rule.shift >= 0 && rule.shift <= 14;
    }
};

/// Sums of 2·lanes codes in int16, rounded; for additions that fit.
template <class Arch, rounding Mode>
class add_words {
    using ops = simd::integer<Arch>;
    using words = typename ops::words;
    static constexpr std::size_t half_step = 2 * ops::lanes;

public:
    static constexpr std::size_t step = 2 * half_step;

    PO2Q_INLINE explicit add_words(const addition& q)
        : shift_a_(q.shift_a), shift_b_(q.shift_b), shift_(q.rule.shift), range_(q.rule.range) {
        // Made for every addition, used for those that fit.
        const int half = q.fits_words() && shift_ > 0 ? 1 << (shift_ - 1) : 0;
        constant_ = ops::set_words(Mode == rounding::floor ? 0 : Mode == rounding::half_even ? half - 1 : half);
    }
    /// `step` codes.
    PO2Q_INLINE void operator()(const std::int8_t* a, const std::int8_t* b, std::int8_t* out) const {
        const words low = rounded(sum(a, b));
        ops::store_words(out, low, rounded(sum(a + half_step, b + half_step)), range_);
    }
    /// The same with nothing added.
    PO2Q_INLINE void operator()(const std::int8_t* a, std::int8_t* out) const {
        const words low = rounded(left(a));
        ops::store_words(out, low, rounded(left(a + half_step)), range_);
    }

private:
    PO2Q_INLINE words left(const std::int8_t* a) const { return ops::shift_left_words(ops::widen(a), shift_a_); }
    PO2Q_INLINE words sum(const std::int8_t* a, const std::int8_t* b) const {
        return ops::add_words(left(a), ops::shift_left_words(ops::widen(b), shift_b_));
    }
    PO2Q_INLINE words rounded(words sum) const {
        words bumped = ops::add_words(sum, constant_);
        if constexpr (Mode == rounding::half_even)
            bumped = ops::add_words(bumped, ops::and_words(ops::shift_right_words(sum, shift_), ops::set_words(1)));
        if constexpr (Mode == rounding::half_away) bumped = ops::add_words(bumped, ops::shift_right_words(sum, 15));
        return ops::shift_right_words(bumped, shift_);
    }

    int shift_a_;
    int shift_b_;
    int shift_;
    code_range range_;
    words constant_;
};

template <class Arch, rounding Mode, class In, class Out>
void requantize(const In* in, Out* out, std::size_t n, const value_rule& rule) {
    constexpr std::size_t lanes = simd::integer<Arch>::lanes;
    std::size_t i = 0;
    if constexpr (sizeof(In) == 1 && sizeof(Out) == 1) {
        const bool right = rule.shift > 0;
        const addition alone{right ? 0 : -rule.shift, 0, {right ? rule.shift : 0, rule.mode, rule.range}};
        if (alone.fits_words()) {
            const add_words<Arch, Mode> rounded(alone);
            const add_words<Arch, rounding::floor> whole(alone);  // nothing is rounded where nothing is shifted out
            if (right)
                for (; i + rounded.step <= n; i += rounded.step) rounded(in + i, out + i);
            else
                for (; i + whole.step <= n; i += whole.step) whole(in + i, out + i);
        }
    }
    for (; i < n; i += lanes) {
        const int count = n - i < lanes ? static_cast<int>(n - i) : static_cast<int>(lanes);
        store_values<Arch, Mode>(out + i, load_values<Arch>(in + i, count), rule, count);
    }
}

/// add of n codes by int32, for additions that int16 does not hold and for the last codes of a row: rare enough for one
/// function of all modes.
template <class Arch>
[[gnu::noinline]] void add_values(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::size_t n,
                                  const addition& q) {
    using ops = simd::integer<Arch>;
    constexpr std::size_t lanes = ops::lanes;
    const auto left_a = ops::set(q.shift_a);
    const auto left_b = ops::set(q.shift_b);
    for (std::size_t i = 0; i < n; i += lanes) {
        const int count = n - i < lanes ? static_cast<int>(n - i) : static_cast<int>(lanes);
        const auto sum = ops::add(ops::shift_left(load_values<Arch>(a + i, count), left_a),
                                  ops::shift_left(load_values<Arch>(b + i, count), left_b));
        with_shift_rounding(q.rule.mode, [&](auto m) { store_values<Arch, m()>(out + i, sum, q.rule, count); });
    }
}

/// out = clamp(round(((a << shift_a) + (b << shift_b)) / 2^shift)) for `rows` rows of n codes, each `stride` codes
/// behind the one before. Shifts of 0..22 keep the sum inside int32.
template <class Arch, rounding Mode>
void add(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::int64_t rows, std::size_t n,
         std::int64_t stride, const addition& q) {
    // Nothing is rounded where nothing is shifted out.
    const add_words<Arch, Mode> rounded(q);
    const add_words<Arch, rounding::floor> whole(q);
    const bool in_words = q.fits_words();
    if (rows > 1 && static_cast<std::int64_t>(n) == stride) {
        n *= static_cast<std::size_t>(rows);
        rows = 1;
    }
    for (std::int64_t row = 0; row < rows; ++row, a += stride, b += stride, out += stride) {
        std::size_t i = 0;
        if (in_words) {
            if (q.rule.shift == 0)
                for (; i + whole.step <= n; i += whole.step) whole(a + i, b + i, out + i);
            else
                for (; i + rounded.step <= n; i += rounded.step) rounded(a + i, b + i, out + i);
        }
        if (i < n) add_values<Arch>(a + i, b + i, out + i, n - i, q);
    }
}

/// codes = add(codes, residual) by the rule's own mode.
template <class Arch>
void add_residual(std::int8_t* codes, const std::int8_t* residual, std::int64_t rows, std::size_t n,
                  std::int64_t stride, const addition& q) {
    with_shift_rounding(q.rule.mode, [&](auto m) { add<Arch, m()>(codes, residual, codes, rows, n, stride, q); });
}

/// The kernels of one instruction set, by rounding mode.
struct rescale_table {
    const char* arch;
    template <class In, class Out>
    using requantize_function = void (*)(const In* in, Out* out, std::size_t n, const value_rule& rule);
    using add_function = void (*)(const std::int8_t* a, const std::int8_t* b, std::int8_t* out, std::int64_t rows,
                                  std::size_t n, std::int64_t stride, const addition& q);
    static constexpr int modes = static_cast<int>(rounding::floor) + 1;
    requantize_function<std::int8_t, std::int8_t> from8_to8[modes];
    requantize_function<std::int8_t, std::int16_t> from8_to16[modes];
    requantize_function<std::int16_t, std::int8_t> from16_to8[modes];
    requantize_function<std::int16_t, std::int16_t> from16_to16[modes];
    add_function add[modes];

    template <class In, class Out>
    requantize_function<In, Out> requantize(rounding mode) const {
        const int m = static_cast<int>(mode);
        if constexpr (sizeof(In) == 1 && sizeof(Out) == 1) return from8_to8[m];
        else if constexpr (sizeof(In) == 1) return from8_to16[m];
        else if constexpr (sizeof(Out) == 1) return from16_to8[m];
        else return from16_to16[m];
    }
};

template <class Arch>
constexpr rescale_table make_rescale_table() {
    rescale_table t{};
    t.arch = Arch::name;
    simd::unroll<rescale_table::modes>([&](auto i) {
        constexpr auto mode = static_cast<rounding>(static_cast<int>(i));
        t.from8_to8[i] = &requantize<Arch, mode, std::int8_t, std::int8_t>;
        t.from8_to16[i] = &requantize<Arch, mode, std::int8_t, std::int16_t>;
        t.from16_to8[i] = &requantize<Arch, mode, std::int16_t, std::int8_t>;
        t.from16_to16[i] = &requantize<Arch, mode, std::int16_t, std::int16_t>;
        t.add[i] = &add<Arch, mode>;
    });
    return t;
}
template <class Arch>
inline constexpr rescale_table rescale_table_of = make_rescale_table<Arch>();

}  // namespace po2quant::kernels
