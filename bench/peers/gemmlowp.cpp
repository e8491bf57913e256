// gemmlowp behind an im2col buffer, both timed: the way that the project this one descends from sets itself against.
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include <public/gemmlowp.h>
#include <public/output_stages.h>

#include "peer.hpp"

namespace po2quant::bench {

peer gemmlowp_peer() {
    return {"im2col + gemmlowp", PO2QUANT_GEMMLOWP_VERSION, [](const peer_layer& l) -> runner {
                if (l.depthwise()) return std::nullopt;
                const extent2d out = output_extent(l.input, l.window);
                const auto [kh, kw] = l.window.kernel;
                const std::int64_t depth = kh * kw * l.input.channels;
                const std::int64_t pixels = l.input.batch * out.height * out.width;
                struct state {
                    gemmlowp::GemmContext context;
                    std::vector<std::uint8_t> weights;  // [outputs][depth], + 128
                    std::vector<std::uint8_t> columns;  // [pixels][depth]
                };
                const auto s = std::make_shared<state>();
                s->context.set_max_num_threads(1);
                for (std::int64_t o = 0; o < l.outputs; ++o)
                    for (std::int64_t ky = 0; ky < kh; ++ky)
                        for (std::int64_t kx = 0; kx < kw; ++kx)
                            for (std::int64_t c = 0; c < l.input.channels; ++c)
                                s->weights.push_back(static_cast<std::uint8_t>(l.weight(ky, kx, c, o) + 128));
                s->columns.resize(static_cast<std::size_t>(pixels * depth));
                return [s, l, out, kh = kh, kw = kw, depth, pixels] {
                    const window2d& w = l.window;
                    std::uint8_t* to = s->columns.data();
                    const auto channels = static_cast<std::size_t>(l.input.channels);
                    for (std::int64_t b = 0; b < l.input.batch; ++b)
                        for (std::int64_t y = 0; y < out.height; ++y)
                            for (std::int64_t x = 0; x < out.width; ++x)
                                for (std::int64_t ky = 0; ky < kh; ++ky)
                                    for (std::int64_t kx = 0; kx < kw; ++kx, to += channels) {
                                        const std::int64_t iy = y * w.stride.height - w.padding.top + ky;
                                        const std::int64_t ix = x * w.stride.width - w.padding.left + kx;
                                        if (iy < 0 || iy >= l.input.height || ix < 0 || ix >= l.input.width)
                                            std::memset(to, 0, channels);
                                        else
                                            std::memcpy(to,
                                                        l.codes + ((b * l.input.height + iy) * l.input.width + ix) *
                                                                      l.input.channels,
                                                        channels);
                                    }
                    using gemmlowp::MapOrder;
                    const auto n = [](std::int64_t v) { return static_cast<int>(v); };
                    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::RowMajor> lhs(s->weights.data(),
                                                                                          n(l.outputs), n(depth));
                    const gemmlowp::MatrixMap<const std::uint8_t, MapOrder::ColMajor> rhs(s->columns.data(), n(depth),
                                                                                          n(pixels));
                    gemmlowp::MatrixMap<std::uint8_t, MapOrder::ColMajor> result(
                        reinterpret_cast<std::uint8_t*>(l.output), n(l.outputs), n(pixels));
                    using bias_vector = gemmlowp::VectorMap<const std::int32_t, gemmlowp::VectorShape::Col>;
                    gemmlowp::OutputStageBiasAddition<bias_vector> bias{bias_vector(l.bias, n(l.outputs))};
                    // Its fixed-point stage would round twice; this one divides by the power of two.
                    const gemmlowp::OutputStageQuantizeDownInt32ToUint8Scale scale{0, 1, l.shift};
                    const gemmlowp::OutputStageClamp clamp{0, 96};
                    const gemmlowp::OutputStageSaturatingCastToUint8 cast;
                    const auto pipeline = std::make_tuple(bias, scale, clamp, cast);
                    gemmlowp::GemmWithOutputPipeline<std::uint8_t, std::uint8_t, gemmlowp::DefaultL8R8BitDepthParams>(
                        &s->context, lhs, rhs, &result, -128, 0, pipeline);
                };
            }};
}

}  // namespace po2quant::bench
