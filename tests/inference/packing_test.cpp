// Packed weights are where kernels/conv2d.hpp and kernels/depthwise_conv2d.hpp say, for registers of any width.
#include <po2quant/inference/depthwise_conv2d.hpp>
#include "inference/random_layers.hpp"

#include "support/catch.hpp"

namespace po2quant::test {
namespace {

int channel_of(int vectors, int vector, int lane) { return simd::integer_generic::channel_of(vectors, vector, lane); }

/// Where element i of 4 dwords' elements lies when their lower halves come first.
std::int64_t with_halves_apart(std::int64_t i, std::int64_t elements) {
    const std::int64_t half = elements / 8;
    const std::int64_t dword = i / (2 * half) % 4;
    return i - i % elements + (i / half % 2 * 4 + dword) * half + i % half;
}

/// [block][run][⌈length / codes⌉][vectors][registers][lanes][codes / registers], undone element by element; of 64 codes
/// [16][vectors][lanes][4].
template <class Weight>
void check_conv2d_packing(random_source& random, int codes, int registers, bool halves_apart = false) {
    const std::int64_t quad = codes;
    const conv2d_shape s = random_conv2d_shape(random);
    const auto layout = static_cast<weight_layout>(random.integer(0, 2));
    kernels::conv2d_table table{};
    table.lanes = 4 << random.integer(0, 2);
    table.i8.operands = {codes, registers, sizeof(Weight), 0, random.integer(0, 1) ? 2 : 4, 1, halves_apart};
    const int max_vectors = table.i8.operands.max_vectors;
    table.channel_of = &channel_of;
    table.pack = kernels::pack_functions_of<default_arch>;
    std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
    fill(weights, random);
    const auto packed = pack_conv2d_weights(s, in_layout(layout, s.window.kernel, s.group_inputs(), s.outputs, weights),
                                            layout, int8, table);
    std::vector<Weight> elements(packed.weights.size() / sizeof(Weight));
    std::memcpy(elements.data(), packed.weights.data(), packed.weights.size());
    const std::int64_t taps = s.window.kernel.height * s.window.kernel.width;
    const std::int64_t cin = s.group_inputs();
    // Runs lie one behind the other; together they are every tap, or every way that padding cuts a kernel row.
    std::int64_t depth = 0;
    bool short_runs = false;
    int wrong = 0;
    for (const conv2d_run& run : packed.runs) {
        wrong += run.weights != depth;
        short_runs = short_runs || (run.kx.last - run.kx.first) * cin < quad;
        depth += ((run.kx.last - run.kx.first) * cin + quad - 1) / quad * quad;
    }
    for (std::int64_t x = 0; x < s.output().width; ++x) {
        const tap_range valid = valid_taps(x, s.input.width, s.window.kernel.width, s.window.stride.width,
                                           s.window.dilation.width, s.window.padding.left);
        for (std::int64_t ky = 0; ky < s.window.kernel.height; ++ky) {
            std::int64_t covered = 0;
            bool whole = false;
            for (const conv2d_run& run : packed.runs) {
                if (run.ky != ky) continue;
                covered += run.kx.last - run.kx.first == 1 && run.kx.first >= valid.first && run.kx.last <= valid.last;
                whole = whole || run.kx == valid;
            }
            wrong += !whole && covered != valid.last - valid.first;
        }
    }
    std::int64_t next_output = 0;
    std::int64_t next_lane = 0;
    std::int64_t next_weight = 0;
    for (const conv2d_block& b : packed.blocks) {
        wrong += b.first_output != next_output || b.lanes != next_lane ||
                 b.weights != next_weight * static_cast<std::int64_t>(sizeof(Weight));
        wrong += b.group != b.first_output / s.group_outputs() ||
                 b.group != (b.first_output + b.outputs - 1) / s.group_outputs();
        wrong += b.vectors > (short_runs ? table.i8.operands.max_short_vectors : max_vectors);
        // One register less would not do.
        wrong += b.outputs > b.vectors * table.lanes || b.outputs <= (b.vectors - 1) * table.lanes;
        next_output += b.outputs;
        next_lane += b.vectors * table.lanes;
        next_weight += depth * b.vectors * table.lanes;
        for (const conv2d_run& run : packed.runs) {
            const std::int64_t length = (run.kx.last - run.kx.first) * cin;
            const std::int64_t quads = (length + quad - 1) / quad;
            for (std::int64_t q = 0; q < quads; ++q)
                for (int vector = 0; vector < b.vectors; ++vector)
                    for (int lane = 0; lane < table.lanes; ++lane)
                        for (std::int64_t k = 0; k < quad; ++k) {
                            // Element of the run under this weight; the last quad ends with the run, if that has a
                            // quad.
                            const bool last = q + 1 == quads && length >= quad;
                            const std::int64_t i = last ? length - quad + k : q * quad + k;
                            const std::int64_t o = channel_of(b.vectors, vector, lane);
                            const bool exists = o < b.outputs && i >= q * quad && i < length;
                            const std::int64_t tap = run.ky * s.window.kernel.width + run.kx.first + i / cin;
                            const std::int8_t want = exists
                                                         ? weights[static_cast<std::size_t>(
                                                               (tap * cin + i % cin) * s.outputs + b.first_output + o)]
                                                         : std::int8_t{0};
                            const std::int64_t step = quad == 64 ? 4 : quad;
                            std::int64_t at =
                                b.weights / static_cast<std::int64_t>(sizeof(Weight)) +
                                (((((run.weights + q * quad + k) / step) * b.vectors + vector) * registers +
                                  k % registers) *
                                     table.lanes +
                                 lane) *
                                    (step / registers) +
                                k % step / registers;
                            if (halves_apart)
                                at = with_halves_apart(at, 16 / static_cast<std::int64_t>(sizeof(Weight)));
                            wrong += elements[static_cast<std::size_t>(at)] != want;
                        }
        }
        for (std::int64_t tap = 0; tap < taps; ++tap)
            for (int vector = 0; vector < b.vectors; ++vector)
                for (int lane = 0; lane < table.lanes; ++lane) {
                    const std::int64_t o = channel_of(b.vectors, vector, lane);
                    std::int32_t sum = 0;
                    for (std::int64_t c = 0; o < b.outputs && c < s.group_inputs(); ++c)
                        sum += weights[static_cast<std::size_t>((tap * s.group_inputs() + c) * s.outputs +
                                                                b.first_output + o)];
                    wrong += packed.tap_sums[static_cast<std::size_t>(tap * packed.lane_count + b.lanes +
                                                                      vector * table.lanes + lane)] != sum;
                }
    }
    CAPTURE(s.input.channels, s.outputs, s.groups, taps, table.lanes, max_vectors, codes, registers, halves_apart,
            static_cast<int>(layout));
    CHECK(wrong == 0);
    CHECK(next_output == s.outputs);
    CHECK(next_lane == packed.lane_count);
    CHECK(static_cast<std::size_t>(next_weight) == elements.size());
    CHECK(static_cast<std::size_t>(taps * next_lane) == packed.tap_sums.size());
}

TEST_CASE("conv2d weights are packed as documented") {
    random_source random;
    for (int round = 0; round < 200; ++round) {
        check_conv2d_packing<std::int8_t>(random, 4, 1);
        check_conv2d_packing<std::int16_t>(random, 4, 2);
        check_conv2d_packing<std::int16_t>(random, 2, 1);
        check_conv2d_packing<std::int8_t>(random, 4, 1, true);
        check_conv2d_packing<std::int16_t>(random, 2, 1, true);
        check_conv2d_packing<std::int8_t>(random, 8, 1);
        check_conv2d_packing<std::int8_t>(random, 64, 1);
    }
}

TEST_CASE("depthwise weights are packed as documented") {
    random_source random;
    int apart_seen = 0;
    for (int round = 0; round < 400; ++round) {
        const depthwise_conv2d_shape s = random_walked_shape(random);
        const auto layout = static_cast<weight_layout>(random.integer(0, 2));
        kernels::depthwise_table table{};
        table.pack = kernels::pack_functions_of<default_arch>;
        auto& steps = table.any_codes;
        steps.taps = random.integer(0, 1) ? 2 : 4;
        steps.halves_apart = steps.taps == 2 && random.integer(0, 1);
        steps.vectors = random.integer(0, 1) ? 2 : 4;
        steps.lanes = steps.vectors * (random.integer(0, 1) ? 16 : 4);
        steps.channel_of = &channel_of;
        const bool squares = random.integer(0, 1);
        for (int i = 0; squares && i < 4; ++i) {
            const int kernel = i < 2 ? 3 : 5;
            steps.squares[i] = {kernel, 1 + i % 2, kernel % steps.taps == 1, nullptr, nullptr};
        }
        std::vector<std::int8_t> weights(static_cast<std::size_t>(s.weights()));
        fill(weights, random);
        const auto packed =
            pack_depthwise_weights(s, in_layout(layout, s.window.kernel, 1, s.outputs(), weights), layout, table);
        // As kernels see it: along rows where lanes are channels of one pixel.
        const bool exchanged = !packed.flat;
        const std::int64_t width = s.window.kernel.width;
        depthwise_conv2d_shape seen = s;
        if (exchanged) {
            seen.window = transposed(s.window);
            std::swap(seen.input.height, seen.input.width);
            CHECK(seen.output() == nhwc{s.output().batch, s.output().width, s.output().height, s.outputs()});
        }
        const std::int64_t kernel_height = seen.window.kernel.height, kernel_width = seen.window.kernel.width;
        const auto weight = [&](std::int64_t ky, std::int64_t kx, std::int64_t o) {
            const std::int64_t tap = exchanged ? kx * width + ky : ky * width + kx;
            return weights[static_cast<std::size_t>(tap * s.outputs() + o)];
        };
        const window2d& w = seen.window;
        CHECK(packed.layout.column_apart == (squares && s.multiplier == 1 && kernel_height == kernel_width &&
                                             (kernel_width == 3 || kernel_width == 5) && w.stride.height <= 2 &&
                                             w.dilation.height == 1 && kernel_width % steps.taps == 1));
        apart_seen += packed.layout.column_apart;
        const std::int64_t row = s.output().width * s.input.channels;
        std::vector<int> computed(static_cast<std::size_t>(s.outputs()), 0);
        int wrong = 0;
        // The tap (ky, kx) of each weight of a lane; −1 where there is none.
        std::vector<std::pair<std::int64_t, std::int64_t>> taps;
        const std::int64_t row_taps = packed.layout.column_apart ? kernel_width - 1 : kernel_width;
        for (std::int64_t ky = 0; ky < kernel_height; ++ky)
            for (std::int64_t kx = 0; kx < (row_taps + steps.taps - 1) / steps.taps * steps.taps; ++kx)
                taps.emplace_back(ky, kx < row_taps ? kx : -1);
        for (std::int64_t first = 0; packed.layout.column_apart && first < kernel_height; first += steps.taps) {
            const std::int64_t end = std::min<std::int64_t>(first + steps.taps, kernel_height);
            // A step is `stride` rows; the one that has met row end − 1 ends here.
            const std::int64_t met = (end + w.stride.height - 1) / w.stride.height * w.stride.height;
            for (std::int64_t ky = met - steps.taps; ky < met; ++ky)
                taps.emplace_back(ky, ky >= first && ky < end ? kernel_width - 1 : -1);
        }
        const auto dwords = static_cast<std::int64_t>(taps.size()) / steps.taps;
        // Weight `tap` of a lane in a block of a view, out of its dword.
        const auto weight_at = [&](std::size_t view, std::size_t b, std::int64_t tap, int i) {
            const auto at =
                (static_cast<std::int64_t>(view * packed.blocks.size() + b) * dwords + tap / steps.taps) * steps.lanes +
                i;
            std::int64_t element = at * steps.taps + tap % steps.taps;
            if (steps.halves_apart) element = with_halves_apart(element, 4 * steps.taps);
            const std::int32_t dword = packed.weights[static_cast<std::size_t>(element / steps.taps)];
            const auto part = element % steps.taps;
            return steps.taps == 4 ? static_cast<std::int8_t>(dword >> (8 * part))
                                   : static_cast<std::int16_t>(dword >> (16 * part));
        };
        for (std::size_t b = 0; b < packed.blocks.size(); ++b) {
            const depthwise_block& block = packed.blocks[b];
            if (packed.flat)
                wrong += block.first_channel != static_cast<std::int64_t>(b) * steps.lanes % s.input.channels;
            else wrong += block.first_channel + packed.lanes > s.input.channels;
            for (int i = 0; i < steps.lanes; ++i) {
                const int lane =
                    channel_of(steps.vectors, i / (steps.lanes / steps.vectors), i % (steps.lanes / steps.vectors));
                const std::int64_t o = (block.first_channel + lane) % s.input.channels * s.multiplier + block.multiple;
                const bool exists = lane < packed.lanes;
                if (exists) ++computed[static_cast<std::size_t>(o)];
                for (std::size_t v = 0; v < packed.views.size(); ++v) {
                    const depthwise_view& view = packed.views[v];
                    std::vector<std::int32_t> sums(static_cast<std::size_t>(kernel_height));
                    for (std::size_t t = 0; t < taps.size(); ++t) {
                        const auto& [ky, kx] = taps[t];
                        const std::int64_t tap = kx + view.shift;
                        const std::int8_t want = exists && kx >= 0 && tap >= view.taps.first && tap < view.taps.last
                                                     ? weight(ky, tap, o)
                                                     : std::int8_t{0};
                        if (want != 0) sums[static_cast<std::size_t>(ky)] += want;
                        wrong += weight_at(v, b, static_cast<std::int64_t>(t), i) != want;
                    }
                    for (std::int64_t ky = 0; ky < kernel_height; ++ky)
                        wrong +=
                            packed.row_sums[static_cast<std::size_t>(
                                (static_cast<std::int64_t>(v) * kernel_height + ky) * packed.lane_count +
                                static_cast<std::int64_t>(b) * steps.lanes + i)] != sums[static_cast<std::size_t>(ky)];
                }
            }
        }
        CAPTURE(s.input.width, s.input.channels, s.multiplier, kernel_height, kernel_width, packed.flat,
                static_cast<int>(layout));
        CHECK(wrong == 0);
        CHECK(static_cast<std::int64_t>(packed.blocks.size()) * steps.lanes == packed.lane_count);
        // Each view's moved kernel lies inside the image for all its pixels, and finds all their taps.
        CHECK(packed.views.front().taps == tap_range{0, kernel_width});
        CHECK(packed.views.front().shift == 0);
        for (std::size_t v = 1; v < packed.views.size(); ++v) {
            const depthwise_view& view = packed.views[v];
            int pixels = 0;
            for (std::int64_t x = 0; x < seen.output().width; ++x) {
                if (valid_taps(x, seen.input.width, kernel_width, w.stride.width, w.dilation.width, w.padding.left) !=
                    view.taps)
                    continue;
                ++pixels;
                const std::int64_t first = x * w.stride.width - w.padding.left + view.shift * w.dilation.width;
                wrong += first < 0 || first + dilated_kernel(kernel_width, w.dilation.width) > seen.input.width;
            }
            CHECK(pixels > 0);
            wrong += view.taps.first - view.shift < 0 || view.taps.last - view.shift > kernel_width;
        }
        CHECK(wrong == 0);
        const auto count = static_cast<std::int64_t>(packed.views.size()) * packed.lane_count;
        CHECK(static_cast<std::size_t>(count * dwords) == packed.weights.size());
        CHECK(static_cast<std::size_t>(count * kernel_height) == packed.row_sums.size());
        // Each output is in some vector.
        const std::int64_t extent = packed.flat ? row : s.input.channels;
        CHECK(packed.lanes == std::min<std::int64_t>(extent, steps.lanes));
        if (!packed.flat) {
            CHECK(*std::min_element(computed.begin(), computed.end()) == 1);
            CHECK(*std::max_element(computed.begin(), computed.end()) <= 2);
        } else {
            CHECK(s.window.stride.width == 1);
            CHECK(s.multiplier == 1);
            const auto vectors = (row + steps.lanes - 1) / steps.lanes;
            CHECK(static_cast<std::int64_t>(packed.blocks.size()) <= vectors);
            // Vectors of the row find their block again after the last.
            if (static_cast<std::int64_t>(packed.blocks.size()) < vectors)
                CHECK(static_cast<std::int64_t>(packed.blocks.size()) * steps.lanes % s.input.channels == 0);
        }
    }
    CHECK(apart_seen > 0);
}

}  // namespace
}  // namespace po2quant::test
