// Convolutions by products of tiles against their specification, bit for bit: the tiles in plain C++ on every
// instruction set; where the build has AMX, its tiles, and those against the ones in plain C++. With
// PO2QUANT_TRAP set they run on CPUs without AMX too.
#include <po2quant/inference/conv2d.hpp>
#include <po2quant/inference/integer_forward.hpp>
#include <po2quant/reference/integer_forward.hpp>

#include "inference/random_layers.hpp"
#include "support/catch.hpp"
#include "support/guarded_memory.hpp"
#include "support/model_tiles.hpp"
#if defined(PO2QUANT_AMX)
#include <cstdlib>
#include <optional>

#include "support/trapped_tiles.hpp"
#endif

namespace po2quant::test {
namespace {

#if defined(PO2QUANT_AMX)
using tiles = simd::amx_tiles;
/// As Linux allows them to this process, which asks for itself what the launcher has asked; else trapped.
class usable_tiles {
public:
    usable_tiles() {
        if (tiles::allowed()) return;
        REQUIRE(std::getenv("PO2QUANT_TRAP") != nullptr);
        trap_.emplace();
    }

private:
    std::optional<trapped_tiles> trap_;
};
#else
using tiles = model_tiles;
struct usable_tiles {};
#endif

/// Sums leave by registers of this build.
const kernels::conv2d_table& table = kernels::conv2d_tile_table_of<default_arch, tiles>;

/// Runs a layer between guard pages, at either end, and compares codes and sums.
void compare(const conv2d& layer, const std::vector<std::int8_t>& input, const std::vector<std::int32_t>& want_sums,
             const std::vector<std::int8_t>& want_codes, random_source& random) {
    const std::size_t n = want_sums.size();
    guarded_memory in_memory(input.size() + 64);
    guarded_memory out_memory(n * 4 + 64);
    for (const edge side : edges) {
        const auto gap = random.integer(0, 2) == 0 ? static_cast<std::size_t>(random.integer(0, 15)) : 0;
        const test_executor executor = random_executor(random);
        const auto in = in_memory.buffer<std::int8_t>(input.size(), side, gap);
        std::copy(input.begin(), input.end(), in.begin());
        const auto codes = out_memory.buffer<std::int8_t>(n, side, gap);
        layer.run(std::span<const std::int8_t>(in), codes, executor);
        CHECK(std::equal(codes.begin(), codes.end(), want_codes.begin()));
        CHECK(out_memory.untouched_outside(codes));
        const auto sums = out_memory.buffer<std::int32_t>(n, side, gap);
        layer.accumulate(std::span<const std::int8_t>(in), sums, executor);
        CHECK(std::equal(sums.begin(), sums.end(), want_sums.begin()));
        CHECK(out_memory.untouched_outside(sums));
    }
    CHECK(!model_tiles::registers.configured());
}

/// False where an accumulator could overflow.
bool check_layer(random_source& random, const conv2d_shape& s) {
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
    fill(weights, random);
    random_requantization r(random, s.outputs);
    std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
    fill(input, random, r.q.input_format);
    const auto worst = worst_sums(s, weights, r.q, r.bias());
    if (*std::max_element(worst.begin(), worst.end()) >= 0x1p31L) return false;
    CAPTURE(s.input.batch, s.input.height, s.input.width, s.input.channels, s.outputs, s.groups, s.window.kernel.height,
            s.window.kernel.width, s.window.stride.height, s.window.stride.width, s.window.dilation.height,
            s.window.dilation.width, static_cast<int>(r.q.mode));
    const conv2d layer(s, weights, r.bias(), r.q, weight_layout::hwio, table);
    std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
    std::vector<std::int8_t> codes(sums.size());
    reference::conv2d_sums<std::int8_t>(s, input, weights, r.bias(), r.q, weight_layout::hwio, sums);
    reference::requantize_sums(sums, codes, s.outputs, r.q);
    compare(layer, input, sums, codes, random);
    return true;
}

const int rounds = full() ? 10000 : 800;

TEST_CASE_METHOD(usable_tiles, "conv2d by tiles equals the reference") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < rounds; ++round) compared += check_layer(random, random_conv2d_shape(random));
    CHECK(compared > rounds / 2);
}

