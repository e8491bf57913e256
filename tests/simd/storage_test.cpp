/// Loads and stores of 16-bit storage against the scalar conversions: all 65536 values, every tie, floats of every
/// exponent; part of a vector; and the conversions by integers beside those of an instruction set.
#include <po2quant/simd/storage.hpp>

#include <vector>

#include "../support/float_cases.hpp"
#include "../support/guarded_memory.hpp"
#include "../support/half_cases.hpp"
#include "../support/same_bits.hpp"

using namespace po2quant;

namespace {

using isa = default_arch;
using halves = simd::halves<isa>;
constexpr std::size_t lanes = simd::f32<isa>::size;

/// By integers, whatever the instruction set has.
template <half_type Half>
simd::f32<isa> load_by_integers(const Half* p) {
    const simd::u32<isa> upper = halves::widen(halves::load(p));
    if constexpr (std::same_as<Half, bfloat16>) return simd::bit_cast<float>(upper);
    else return simd::float16_lanes<isa>(upper);
}
template <half_type Half>
void store_by_integers(Half* p, const simd::f32<isa>& v) {
    if constexpr (std::same_as<Half, bfloat16>) halves::store(p, halves::narrow(simd::rounded_bfloat16_lanes<isa>(v)));
    else halves::store(p, halves::narrow(simd::rounded_float16_lanes<isa>(v)));
}

template <half_type Half>
void check_loads() {
    const std::vector<Half> all = test::all_halves<Half>();
    const std::vector<float> expected = test::to_floats<Half>(all);
    std::vector<float> v(all.size());
    std::vector<float> by_integers(all.size());
    for (std::size_t i = 0; i < all.size(); i += lanes) {
        simd::load<isa>(all.data() + i).store_unaligned(v.data() + i);
        load_by_integers(all.data() + i).store_unaligned(by_integers.data() + i);
    }
    const auto context = [] { return test::name_of_type<Half>(); };
    test::check_same(std::span(v), std::span(expected), context);
    test::check_same(std::span(by_integers), std::span(expected), context);
}

template <half_type Half>
void check_stores() {
    std::vector<float> v = test::ties_of<Half>();
    for (const float special : test::special_values()) v.push_back(special);
    for (std::uint64_t i = 0; i < std::uint64_t{1} << 20; ++i) {
        const auto base = static_cast<std::uint32_t>(i << 12);
        v.push_back(std::bit_cast<float>(base | (mix_bits(base) & 0xfffU)));
    }
    v.resize(v.size() / lanes * lanes);
    std::vector<Half> h(v.size());
    std::vector<Half> by_integers(v.size());
    for (std::size_t i = 0; i < v.size(); i += lanes) {
        const auto x = simd::f32<isa>::load_unaligned(v.data() + i);
        simd::store<isa>(h.data() + i, x);
        store_by_integers(by_integers.data() + i, x);
    }
    const std::vector<Half> expected = test::to_halves<Half>(v);
    const auto context = [] { return test::name_of_type<Half>(); };
    test::check_same(std::span(h), std::span(expected), context, v);
    test::check_same(std::span(by_integers), std::span(expected), context, v);
}

template <half_type Half>
void check_parts() {
    test::guarded_memory memory(4096);
    alignas(64) float v[lanes];
    for (std::size_t k = 0; k < lanes; ++k) v[k] = static_cast<float>(k) + 0.5F;
    for (std::size_t count = 1; count <= lanes; ++count)
        for (const test::edge side : test::edges) {
            const std::span<Half> part = memory.buffer<Half>(count, side);
            const auto x = simd::f32<isa>::load_aligned(v);
            if (count < lanes) simd::store_first<isa>(part.data(), x, count);
            else simd::store<isa>(part.data(), x);
            bool same = memory.untouched_outside(part);
            alignas(64) float back[lanes];
            (count < lanes ? simd::load_first<isa>(part.data(), count) : simd::load<isa>(part.data()))
                .store_aligned(back);
            for (std::size_t k = 0; k < lanes; ++k) same = same && back[k] == (k < count ? v[k] : 0);
            CHECK(same);
        }
    alignas(64) Half streamed[lanes];
    simd::stream_store<isa>(streamed, simd::f32<isa>::load_aligned(v));
    simd::stream_fence<isa>();
    for (std::size_t k = 0; k < lanes; ++k) CHECK(to_float(streamed[k]) == v[k]);
}

}  // namespace

TEST_CASE("storage in registers: every bfloat16 and float16 becomes its float") {
    check_loads<bfloat16>();
    check_loads<float16>();
}

TEST_CASE("storage in registers: floats become the nearest bfloat16 and float16") {
    check_stores<bfloat16>();
    check_stores<float16>();
}

TEST_CASE("storage in registers: part of a vector, nothing behind it touched") {
    check_parts<bfloat16>();
    check_parts<float16>();
}