TEST_CASE_METHOD(usable_tiles, "conv2d by tiles equals the reference: runs around 64 codes and pixels around 16") {
    random_source random;
    int compared = 0;
    for (int round = 0; round < rounds / 4; ++round) {
        static constexpr std::int64_t depths[] = {1,   2,   3,   4,   5,   7,   8,   15,  16,  17,  21, 22, 31,
                                                  32,  33,  47,  60,  61,  63,  64,  65,  66,  67,  68, 96, 100,
                                                  127, 128, 129, 131, 160, 191, 192, 193, 255, 256, 320};
        conv2d_shape s{.input = {1, random.integer(1, 4), random.integer(1, 52), random.one_of(depths)},
                       .outputs = random.integer(1, 70)};
        const std::int64_t kernel = random.integer(0, 1) * 2 + 1;
        s.window = {.kernel = {kernel, kernel}, .stride = {1, random.integer(1, 2)}};
        if (kernel == 3) s.window.padding = {1, 1, random.integer(0, 1), random.integer(0, 1)};
        if (random.integer(0, 1)) {
            std::swap(s.input.height, s.input.width);
            std::swap(s.window.stride.height, s.window.stride.width);
            if (kernel == 3) s.window.padding = {random.integer(0, 1), random.integer(0, 1), 1, 1};
        }
        const extent2d out = output_extent(s.input, s.window);
        if (out.height < 1 || out.width < 1 || s.macs() > 4000000) continue;
        compared += check_layer(random, s);
    }
    CHECK(compared > rounds / 8);
}

TEST_CASE_METHOD(usable_tiles, "conv2d by tiles: sums at both ends of the worst that codes can make") {
    // 3 · 3 · 512 products of −128 · −128 = 2^14 and of 127 · −128.
    const conv2d_shape s{
        .input = {1, 5, 18, 512}, .outputs = 33, .window = {.kernel = {3, 3}, .padding = {1, 1, 1, 1}}};
    const int exponents[] = {-7};
    const requantization q{.input_exponent = -4, .weight_exponents = exponents, .output_exponent = 8};
    const std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()), std::int8_t{-128});
    const conv2d layer(s, weights, {}, q, weight_layout::hwio, table);
    random_source random;
    for (const std::int8_t code : {-128, 127}) {
        const std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()), code);
        std::vector<std::int32_t> sums(static_cast<std::size_t>(s.output().elements()));
        std::vector<std::int8_t> codes(sums.size());
        reference::conv2d_sums<std::int8_t>(s, input, weights, {}, q, weight_layout::hwio, sums);
        reference::requantize_sums(sums, codes, s.outputs, q);
        CHECK(std::abs(sums[static_cast<std::size_t>((18 + 1) * s.outputs)]) == 4608 * 128 * std::abs(int{code}));
        compare(layer, input, sums, codes, random);
    }
}

TEST_CASE_METHOD(usable_tiles, "integer_forward_conv2d by tiles equals the reference") {
    random_source random;
    for (int round = 0; round < rounds / 4; ++round) {
        const conv2d_shape s = random_conv2d_shape(random);
        std::vector<float> input(static_cast<std::size_t>(s.input.elements()));
        std::vector<float> weights(static_cast<std::size_t>(s.weights()));
        std::vector<float> bias(static_cast<std::size_t>(random.integer(0, 1) ? s.outputs : 0));
        for (float& x : input) x = static_cast<float>(random.integer(-1100, 1100)) / 256.0F;
        for (float& w : weights) w = static_cast<float>(random.integer(-1100, 1100)) / 2048.0F;
        // On the grid of the sums, or on none.
        for (float& b : bias) b = static_cast<float>(random.integer(-1000, 1000)) / (round % 2 ? 1024.0F : 3.0F);
        std::vector<int> exponents(static_cast<std::size_t>(random.integer(0, 1) ? s.outputs : 1));
        for (int& e : exponents) e = static_cast<int>(random.integer(-9, -6));
        integer_forward_conv2d layer(s, int8, weight_layout::hwio, table, kernels::quantize_table_of<default_arch>);
        std::vector<float> y(static_cast<std::size_t>(s.output().elements()));
        std::vector<float> want(y.size());
        layer.run(input, {.exponent = -5}, weights, {.exponents = exponents}, bias, y);
        reference::integer_forward_conv2d(s, input, {.exponent = -5}, weights, {}, exponents, weight_layout::hwio, bias,
                                          want);
        CAPTURE(s.input.height, s.input.width, s.input.channels, s.outputs, s.groups);
        CHECK(y == want);
    }
}

TEST_CASE_METHOD(usable_tiles, "conv2d by tiles: a residual is added once to pixels that are computed twice") {
    random_source random;
    for (int round = 0; round < rounds / 8; ++round) {
        conv2d_shape s{.input = {1, random.integer(1, 3), random.integer(17, 60), random.integer(16, 80)},
                       .outputs = random.integer(1, 70)};
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        std::vector<std::int8_t> input(static_cast<std::size_t>(s.input.elements()));
        std::vector<std::int8_t> residual(static_cast<std::size_t>(s.output().elements()));
        for (auto* all : {&weights, &input, &residual}) fill(*all, random);
        const int exponents[] = {-7};
        const requantization q{.input_exponent = -4, .weight_exponents = exponents, .output_exponent = 0};
        const conv2d layer(s, weights, {}, q, weight_layout::hwio, table);
        const add_quantization addition{.a_exponent = 0, .b_exponent = -1, .output_exponent = 0};
        std::vector<std::int8_t> fused(residual.size());
        std::vector<std::int8_t> apart(residual.size());
        layer.run_add(input, residual, fused, addition);
        layer.run(input, apart);
        add(apart, residual, apart, addition);
        CAPTURE(s.input.height, s.input.width, s.input.channels, s.outputs);
        CHECK(fused == apart);
    }
}

TEST_CASE_METHOD(usable_tiles, "tiles compute what their layers are chosen for") {
    kernels::conv2d_table both = table;
    CHECK(&both.for_layer(int8, 1000) == &both);
    both.tiles = [] { return &table; };
    CHECK(&both.for_layer(int8, 16) == &table);
    CHECK(&both.for_layer({.bits = 7, .is_signed = false}, 64) == &table);
    CHECK(&both.for_layer(int8, 15) == &both);
    CHECK(&both.for_layer({.bits = 9}, 1000) == &both);
    both.tiles = []() -> const kernels::conv2d_table* { return nullptr; };
    CHECK(&both.for_layer(int8, 1000) == &both);

    // A pixel sees 3 · 6 neighbouring inputs, and 6 where a dilation or groups keep taps apart.
    conv2d_shape s{.input = {1, 9, 9, 6}, .outputs = 4, .window = {.kernel = {3, 3}}};
    CHECK(detail::longest_run(s) == 18);
    s.window.dilation = {1, 2};
    CHECK(detail::longest_run(s) == 6);
    s.window.dilation = {1, 1};
    s.groups = 2;
    CHECK(detail::longest_run(s) == 3);
}

TEST_CASE("as few tiles of pixels as can be, of one height") {
    struct {
        std::int64_t rows, columns, tiles;
        int height;
    } const cases[] = {{1, 1, 1, 1},   {1, 16, 1, 16}, {1, 17, 2, 9}, {1, 33, 3, 11},
                       {20, 1, 2, 10}, {5, 5, 5, 5},   {3, 18, 6, 9}, {18, 3, 6, 9}};
    for (const auto& c : cases) {
        kernels::conv2d_rectangle<std::int8_t> r{};
        r.rows = c.rows;
        r.columns = c.columns;
        const kernels::conv2d_tile_cursor cursor(r);
        CAPTURE(c.rows, c.columns);
        CHECK(cursor.tiles == c.tiles);
        CHECK(cursor.height == c.height);
    }
}

#if defined(PO2QUANT_AMX)
/// All shapes that kernels use, by both: every byte of a register, read back as a whole.
TEST_CASE_METHOD(usable_tiles, "tiles of AMX are those in plain C++") {
    random_source random;
    const auto result = [&]<class Tiles>(std::type_identity<Tiles>, int rows, int codes, int outputs,
                                         const std::vector<std::int8_t>& from) {
        simd::tile_shapes shapes;
        shapes.set(0, rows, 4 * outputs);
        shapes.set(4, rows, codes);
        shapes.set(6, codes / 4, 4 * outputs);
        std::vector<std::int8_t> to(16 * 80, std::int8_t{77});
        Tiles t(shapes);
        t.template load<0>(from.data(), 0);
        t.template load<4>(from.data() + 1, 65);
        t.template load<6>(from.data() + 2, 71);
        t.template dot<0, 4, 6>();
        t.template dot<0, 4, 6>();
        t.template store<0>(to.data(), 80);
        t.release();
        return to;
    };
    for (int round = 0; round < 2000; ++round) {
        std::vector<std::int8_t> from(2048);
        fill(from, random);
        const int rows = static_cast<int>(random.integer(1, 16));
        const int codes = static_cast<int>(4 * random.integer(1, 16));
        const int outputs = static_cast<int>(random.integer(1, 16));
        CAPTURE(rows, codes, outputs);
        CHECK(result(std::type_identity<simd::amx_tiles>{}, rows, codes, outputs, from) ==
              result(std::type_identity<model_tiles>{}, rows, codes, outputs, from));
    }
}
#endif

}  // namespace
}  // namespace po2quant::test
